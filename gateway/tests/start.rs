//! What a start needs, and what is said when it lacks it.

use std::net::TcpListener;

use reqwest::Client;
use serde_json::Value;

use shared::event_stream::decode::Decoded;

use crate::support::{Exit, Gateway, eventually, soon};

fn assert_ends(exit: &Exit, code: i32, wanted: &[&str]) {
    assert_eq!(exit.status.code(), Some(code), "{exit:?}");
    for wanted in wanted {
        assert!(exit.errors.contains(wanted), "{wanted:?} is not in {}", exit.errors);
    }
    assert!(!exit.errors.contains("panicked"), "{}", exit.errors);
    assert_eq!(exit.output, "", "what is wrong goes to standard error");
}

#[tokio::test]
async fn a_taken_port_is_named_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let exit = Gateway::builder().args(&[flag, &address]).fail().await;
        assert_ends(&exit, 1, &[&address, "the port is taken", flag]);
        assert_eq!(exit.errors.trim_end().lines().count(), 1, "{}", exit.errors);
    }
}

#[tokio::test]
async fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let exit = Gateway::builder().config("[limits]\nmax_chanels = 3").fail().await;
    assert_ends(&exit, 2, &["config/gateway.toml", "\"limits.max_chanels\"", "\"limits.max_channels\""]);
    let exit = Gateway::builder().env("SSE_GATEWAY__LIMITS__MAX_CHANELS", "3").fail().await;
    assert_ends(&exit, 2, &["SSE_GATEWAY__LIMITS__MAX_CHANELS", "\"limits.max_channels\""]);
    let exit = Gateway::builder().env("SSE_GATEWAY_KEEP_ALIVE", "3s").fail().await;
    assert_ends(&exit, 2, &["SSE_GATEWAY_KEEP_ALIVE", "SSE_GATEWAY__KEEP_ALIVE"]);
    let exit = Gateway::builder().args(&["--lisen", "127.0.0.1:0"]).fail().await;
    assert_ends(&exit, 2, &["--lisen", "--listen"]);
}

#[tokio::test]
async fn everything_wrong_is_said_at_once() {
    let exit = Gateway::builder().config("nod = \"a\"\n[log]\nage = 3").env("SSE_GATEWAY__RETRY", "x").fail().await;
    assert_ends(&exit, 2, &["\"nod\"", "\"log.age\"", "SSE_GATEWAY__RETRY"]);
    assert!(exit.errors.lines().all(|line| line.starts_with("sse-gateway: ")), "{}", exit.errors);
}

#[tokio::test]
async fn a_wrong_value_is_refused_with_its_key() {
    for (config, wanted) in [
        ("keep_alive = \"20\"", "\"keep_alive\""),
        ("keep_alive = 20", "\"keep_alive\""),
        ("keep_alive = \"10ms\"", "\"keep_alive\""),
        ("listen = 8080", "\"listen\""),
        ("node = \"a b\"", "\"node\""),
        ("heartbeat_event = \"sse.ping\"", "\"heartbeat_event\""),
        ("[limits]\nmax_connections = 0", "\"limits.max_connections\""),
        ("[limits]\nmax_connections = -1", "\"limits.max_connections\""),
        ("[log]\nage = \"2s\"", "\"log.age\""),
        ("[drain]\ngrace = \"1h\"", "\"drain.grace\""),
        ("[cors]\nallowed_origins = [\"app.example.com\"]", "\"cors.allowed_origins\""),
        ("[telemetry]\nformat = \"xml\"", "\"telemetry.format\""),
        ("[redis]\nurl = \"127.0.0.1:6379\"", "\"redis.url\""),
        ("[redis]\nwait = \"2h\"", "\"redis.wait\""),
        ("[[channels]]\nprefix = \"a b\"", "\"channels[0].prefix\""),
        ("keep_alive = ", "config/gateway.toml"),
    ] {
        let exit = Gateway::builder().config(config).fail().await;
        assert_ends(&exit, 2, &["config/gateway.toml", wanted]);
    }
    for (key, value) in [
        ("SSE_GATEWAY__LISTEN", "nowhere"),
        ("SSE_GATEWAY__LISTEN", "127.0.0.1"),
        ("SSE_GATEWAY__INSECURE", "maybe"),
        ("SSE_GATEWAY__TELEMETRY__FILTER", "inof"),
    ] {
        let exit = Gateway::builder().env(key, value).fail().await;
        assert_ends(&exit, 2, &[value]);
    }
    let exit = Gateway::builder().args(&["--config", "nowhere.toml"]).fail().await;
    assert_ends(&exit, 2, &["nowhere.toml"]);
}

#[tokio::test]
async fn an_open_port_without_authentication_has_to_be_asked_for() {
    let exit = Gateway::builder().args(&["--listen", "0.0.0.0:0"]).fail().await;
    assert_ends(&exit, 2, &["0.0.0.0:0", "--insecure", "SSE_GATEWAY__INSECURE=true"]);
    let exit = Gateway::builder().env("SSE_GATEWAY__LISTEN", "0.0.0.0:0").fail().await;
    assert_ends(&exit, 2, &["0.0.0.0:0", "--insecure"]);

    let by_flag = Gateway::builder().args(&["--listen", "0.0.0.0:0", "--insecure"]);
    let by_env = Gateway::builder().env("SSE_GATEWAY__INSECURE", "true").args(&["--listen", "0.0.0.0:0"]);
    for builder in [by_flag, by_env] {
        let gateway = builder.start().await;
        let page = gateway.client.get(gateway.url("/")).send().await.unwrap();
        assert_eq!(page.status(), 404, "the demo page is for loopback");
        let mut stream = gateway.stream("/events?channel=a").await;
        stream.opened().await;
        assert_eq!(stream.headers.get("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn help_and_version() {
    let exit = Gateway::builder().args(&["--help"]).fail().await;
    assert_eq!((exit.status.code(), &*exit.errors), (Some(0), ""));
    for flag in [
        "--listen",
        "--admin-listen",
        "--config",
        "--insecure",
        "--redis-url",
        "--wait-for-redis",
        "--help",
        "--version",
    ] {
        assert!(exit.output.contains(flag), "{flag} is not in {}", exit.output);
    }
    let exit = Gateway::builder().args(&["--version"]).fail().await;
    assert_eq!((exit.status.code(), &*exit.errors), (Some(0), ""));
    assert_eq!(exit.output, format!("sse-gateway {}\n", env!("CARGO_PKG_VERSION")));
}

/// Not by what is wrong with it, nor by the help.
#[tokio::test]
async fn no_password_is_told() {
    let url = "redis://me:hunter2@127.0.0.1:99999";
    for builder in [
        Gateway::builder().args(&["--redis-url", url]),
        Gateway::builder().args(&[&format!("--redis-url={url}")]),
        Gateway::builder().env("SSE_GATEWAY__REDIS__URL", url),
        Gateway::builder().config(&format!("[redis]\nurl = \"{url}\"")),
    ] {
        let exit = builder.fail().await;
        assert_ends(&exit, 2, &["\"redis.url\""]);
        assert!(!exit.errors.contains("hunter2"), "{}", exit.errors);
    }
    for args in [["--redis-url", url, "--redis-urll"], ["--wait-for-redis", url, "--redis-url=redis://a"]] {
        let exit = Gateway::builder().args(&args).fail().await;
        assert_ends(&exit, 2, &["redis"]);
        assert!(!exit.errors.contains("hunter2"), "{}", exit.errors);
    }
    let exit = Gateway::builder().args(&[&format!("--redis-urll={url}")]).fail().await;
    assert_ends(&exit, 2, &["--redis-urll"]);
    assert!(!exit.errors.contains("hunter2"), "{}", exit.errors);
    let exit = Gateway::builder().env("SSE_GATEWAY__REDIS__URL", url).args(&["--help"]).fail().await;
    assert!(!exit.output.contains("hunter2"), "{}", exit.output);
}

/// Flags over environment over file over defaults; seen by the name of the node in `sse.open`, and by the ports.
#[tokio::test]
async fn layers_of_configuration() {
    async fn node(gateway: &Gateway) -> Value {
        gateway.stream("/events?channel=a").await.opened().await["node"].clone()
    }
    let made_up = Gateway::start().await;
    assert!(node(&made_up).await.as_str().is_some_and(|name| name.starts_with("node-")));
    let by_file = Gateway::builder().config("node = \"file\"").start().await;
    assert_eq!(node(&by_file).await, "file");
    let by_env = Gateway::builder().config("node = \"file\"").env("SSE_GATEWAY__NODE", "env").start().await;
    assert_eq!(node(&by_env).await, "env");

    let by_env = Gateway::builder().env("SSE_GATEWAY__LISTEN", "127.0.0.2:0").start().await;
    assert!(by_env.public.starts_with("127.0.0.2:"), "{}", by_env.public);
    let builder = Gateway::builder().env("SSE_GATEWAY__LISTEN", "127.0.0.2:0");
    let by_flag = builder.args(&["--listen", "127.0.0.3:0"]).start().await;
    assert!(by_flag.public.starts_with("127.0.0.3:"), "{}", by_flag.public);
    node(&by_flag).await;
}

/// A full disk, or a log shipper that died.
#[tokio::test]
async fn a_log_that_cannot_be_written_is_no_reason_to_end() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let quiet = Gateway::builder().env("SSE_GATEWAY__TELEMETRY__FILTER", "debug").config("[drain]\ngrace = \"0s\"");
    let gateway = quiet.log_to(full).start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(serde_json::json!({"channel": "a", "data": "x"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
    assert_eq!(gateway.stop().await.status.code(), Some(0));
    let last = stream.rest().await;
    assert!(matches!(last.as_slice(), [Decoded::Retry(_)]), "told when to come back: {last:?}");
}

#[tokio::test]
async fn a_closed_standard_output_is_no_reason_to_end() {
    // All of 127.0.0.0/8 is this machine. An address of this test's own, and a port that was free on another one: nobody
    // else binds the two together.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = format!("127.77.{high}.{low}:{}", elsewhere.local_addr().unwrap().port());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (mut child, _folder) = Gateway::builder().args(&["--listen", &address]).start_unseen(writer);
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/publish");
    let publish = || client.post(&url).json(&serde_json::json!({"channel": "a"})).send();
    let response = eventually("an answer", async || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        publish().await.ok()
    })
    .await;
    assert_eq!(response.status(), 200);
    let pid = child.id().unwrap().to_string();
    let kill = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert!(kill.success());
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0));
}
