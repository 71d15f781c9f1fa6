//! What a start needs, and what is said when it lacks it.

use std::net::TcpListener;

use reqwest::Client;
use testkit::{RedisServer, eventually};

use crate::support::{Program, program, serve};

/// Each command that needs Redis.
fn commands() -> [Program; 3] {
    let serve = program(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    [program(&["publish", "--channel", "a", "--data", "x"]), program(&["pipe", "--channel", "a"]), serve]
}

#[tokio::test]
async fn redis_is_not_there() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let error = format!(
        "sse-publisher: cannot reach Redis at {}: connection refused; start it, set another with --redis-url, or wait for it with \
         --wait-for-redis 30s",
        server.url()
    );
    for command in commands() {
        command.redis(&server).run().await.assert_fails(1, &[&error]);
    }
    // Waited for, and told all the same.
    for command in commands() {
        let command = command.args(&["--redis-url", &server.url(), "--wait-for-redis", "300ms"]);
        command.env("SSE_PUBLISHER__TELEMETRY__FILTER", "warn").run().await.assert_fails(1, &[&error]);
    }
}

#[tokio::test]
async fn wrong_passwords_are_not_told() {
    let server = RedisServer::builder().config("requirepass secret").start().await;
    let port = server.port();
    let url = format!("redis://:hunter2@127.0.0.1:{port}");
    for command in commands() {
        let error = format!(
            "sse-publisher: Redis at redis://:***@127.0.0.1:{port} refuses: user or password is wrong, or the server has none; see redis.url and \
             redis.password, and the user's permissions (ACL)"
        );
        command.args(&["--redis-url", &url]).run().await.assert_fails(1, &[&error]);
    }
    for command in commands() {
        let exit = command.redis(&server).run().await;
        assert_eq!(exit.code(), 1);
        assert!(exit.errors.contains("refuses: ") && exit.errors.contains("redis.password"), "{exit:?}");
    }
    let right = program(&["publish", "--channel", "a", "--data", "x"]).redis(&server);
    let exit = right.env("SSE_PUBLISHER__REDIS__PASSWORD", "secret").run().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
}

#[tokio::test]
async fn flags_with_passwords_are_not_told_either() {
    for args in [
        &["serve", "redis://me:hunter2@h"][..],
        &["serve", "--redis-ulr=redis://me:hunter2@h"],
        &["publish", "--channel", "a", "--data", "x", "--redis-url", "redis://me:hunter2@h:99999"],
        &["publish", "--channel", "a", "--data", "x", "--redis-url", "redis://me:hunter2@h?x"],
    ] {
        let exit = program(args).run().await;
        assert_eq!((exit.code(), &*exit.output), (2, ""), "{exit:?}");
        assert!(!exit.errors.contains("hunter2"), "{exit:?}");
    }
    // As redis-cli takes it, a user without a password is a password.
    for args in [
        &["publish", "--channel", "a", "--data", "x"][..],
        &["pipe", "--channel", "a"],
        &["cancel", "--channel", "a"],
        &["serve"],
        &["check", "--connect"],
        &["config"],
    ] {
        let exit = program(args).args(&["--redis-url", "redis://hunter2@127.0.0.1:1"]).run().await;
        let why = "a user has no password here: a password is written redis://:PASSWORD@host, and that of a user \
                   redis://USER:PASSWORD@host, or it goes into redis.password";
        let error = format!("sse-publisher: --redis-url: invalid value for \"redis.url\": {why}");
        exit.assert_fails(2, &[&error]);
    }
    let variable = |command: Program| command.env("SSE_PUBLISHER__REDIS__URL", "redis://me:hunter2@h/x");
    for command in commands() {
        let exit = variable(command).run().await;
        assert_eq!(exit.code(), 2);
        assert!(exit.errors.contains("SSE_PUBLISHER__REDIS__URL: ") && !exit.errors.contains("hunter2"), "{exit:?}");
    }
    let help = variable(program(&["publish", "--help"])).run().await;
    assert!(help.code() == 0 && !help.output.contains("hunter2"), "{help:?}");
}

#[tokio::test]
async fn a_redis_that_comes_late_is_waited_for() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let late = program(&["publish", "--channel", "a", "--data", "x", "--wait-for-redis", "1m"]).redis(&server).spawn();
    // Ports that nobody else takes: an address of this test's own, and ports that were free on another one.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let elsewhere = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [public, admin] = elsewhere.map(|other| format!("127.78.{high}.{low}:{}", other.local_addr().unwrap().port()));
    let service =
        serve(&server).args(&["--listen", &public, "--admin-listen", &admin, "--wait-for-redis", "1m"]).spawn();
    let client = Client::builder().no_proxy().build().unwrap();
    let ask = async |path: &str| {
        let response = client.get(format!("http://{admin}{path}")).send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    };
    let starting = Some((503, r#"{"ready":false,"reason":"starting"}"#.to_owned()));
    eventually("alive, not ready", async || (ask("/readyz").await == starting).then_some(())).await;
    assert_eq!(ask("/livez").await, Some((200, "ok\n".to_owned())), "nobody kills it while it waits");

    server.restart().await;
    let exit = late.exit().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
    let ready = Some((200, r#"{"ready":true}"#.to_owned()));
    eventually("ready", async || (ask("/readyz").await == ready).then_some(())).await;
    let publish = client.post(format!("http://{public}/channels/a/events")).body("x").send().await.unwrap();
    assert_eq!(publish.status(), 200);
    drop(service);
}

#[tokio::test]
async fn a_signal_ends_the_wait() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("127.79.{high}.{low}:{}", other.local_addr().unwrap().port());
    let running = serve(&server).args(&["--admin-listen", &admin, "--wait-for-redis", "1h"]).spawn();
    let client = Client::builder().no_proxy().build().unwrap();
    let live = || client.get(format!("http://{admin}/livez")).send();
    eventually("alive", async || live().await.ok()).await;
    running.signal("TERM").await;
    let exit = running.exit().await;
    assert_eq!((exit.code(), &*exit.output), (0, ""), "{exit:?}");
    assert!(exit.errors.contains("stopped before Redis was reached"), "{exit:?}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    // Found before Redis is asked, which is not there.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let command = program(&["serve"]).env("SSE_PUBLISHER__LISTEN", "127.0.0.1:0");
        let exit = command.env("SSE_PUBLISHER__ADMIN_LISTEN", "127.0.0.1:0").args(&[flag, &address]).run().await;
        let error = format!("sse-publisher: cannot listen on {address}: the port is taken; choose another with {flag}");
        exit.assert_fails(1, &[&error]);
    }
}

#[tokio::test]
async fn an_open_port_without_authentication_has_to_be_asked_for() {
    let exit = program(&["serve", "--listen", "0.0.0.0:0"]).run().await;
    exit.assert_fails(
        2,
        &["sse-publisher: --listen: invalid value for \"listen\": 0.0.0.0:0 lets everybody who reaches it publish, since there is \
           no authentication; set auth.jwks_file or another key of [auth], keep to 127.0.0.1, or say --insecure (SSE_PUBLISHER__INSECURE=true)"],
    );
    let server = RedisServer::start().await;
    let service = crate::support::Service::start(serve(&server).args(&["--listen", "0.0.0.0:0", "--insecure"])).await;
    assert!(service.public.starts_with("0.0.0.0:"), "{}", service.public);
}

#[tokio::test]
async fn unknown_keys_and_files() {
    for command in commands() {
        let exit = command.config("[redis]\nurll = 'x'\n[limits]\nmax_data = '3'").run().await;
        exit.assert_fails(
            2,
            &[
                "sse-publisher: config/publisher.toml: unknown key \"redis.urll\"; did you mean \"redis.url\"?",
                "sse-publisher: config/publisher.toml: invalid value for \"limits.max_data\": expected an integer from 0 to \
                 18446744073709551615, got \"3\"",
            ],
        );
    }
    for command in commands() {
        let exit = command.args(&["--config", "nowhere.toml"]).run().await;
        assert_eq!(exit.code(), 2);
        assert!(exit.errors.starts_with("sse-publisher: nowhere.toml: "), "{exit:?}");
    }
    for command in commands() {
        let exit = command.args(&["--wait-for-redis", "30"]).run().await;
        let error = "sse-publisher: --wait-for-redis: invalid value for \"redis.wait\": expected a duration such as \"20s\", got \"30\"";
        exit.assert_fails(2, &[error]);
    }
    let exit = program(&["serve"]).env("SSE_PUBLISHER_LISTEN", "127.0.0.1:0").run().await;
    assert_eq!(exit.code(), 2);
    assert!(exit.errors.contains("SSE_PUBLISHER__LISTEN"), "{exit:?}");
    let exit = program(&["serve"]).env("SSE_PUBLISHER__TELEMETRY__FILTER", "inof").run().await;
    assert_eq!(exit.code(), 2);
    assert!(exit.errors.contains("inof"), "{exit:?}");
}

#[tokio::test]
async fn help_and_version() {
    for (args, wanted) in [
        (&["--help"][..], &["publish", "pipe", "cancel", "listen", "serve", "SSE_PUBLISHER__REDIS__URL"][..]),
        (&["publish", "--help"], &["--channel", "--once", "Example: ", "--redis-url", "--wait-for-redis", "--config"]),
        (&["pipe", "--help"], &["--by", "--end-event", "--cancellable", "Example: "]),
        (&["cancel", "--help"], &["--channel", "--redis-url", "Example: "]),
        (&["listen", "--help"], &["--json", "--count", "--last-event-id", "Example: "]),
        (&["serve", "--help"], &["--listen", "--admin-listen", "--insecure", "Example: "]),
    ] {
        let exit = program(args).run().await;
        assert_eq!((exit.code(), &*exit.errors), (0, ""));
        for wanted in wanted {
            assert!(exit.output.contains(wanted), "{wanted} is not in {}", exit.output);
        }
    }
    let exit = program(&["--version"]).run().await;
    assert_eq!(exit.output, format!("sse-publisher {}\n", env!("CARGO_PKG_VERSION")));
    let exit = program(&[]).run().await;
    assert_eq!((exit.code(), &*exit.output), (2, ""), "{exit:?}");
}
