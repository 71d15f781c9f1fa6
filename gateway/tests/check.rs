//! `sse-gateway check` and `sse-gateway config`: what a start would read, said without starting.

use std::net::TcpListener;

use serde_json::{Value, json};
use testkit::{Certificates, RedisServer};

use crate::support::{Builder, Exit, Gateway};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

async fn check(builder: Builder) -> Exit {
    builder.args(&["check"]).fail().await
}

/// The same, and what Redis says.
async fn check_redis(builder: Builder) -> Exit {
    builder.args(&["check", "--connect"]).fail().await
}

fn assert_fine(exit: &Exit) {
    assert_eq!((exit.status.code(), &*exit.errors), (Some(0), ""), "{exit:?}");
    assert!(exit.output.starts_with("sse-gateway: the configuration is sound\n"), "{exit:?}");
}

/// With the places of a file of the test's own in the folder of the program.
fn assert_wrong(exit: &Exit, lines: &[String]) {
    assert_eq!((exit.status.code(), &*exit.output), (Some(2), ""), "{exit:?}");
    assert_eq!(exit.errors.lines().collect::<Vec<_>>(), lines, "{exit:?}");
}

#[tokio::test]
async fn what_a_start_would_read_is_sound() {
    let exit = check(Gateway::builder().config("retry = \"1s\"").args(&["--insecure"])).await;
    assert_fine(&exit);
    let from = "SSE_GATEWAY__ADMIN_LISTEN, --insecure, SSE_GATEWAY__LISTEN, config/gateway.toml, SSE_GATEWAY__DRAIN__WINDOW, \
                SSE_GATEWAY__LANES__DIRECT, SSE_GATEWAY__TELEMETRY__FILTER";
    let lines: Vec<_> = exit.output.lines().collect();
    assert_eq!(lines[1..], [format!("  from      {from}"), "  redis     none, the embedded broker".to_owned()]);
}

#[tokio::test]
async fn no_port_is_bound_and_no_server_asked() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = format!("redis://me:hunter2@{address}");
    let exit =
        check(Gateway::builder().args(&["--listen", &address, "--admin-listen", &address, "--redis-url", &url])).await;
    assert_fine(&exit);
    assert!(
        exit.output.ends_with(&format!("  redis     redis://me:***@{address}, not asked: --connect does\n")),
        "{exit:?}"
    );
}

#[tokio::test]
async fn every_problem_of_settings_and_files_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path());
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (short, jwks) = (path("short", "hunter2"), path("jwks.json", "{}"));
    let (key, certificate) = (certificates.key.display(), certificates.certificate.display());
    let config = format!(
        "retry = \"1ms\"\n[telemetry]\nfilter = \"inof\"\n[auth]\nsecret_file = '{short}'\njwks_file = '{jwks}'\n\
         operator_key_file = '/nowhere/key'\n[tls]\ncertificate = '{key}'\nkey = '{certificate}'\n\
         [redis]\nurl = \"rediss://h\"\nca_file = '{short}'"
    );
    let exit =
        check(Gateway::builder().config(&config).log_piped_as_configured().env("SSE_GATEWAY__KEEP_ALIVE", "2h")).await;
    let file = |key: &str, why: &str| format!("sse-gateway: config/gateway.toml: invalid value for \"{key}\": {why}");
    assert_wrong(
        &exit,
        &[
            file("retry", "1ms is not within 100ms and 1h"),
            "sse-gateway: SSE_GATEWAY__KEEP_ALIVE: invalid value for \"keep_alive\": 2h is not within 1s and 1h"
                .to_owned(),
            file(
                "telemetry.filter",
                "\"inof\": expected one of off, error, warn, info, debug, trace, or \"target=level\"",
            ),
            file("tls.certificate", &format!("{key}: there is no PEM certificate in it")),
            file("tls.key", &format!("{certificate}: there is no PEM private key in it")),
            file("redis.ca_file", &format!("{short}: it holds no PEM certificate")),
            file("auth.secret_file", &format!("{short}: it has 7 bytes, the least is 32")),
            file(
                "auth.jwks_file",
                &format!("{jwks}: it is no JWKS, a JSON object with an array \"keys\", at line 1 column 2"),
            ),
            file("auth.operator_key_file", "/nowhere/key: No such file or directory (os error 2)"),
        ],
    );
    assert!(!exit.errors.contains("hunter2"), "{exit:?}");

    // A key of another certificate shows only where both can be read.
    let other = tempfile::tempdir().unwrap();
    let other = Certificates::create(other.path()).key;
    let config = format!("[tls]\ncertificate = '{certificate}'\nkey = '{}'", other.display());
    let why = format!("{}: it is not the key of the certificate in {certificate}", other.display());
    assert_wrong(&check(Gateway::builder().config(&config)).await, &[file("tls.key", &why)]);
}

#[tokio::test]
async fn redis_is_looked_at_and_left_as_it_is() {
    let server = RedisServer::start().await;
    let exit = check_redis(Gateway::on(&server)).await;
    assert_fine(&exit);
    let version = server.cli(&["INFO", "server"]).await;
    let version = version.lines().find_map(|line| line.trim().strip_prefix("redis_version:")).unwrap();
    let said: Vec<_> = exit.output.lines().skip(2).map(str::trim_end).collect();
    let load = said[2]
        .strip_prefix("  fine      functions: none yet; a start loads version ")
        .unwrap_or_else(|| panic!("{exit:?}"));
    assert!(load.parse::<u64>().is_ok(), "{load}");
    let allowed =
        said[3].strip_prefix("  fine      permissions: all of ").and_then(|rest| rest.strip_suffix(" commands"));
    assert!(allowed.is_some_and(|count| count.parse::<usize>().unwrap() > 10), "{exit:?}");
    let buffer = "  warning   output buffer of subscribers: 33554432 8388608 60: a node that is a few seconds behind is cut off; \
                  set client-output-buffer-limit pubsub 256mb 64mb 60";
    assert_eq!(
        [said[0], said[1], said[4], said[5]],
        [
            &format!("  redis     {}", server.url()),
            &*format!("  fine      version {version}"),
            "  fine      memory: no maxmemory, so nothing is evicted",
            buffer,
        ]
    );
    assert_eq!(server.cli(&["DBSIZE"]).await, "0", "nothing was written");
    assert_eq!(server.cli(&["FUNCTION", "LIST"]).await, "", "nothing was loaded");
}

#[tokio::test]
async fn a_server_that_evicts_and_one_with_room() {
    let evicting = RedisServer::builder().config("maxmemory 100mb").config("maxmemory-policy allkeys-lru");
    let evicting = evicting.config("client-output-buffer-limit pubsub 256mb 64mb 60").start().await;
    let exit = check_redis(Gateway::on(&evicting)).await;
    assert_fine(&exit);
    assert!(
        exit.output.contains("\n  warning   memory: beyond maxmemory (104857600 bytes) it evicts (allkeys-lru)"),
        "{exit:?}"
    );
    assert!(exit.output.contains("\n  fine      output buffer of subscribers: 268435456 67108864 60"), "{exit:?}");
    evicting.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let exit = check_redis(Gateway::on(&evicting)).await;
    assert!(exit.output.contains("\n  fine      memory: noeviction"), "{exit:?}");
}

#[tokio::test]
async fn a_redis_that_will_not_do() {
    let exit = check_redis(Gateway::builder()).await;
    let expected = "sse-gateway: invalid value for \"redis.url\": it is not set, so there is no Redis to connect to";
    assert_wrong(&exit, &[expected.to_owned()]);

    let mut server = RedisServer::builder().config("requirepass hunter2").start().await;
    let refused = check_redis(Gateway::on(&server)).await;
    assert_eq!((refused.status.code(), &*refused.output), (Some(1), ""), "{refused:?}");
    assert!(refused.errors.contains(" refuses: "), "{refused:?}");
    server.kill().await;
    let away = check_redis(Gateway::on(&server).args(&["--wait-for-redis", "300ms"])).await;
    assert_eq!((away.status.code(), &*away.output), (Some(1), ""), "{away:?}");
    assert!(away.errors.contains("cannot reach Redis at redis://127.0.0.1:"), "{away:?}");
}

/// The value, and who said it, of each key.
async fn shown(builder: Builder) -> Value {
    let exit = builder.args(&["config", "--json"]).fail().await;
    assert_eq!((exit.status.code(), &*exit.errors), (Some(0), ""), "{exit:?}");
    assert!(!exit.output.contains("hunter2"), "{exit:?}");
    serde_json::from_str(&exit.output).unwrap()
}

#[tokio::test]
async fn every_value_and_who_said_it() {
    let config = format!(
        "node = \"a\"\n\n[redis]\nurl = \"redis://me:hunter2@h\"\n[auth]\noperator_key = \"{SECRET}\"\n[[channels]]\nprefix = \"chat:\"\n\
         history = 5"
    );
    let builder = Gateway::builder().config(&config).env("SSE_GATEWAY__REDIS__PASSWORD", "hunter2");
    let shown = shown(builder.args(&["--wait-for-redis", "5s"])).await;
    let file = |line: usize, value: Value| json!({"value": value, "from": "file", "name": "config/gateway.toml", "line": line});
    let hidden = |mut entry: Value| {
        entry["hidden"] = true.into();
        entry
    };
    for (key, expected) in [
        ("node", file(1, "a".into())),
        ("retry", json!({"value": "3s", "from": "default"})),
        ("demo", json!({"value": null, "from": "default"})),
        ("cors.allowed_origins", json!({"value": [], "from": "default"})),
        ("listen", json!({"value": "127.0.0.1:0", "from": "environment", "name": "SSE_GATEWAY__LISTEN"})),
        ("redis.wait", json!({"value": "5s", "from": "flag", "name": "--wait-for-redis"})),
        ("redis.url", hidden(file(4, "redis://me:***@h".into()))),
        (
            "redis.password",
            json!({"value": "***", "from": "environment", "name": "SSE_GATEWAY__REDIS__PASSWORD", "hidden": true}),
        ),
        ("auth.operator_key", hidden(file(6, "***".into()))),
        ("channels[0].prefix", file(8, "chat:".into())),
        ("channels[0].history", file(9, 5.into())),
        ("channels[0].ttl", file(7, Value::Null)),
        ("embedded.max_keys", json!({"value": shown["embedded.max_keys"]["value"], "from": "default"})),
    ] {
        assert_eq!(shown[key], expected, "{key}");
    }
    assert!(shown["embedded.max_keys"]["value"].is_number());
}

#[tokio::test]
async fn what_it_shows_is_a_configuration_that_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = "heartbeat_event = \"a\\\"b\\\\c\"\n[limits]\nmax_data = 7\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n[redis]\n\
                  url = \"redis://h\"\n[[channels]]\nprefix = \"chat:\"\nhistory = 5\n[[channels]]\nprefix = \"\"\nephemeral = true";
    let exit = Gateway::builder().config(config).args(&["config"]).fail().await;
    assert_eq!((exit.status.code(), &*exit.errors), (Some(0), ""), "{exit:?}");
    let line =
        |begin: &str| exit.output.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{exit:?}"));
    assert_eq!(line("retry").split_once('#').unwrap(), (&*format!("{:45}", "retry = \"3s\""), " default"));
    assert!(line("max_data").ends_with(" # config/gateway.toml:3"), "{exit:?}");
    assert!(line("# node is not set").ends_with(" # default"), "{exit:?}");
    let path = folder.path().join("shown.toml");
    std::fs::write(&path, &exit.output).unwrap();
    let values = |shown: Value| -> Vec<(String, Value)> {
        shown.as_object().unwrap().iter().map(|(key, entry)| (key.clone(), entry["value"].clone())).collect()
    };
    let original = values(shown(Gateway::builder().config(config)).await);
    let again = values(shown(Gateway::builder().args(&["--config", path.to_str().unwrap()])).await);
    assert_eq!(original, again);
}

#[tokio::test]
async fn a_wrong_configuration_is_not_shown() {
    for args in [&["config"][..], &["config", "--json"], &["check"]] {
        let exit = Gateway::builder().config("retry = \"x\"").args(args).fail().await;
        let why = "invalid value for \"retry\": expected a duration such as \"20s\", got \"x\"";
        assert_wrong(&exit, &[format!("sse-gateway: config/gateway.toml: {why}")]);
    }
    let exit = Gateway::builder().args(&["chekc"]).fail().await;
    assert_eq!(exit.status.code(), Some(2));
    assert!(exit.errors.contains("'check'"), "{exit:?}");
}

/// Flags count before the command as well as after it.
#[tokio::test]
async fn flags_stand_where_they_like() {
    for args in [&["--wait-for-redis", "5s", "config", "--json"][..], &["config", "--json", "--wait-for-redis", "5s"]] {
        let exit = Gateway::builder().args(args).fail().await;
        let shown: Value = serde_json::from_str(&exit.output).unwrap_or_else(|_| panic!("{exit:?}"));
        assert_eq!(shown["redis.wait"]["value"], "5s");
    }
}
