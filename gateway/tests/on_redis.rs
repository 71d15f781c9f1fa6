//! Two nodes on one Redis: what is published by anybody, anywhere, reaches every node that has somebody there; and Redis
//! holds no more than it must.

use std::process::Stdio;

use serde_json::{Value, json};
use testkit::{RedisServer, eventually, soon};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{Gateway, Stream};

/// What `sse-publisher` prints, given `input`.
async fn publisher(redis: &RedisServer, args: &[&str], input: &str) -> String {
    let mut command = Command::new(testkit::binary("publisher", "sse-publisher"));
    command.args(args).args(["--redis-url", &redis.url()]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = soon("the end of sse-publisher", child.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn open(gateway: &Gateway, path: &str) -> Stream {
    let mut stream = gateway.stream(path).await;
    stream.opened().await;
    stream
}

async fn numbers(redis: &RedisServer, channel: &str) -> String {
    redis.cli(&["PUBSUB", "NUMSUB", channel]).await.lines().last().unwrap().to_owned()
}

#[tokio::test]
async fn whatever_is_published_arrives_on_both_nodes_once_and_in_order() {
    let redis = RedisServer::start().await;
    let (one, two) = (Gateway::on(&redis).start().await, Gateway::on(&redis).start().await);
    let mut streams = [open(&one, "/events?channel=user:42").await, open(&two, "/events?channel=user:42").await];

    assert_eq!(redis.cli(&["PUBLISH", "sse:user:42", "hello"]).await, "2");
    let answer = redis.cli(&["FCALL", "sse_publish", "1", "sse:user:42", r#"{"event":"n","data":"x"}"#]).await;
    assert_eq!(answer.lines().last(), Some("2"), "{answer}");
    let receipt =
        publisher(&redis, &["publish", "--channel", "user:42", "--event", "n", "--data", "한글\ny"], "").await;
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["receivers"], 2);
    publisher(&redis, &["pipe", "--channel", "user:42"], "a\nb\n").await;

    for stream in &mut streams {
        let mut heard = Vec::new();
        while heard.len() < 5 {
            heard.push(stream.event().await.unwrap());
        }
        let texts: Vec<_> = heard.iter().map(|event| (event.event.as_str(), event.data.as_str())).collect();
        let expected = [("message", "hello"), ("n", "x"), ("n", "한글\ny"), ("message", "a"), ("message", "b")];
        assert_eq!(texts, expected);
        assert_eq!(heard[2].id, receipt["id"], "a receipt's id is the one that streams say");
        assert_eq!(stream.rest().await.len(), 1, "the end of the channel ends the stream, and nothing comes twice");
    }
}

#[tokio::test]
async fn redis_knows_the_channels_with_a_connection_and_no_others() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let channels = async || {
        let mut names: Vec<_> = redis.cli(&["PUBSUB", "CHANNELS", "sse:*"]).await.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(channels().await, Vec::<String>::new());
    let both = open(&gateway, "/events?channel=a&channel=b").await;
    let another = open(&gateway, "/events?channel=b&channel=c").await;
    assert_eq!(channels().await, ["sse:a", "sse:b", "sse:c"]);
    assert_eq!(numbers(&redis, "sse:b").await, "1", "a node subscribes once");
    drop(both);
    eventually("a is left", async || (channels().await == ["sse:b", "sse:c"]).then_some(())).await;
    drop(another);
    eventually("nothing is left", async || channels().await.is_empty().then_some(())).await;
    assert_eq!(redis.cli(&["PUBSUB", "NUMPAT"]).await, "0");
    assert_eq!(redis.cli(&["KEYS", "sse:*"]).await, "", "reading leaves nothing behind");
}

#[tokio::test]
async fn many_channels_at_once_are_subscribed_in_batches() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let open_one = async |group: usize| {
        let query: Vec<_> = (0..60).map(|i| format!("channel=c:{group}:{i}")).collect();
        open(&gateway, &format!("/events?{}", query.join("&"))).await
    };
    let mut streams = futures_util::future::join_all((0..25).map(open_one)).await;
    assert_eq!(redis.cli(&["PUBSUB", "CHANNELS", "sse:*"]).await.lines().count(), 1_500);
    for (group, stream) in streams.iter_mut().enumerate() {
        redis.cli(&["PUBLISH", &format!("sse:c:{group}:59"), &group.to_string()]).await;
        assert_eq!(stream.data().await, Some(group.to_string()));
    }
    // SUBSCRIBE with a thousand names and more would make Redis queue as many answers.
    let largest = redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    assert!(largest.contains("sub=1501"), "{largest}");
}

#[tokio::test]
async fn any_bytes_from_anybody() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    let forged = "\u{1e}99-0 0-0 other no line";
    for payload in [r#"{"event":"sse.gap","data":"x"}"#, r#"{"data":"a","more":1}"#, forged, "not json", "1.50"] {
        assert_eq!(redis.cli(&["PUBLISH", "sse:a", payload]).await, "1");
        let event = stream.event().await.unwrap();
        let text = payload.trim_matches('\u{1e}');
        assert_eq!((event.event.as_str(), event.data.trim_matches('\u{1e}')), ("message", text));
    }
    let large = "x".repeat(3 << 20);
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &redis.port().to_string(), "-x", "PUBLISH", "sse:a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(large.as_bytes()).await.unwrap();
    drop(stdin);
    soon("redis-cli", child.wait()).await.unwrap();
    assert_eq!(stream.data().await.map(|data| data.len()), Some(large.len()));
    gateway.metric_becomes("sse_gateway_broker_up", 1.0).await;
}

#[tokio::test]
async fn messages_written_by_hand_end_no_session() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut stream = open(&gateway, "/events?channel=a&channel=b").await;
    let clock = redis.cli(&["GET", "sse.clock"]).await;
    let epoch = clock.split(' ').nth(1).unwrap();
    for round in 0..20 {
        let (other, late) = ("\u{1e}1-0 0-0 x\nhello".to_owned(), format!("\u{1e}1-0 0-0 {epoch}\nhello"));
        for forged in [other, late] {
            redis.cli(&["PUBLISH", "sse:a", &forged]).await;
        }
        redis.cli(&["FCALL", "sse_publish", "1", "sse:b", &round.to_string()]).await;
        assert_eq!(stream.data().await, Some(round.to_string()));
    }
    for reason in ["epoch", "order", "failed", "closed"] {
        let ended = format!("sse_gateway_broker_sessions_ended_total{{reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&ended).await, 0.0, "{reason}");
    }
    // Of the right epoch and from the future: what really comes is behind it, until the next session.
    redis.cli(&["PUBLISH", "sse:a", &format!("\u{1e}9007199254740991-5 0-0 {epoch}\nfuture")]).await;
    redis.cli(&["FCALL", "sse_publish", "1", "sse:a", "behind"]).await;
    gateway.metric_becomes("sse_gateway_broker_sessions_ended_total{reason=\"order\"}", 1.0).await;
    gateway.metric_becomes("sse_gateway_broker_up", 1.0).await;
    let mut fresh = open(&gateway, "/events?channel=b").await;
    redis.cli(&["FCALL", "sse_publish", "1", "sse:b", "heard"]).await;
    assert_eq!(fresh.data().await.as_deref(), Some("heard"));
}

#[tokio::test]
async fn prefixes_keep_deployments_apart() {
    let redis = RedisServer::start().await;
    let one = Gateway::on(&redis).env("SSE_GATEWAY__REDIS__PREFIX", "one").start().await;
    let two = Gateway::on(&redis).env("SSE_GATEWAY__REDIS__PREFIX", "two").start().await;
    let (mut a, mut b) = (open(&one, "/events?channel=a").await, open(&two, "/events?channel=a").await);
    assert_eq!(redis.cli(&["PUBLISH", "one:a", "for one"]).await, "1");
    assert_eq!(redis.cli(&["FCALL", "sse_publish", "1", "two:a", "for two"]).await.lines().last(), Some("1"));
    assert_eq!(a.data().await.as_deref(), Some("for one"));
    assert_eq!(b.data().await.as_deref(), Some("for two"));
}

#[tokio::test]
async fn the_longest_name_of_a_node() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__NODE", &"n".repeat(64)).start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    assert_eq!(stream.opened().await["node"], "n".repeat(64));
}

#[tokio::test]
async fn on_redis_a_gateway_publishes_nothing_itself() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    for path in ["/publish", "/channels/a/events", "/api/sse/notify?userId=1&message=x", "/"] {
        let response = gateway.client.post(gateway.url(path)).json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn valkey_carries_events_too() {
    let redis = RedisServer::builder().valkey().start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut stream = open(&gateway, "/api/sse/connect?userId=42").await;
    redis.cli(&["FCALL", "sse_publish", "1", "sse:user:42", r#"{"event":"notification","data":"hi"}"#]).await;
    let event = stream.event().await.unwrap();
    assert_eq!((event.event.as_str(), event.data.as_str()), ("notification", "hi"));
}

#[tokio::test]
async fn a_channel_that_the_nodes_user_may_not_read_harms_no_other() {
    let acl = "user gw on >pw ~* &sse.* &sse:user:* +@all";
    let redis = RedisServer::builder().config(acl).start().await;
    let url = redis.url().replace("redis://", "redis://gw:pw@");
    let open_timeout = ("SSE_GATEWAY__LIMITS__OPEN_TIMEOUT", "500ms");
    let gateway = Gateway::builder().args(&["--redis-url", &url]).env(open_timeout.0, open_timeout.1).start().await;
    let mut allowed = open(&gateway, "/events?channel=user:1").await;
    for path in ["/events?channel=forbidden", "/events?channel=user:1&channel=other"] {
        let mut refused = gateway.stream(path).await;
        assert_eq!((refused.status, refused.rest().await.len()), (200, 1), "retry, and the end");
    }
    let mut later = open(&gateway, "/events?channel=user:2").await;
    redis.cli(&["PUBLISH", "sse:user:1", "one"]).await;
    redis.cli(&["PUBLISH", "sse:user:2", "two"]).await;
    assert_eq!(allowed.data().await.as_deref(), Some("one"));
    assert_eq!(later.data().await.as_deref(), Some("two"));
    assert_eq!(gateway.metric("sse_gateway_broker_sessions_ended_total{reason=\"failed\"}").await, 0.0);
}

#[tokio::test]
async fn a_server_that_refuses_what_is_needed_is_told_at_the_start_and_no_secret_with_it() {
    for (rights, config, wanted) in [
        ("+@all", "rename-command HELLO \"\"", "unknown command 'HELLO'"),
        ("+@all -multi", "maxclients 100", "NOPERM"),
    ] {
        let user = format!("user gw on >hunter2 ~* &* {rights}");
        let server = RedisServer::builder().config(&user).config(config).start().await;
        let url = server.url().replace("redis://", "redis://gw:hunter2@");
        let exit = Gateway::builder().args(&["--redis-url", &url]).fail().await;
        assert_eq!(exit.status.code(), Some(1), "{exit:?}");
        assert!(exit.errors.contains(wanted), "{}", exit.errors);
        assert!(!exit.errors.contains("hunter2") && !exit.errors.contains("panicked"), "{}", exit.errors);
    }
}

#[tokio::test]
async fn certificates_that_are_not_there_are_the_configurations_fault() {
    let missing = Gateway::builder().args(&["--redis-url", "rediss://127.0.0.1:1"]);
    let exit = missing.env("SSE_GATEWAY__REDIS__CA_FILE", "none.pem").fail().await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    assert_eq!(exit.errors, "sse-gateway: redis.ca_file: none.pem: No such file or directory (os error 2)\n");
}

#[tokio::test]
async fn user_password_and_tls() {
    let redis =
        RedisServer::builder().tls().config("user default off").config("user gw on >s3cret ~* &* +@all").start().await;
    let url = redis.url().replace("rediss://", "rediss://gw@");
    let ca = redis.ca_file().to_str().unwrap().to_owned();
    let with = |password: &str| {
        let gateway = Gateway::builder().args(&["--redis-url", &url]).env("SSE_GATEWAY__REDIS__CA_FILE", &ca);
        gateway.env("SSE_GATEWAY__REDIS__PASSWORD", password)
    };
    let gateway = with("s3cret").start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    let auth = ["--user", "gw", "-a", "s3cret", "--no-auth-warning"];
    redis.cli(&[&auth[..], &["PUBLISH", "sse:a", "sealed"]].concat()).await;
    assert_eq!(stream.data().await.as_deref(), Some("sealed"));

    let exit = with("wr0ng").fail().await;
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.errors.contains("user or password is wrong"), "{}", exit.errors);
    assert!(!exit.errors.contains("wr0ng") && !exit.errors.contains("s3cret"), "{}", exit.errors);

    let exit =
        Gateway::builder().args(&["--redis-url", &url]).env("SSE_GATEWAY__REDIS__PASSWORD", "s3cret").fail().await;
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.errors.contains("certificate"), "{}", exit.errors);
}
