//! `sse-gateway check --connect`: what it says of a Redis is what a start there comes to.

use shared::redis::functions::TEXT;
use testkit::{RedisServer, eventually};

use crate::check::{assert_fine, assert_wrong};
use crate::support::{Builder, Exit, Gateway};

/// What is said of the configuration, and of Redis.
async fn check_redis(builder: Builder) -> Exit {
    builder.args(&["check", "--connect"]).fail().await
}

/// Of the functions.
fn our_version() -> &'static str {
    TEXT.lines().find_map(|line| line.strip_prefix("-- version ")).unwrap()
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
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
    let said_there = said[2..].join("\n");
    assert!(
        manual.contains(&format!("\n{said_there}\n```\n")),
        "docs/configuration.md shows something else:\n{said_there}"
    );
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

/// Where the functions have to be loaded a start ends with what the server says; where they are there no session begins.
#[tokio::test]
async fn a_server_that_takes_no_writes() {
    let version = our_version();
    let snapshots = RedisServer::builder().config("save 3600 1").start().await;
    // What is to be renamed to a folder's name cannot be.
    std::fs::create_dir(snapshots.folder().join("dump.rdb")).unwrap();
    assert_eq!(snapshots.cli(&["BGSAVE"]).await, "Background saving started");
    eventually("the snapshot failed", async || {
        snapshots.cli(&["INFO", "persistence"]).await.contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
    let lonely = RedisServer::builder().config("min-replicas-to-write 1").start().await;
    for (server, code, setting, [off, on]) in [
        (&lonely, "NOREPLICAS Not enough good replicas to write", "min-replicas-to-write", ["0", "1"]),
        (&snapshots, "MISCONF Redis is configured to save RDB snapshots", "stop-writes-on-bgsave-error", ["no", "yes"]),
    ] {
        let absent = check_redis(Gateway::on(server)).await;
        assert_eq!((absent.status.code(), &*absent.errors), (Some(1), ""), "{absent:?}");
        let load = format!(
            "\n  error     functions: none yet, and a start cannot load version {version}: FUNCTION LOAD REPLACE ({code}"
        );
        assert!(absent.output.contains(&load), "{absent:?}");
        assert!(absent.output.contains("\n  fine      permissions: all of "), "{absent:?}");
        assert_eq!(absent.output.matches(code).count(), 1, "it is said once: {absent:?}");
        let start = Gateway::on(server).fail().await;
        assert_eq!(start.status.code(), Some(1), "{start:?}");
        assert!(start.errors.contains(&format!(" will not do: {code}")), "{start:?}");

        assert_eq!(server.cli(&["CONFIG", "SET", setting, off]).await, "OK");
        assert_eq!(server.cli(&["FUNCTION", "LOAD", TEXT]).await, "sse");
        assert_fine(&check_redis(Gateway::on(server)).await);
        assert_eq!(server.cli(&["CONFIG", "SET", setting, on]).await, "OK");
        assert!(server.cli(&["FCALL", "sse_clock", "1", "sse.clock"]).await.starts_with(&code[..7]));
        let there = check_redis(Gateway::on(server)).await;
        assert_eq!((there.status.code(), &*there.errors), (Some(1), ""), "{there:?}");
        let writing = there.output.lines().find(|line| line.starts_with("  error     writing: "));
        assert!(
            writing.is_some_and(|line| line.contains(code) && line.ends_with(", and no gateway becomes ready")),
            "{there:?}"
        );
        assert_eq!(there.output.matches(code).count(), 1, "it is said once: {there:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_full() {
    let version = our_version();
    let server = RedisServer::builder().config("maxmemory-policy noeviction").start().await;
    let full = async |is_full: bool| {
        assert_eq!(server.cli(&["CONFIG", "SET", "maxmemory", if is_full { "1" } else { "0" }]).await, "OK");
    };
    full(true).await;
    let absent = check_redis(Gateway::on(&server)).await;
    assert_eq!((absent.status.code(), &*absent.errors), (Some(1), ""), "{absent:?}");
    let load = format!(
        "\n  error     functions: none yet, and a start cannot load version {version}: FUNCTION LOAD REPLACE (OOM "
    );
    assert!(absent.output.contains(&load), "{absent:?}");
    assert_eq!(absent.output.matches("OOM").count(), 1, "it is said once: {absent:?}");
    let start = Gateway::on(&server).fail().await;
    assert_eq!(start.status.code(), Some(1), "{start:?}");
    assert!(start.errors.contains(" will not do: OOM "), "{start:?}");

    full(false).await;
    assert_eq!(server.cli(&["FUNCTION", "LOAD", TEXT]).await, "sse");
    full(true).await;
    let there = check_redis(Gateway::on(&server)).await;
    assert_fine(&there);
    let warning = "\n  warning   writing: OOM command not allowed when used memory > 'maxmemory': durable events are refused until \
                   there is room\n";
    assert!(there.output.contains(warning), "{there:?}");
    Gateway::on(&server).start().await;
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
