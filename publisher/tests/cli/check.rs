//! `sse-publisher check` and `sse-publisher config`: what `serve` would read, said without serving.

use serde_json::{Value, json};
use testkit::{RedisCluster, RedisServer};

use crate::support::{Exit, program};

const ACL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/redis-acl.conf");
const LIBRARY: &str = include_str!("../../../shared/src/redis/sse.lua");

#[tokio::test]
async fn what_serve_would_read() {
    let exit = program(&["check", "--listen", "127.0.0.1:1"]).config("[limits]\nmax_data = 7").run().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
    assert_eq!(
        exit.output,
        "sse-publisher: the configuration is sound\n  from      --listen, config/publisher.toml\n  redis     \
         redis://127.0.0.1:6379, not asked: --connect does\n"
    );
    let wrong = program(&["check"]).config("[limits]\nmax_data = 0\n[auth]\nsecret_file = '/nowhere'").run().await;
    wrong.assert_fails(
        2,
        &[
            "sse-publisher: config/publisher.toml: invalid value for \"limits.max_data\": 0 is not within 1 and 16777216",
            "sse-publisher: config/publisher.toml: invalid value for \"auth.secret_file\": /nowhere: No such file or directory \
             (os error 2)",
        ],
    );
    let none = program(&["check"]).env("SSE_PUBLISHER__REDIS__URL", "").run().await;
    none.assert_fails(
        2,
        &["sse-publisher: SSE_PUBLISHER__REDIS__URL: invalid value for \"redis.url\": a Redis URL is redis://[user[:password]@]host[:port], \
          with rediss:// for TLS"],
    );
}

#[tokio::test]
async fn every_value_and_who_said_it() {
    let command = program(&["config", "--json", "--insecure"]).config("[chat]\nupstream = 'https://h/v1?key=hunter2'");
    let exit = command.env("SSE_PUBLISHER__CHAT__KEY", "hunter2").run().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
    assert!(!exit.output.contains("hunter2"), "{exit:?}");
    let shown: Value = serde_json::from_str(&exit.output).unwrap();
    for (key, expected) in [
        ("insecure", json!({"value": true, "from": "flag", "name": "--insecure"})),
        (
            "chat.upstream",
            json!({"value": "https://h/v1?***", "from": "file", "name": "config/publisher.toml", "line": 2, "hidden": true}),
        ),
        (
            "chat.key",
            json!({"value": "***", "from": "environment", "name": "SSE_PUBLISHER__CHAT__KEY", "hidden": true}),
        ),
        ("redis.url", json!({"value": "redis://127.0.0.1:6379", "from": "default"})),
    ] {
        assert_eq!(shown[key], expected, "{key}");
    }
    let exit = program(&["config"]).run().await;
    assert!(exit.output.contains("\n[redis]\n") && exit.output.contains("\n# password is not set "), "{exit:?}");
}

#[tokio::test]
async fn redis_is_looked_at_and_left_as_it_is() {
    let mut server = RedisServer::start().await;
    let exit = program(&["check", "--connect"]).redis(&server).run().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
    assert!(exit.output.contains("\n  fine      functions: none yet; a start loads version "), "{exit:?}");
    assert!(exit.output.ends_with("\n  fine      memory: no maxmemory, so nothing is evicted\n"), "{exit:?}");
    assert_eq!(server.cli(&["DBSIZE"]).await, "0", "nothing was written");
    assert_eq!(server.cli(&["FUNCTION", "LIST"]).await, "", "nothing was loaded");
    server.kill().await;
    let exit = program(&["check", "--connect"]).redis(&server).run().await;
    assert_eq!(exit.code(), 1);
    assert!(exit.errors.starts_with("sse-publisher: cannot reach Redis at "), "{exit:?}");
}

/// Each right of the file is one that a check misses, and so one that is needed.
#[tokio::test]
async fn every_right_that_lacks_is_named() {
    let server = RedisServer::builder().config(&format!("aclfile \"{ACL}\"")).start().await;
    let admin = async |command: &[&str]| {
        let user = ["--user", "admin", "--pass", "ADMIN-PASSWORD", "--no-auth-warning"];
        server.cli(&[&user[..], command].concat()).await
    };
    assert_eq!(admin(&["FUNCTION", "LOAD", LIBRARY]).await, "sse");
    let check = async || -> Exit {
        let url = server.url().replace("redis://", "redis://sse-publisher@");
        let command = program(&["check", "--connect", "--redis-url", &url]);
        command.env("SSE_PUBLISHER__REDIS__PASSWORD", "PUBLISHER-PASSWORD").run().await
    };
    let all = check().await;
    assert_eq!((all.code(), &*all.errors), (0, ""), "{all:?}");
    assert!(
        all.output.contains("\n  fine      permissions: all of ") && !all.output.contains("  warning  "),
        "{all:?}"
    );

    let file = std::fs::read_to_string(ACL).unwrap();
    let rules = file.lines().find_map(|line| line.strip_prefix("user sse-publisher on ")).unwrap();
    for command in rules.split(' ').filter_map(|rule| rule.strip_prefix('+')) {
        admin(&["ACL", "SETUSER", "sse-publisher", &format!("-{command}")]).await;
        let lacks = check().await;
        let named = lacks.output.contains("  warning  ") || lacks.output.contains("  error    ") || lacks.code() == 1;
        assert!(named, "{command}: {lacks:?}");
        let name = command.split('|').next().unwrap();
        assert!(format!("{}{}", lacks.output, lacks.errors).to_lowercase().contains(name), "{command}: {lacks:?}");
        admin(&["ACL", "SETUSER", "sse-publisher", &format!("+{command}")]).await;
    }
    assert_eq!(check().await.output, all.output, "it is as it was");
}

#[tokio::test]
async fn of_a_cluster_each_server_is_asked() {
    let all = RedisCluster::start().await;
    for (server, may_not) in all.servers.iter().zip(["-spublish", "-pubsub|shardnumsub", "+ping"]) {
        let user = ["ACL", "SETUSER", "me", "on", ">hunter2", "~*", "&*", "+@all", may_not];
        assert_eq!(server.cli(&user).await, "OK");
    }
    let check = async |url: &str| {
        let check = program(&["check", "--connect", "--redis-url", url]);
        check.env("SSE_PUBLISHER__REDIS__PARTITIONS", "16").run().await
    };
    let fine = check(&all.url()).await;
    assert_eq!((fine.code(), fine.output.matches("permissions: all of").count()), (0, 3), "{fine:?}");
    let exit = check(&all.url_as("me:hunter2@")).await;
    let line = |index: usize, what: &str| format!("redis://127.0.0.1:{}: {what}", all.servers[index].port());
    for line in [
        line(0, "publishing: SPUBLISH sse:{0}:check"),
        line(1, "batches: PUBSUB SHARDNUMSUB sse:{0}:check"),
        line(2, "permissions: all of"),
    ] {
        assert!(exit.output.contains(&line), "{line}: {exit:?}");
    }
    assert_eq!(exit.code(), 1, "{exit:?}");
}
