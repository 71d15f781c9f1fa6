//! A gateway and a publisher on a real server with the users of `config/redis-acl.conf`: all that they do works, and what
//! they need not do is refused.

use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use testkit::{RedisServer, RedisServerBuilder, TokenKey, eventually, soon};

use crate::support::{Gateway, Service, Stream};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/redis-acl.conf");
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/src/redis/sse.lua");

/// A server with these users, whose functions the administrator has loaded.
async fn server(builder: RedisServerBuilder) -> RedisServer {
    let server = builder.config(&format!("aclfile \"{FILE}\"")).start().await;
    let library = std::fs::read_to_string(LIBRARY).unwrap();
    assert_eq!(admin(&server, &["FUNCTION", "LOAD", &library]).await, "sse");
    server
}

async fn by(server: &RedisServer, user: &str, password: &str, command: &[&str]) -> String {
    server.cli(&[&["--user", user, "--pass", password, "--no-auth-warning"], command].concat()).await
}

async fn admin(server: &RedisServer, command: &[&str]) -> String {
    by(server, "admin", "ADMIN-PASSWORD", command).await
}

fn url(server: &RedisServer, user: &str) -> String {
    server.url().replace("redis://", &format!("redis://{user}@"))
}

async fn gateway(server: &RedisServer) -> Gateway {
    let builder = Gateway::builder().args(&["--redis-url", &url(server, "sse-gateway")]);
    builder.env("SSE_GATEWAY__REDIS__PASSWORD", "GATEWAY-PASSWORD").start().await
}

async fn service(server: &RedisServer) -> Service {
    Service::start(&url(server, "sse-publisher"), &[("SSE_PUBLISHER__REDIS__PASSWORD", "PUBLISHER-PASSWORD")]).await
}

async fn data(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.push(stream.data().await.unwrap());
    }
    heard
}

#[tokio::test]
async fn the_documents_show_the_file() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let (manual, file) = (std::fs::read_to_string(manual).unwrap(), std::fs::read_to_string(FILE).unwrap());
    assert!(manual.contains(&format!("```text\n{file}```\n")), "they differ");
}

#[tokio::test]
async fn all_that_a_gateway_and_a_publisher_do_works_on_redis() {
    all_works(RedisServer::builder()).await;
}

#[tokio::test]
async fn all_that_a_gateway_and_a_publisher_do_works_on_valkey() {
    all_works(RedisServer::builder().valkey()).await;
}

async fn all_works(builder: RedisServerBuilder) {
    let server = server(builder).await;
    let (gateway, service) = (gateway(&server).await, service(&server).await);
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;

    let first = service.publish(json!({"channel": "a", "data": "1", "once": "k"})).await;
    let again = service.publish(json!({"channel": "a", "data": "1", "once": "k"})).await;
    assert_eq!((&first["id"], again["duplicate"].as_bool()), (&again["id"], Some(true)));
    assert_eq!(service.publish(json!({"channel": "a", "data": "2", "ephemeral": true})).await["receivers"], 1);
    let batch: String = (3..6).map(|number| format!("{}\n", json!({"channel": "a", "data": number}))).collect();
    let request =
        service.client.post(format!("{}/publish", service.url)).header("content-type", "application/x-ndjson");
    assert_eq!(request.body(batch).send().await.unwrap().status(), 200);
    assert_eq!(data(&mut stream, 5).await, ["1", "2", "3", "4", "5"]);

    // Another node replays; and this one catches up after its session was killed.
    let id = first["id"].as_str().unwrap().to_owned();
    let path = format!("/events?channel=a&last_event_id={id}");
    let other = self::gateway(&server).await;
    let mut resumed = other.stream(&path).await;
    assert_eq!(data(&mut resumed, 3).await, ["3", "4", "5"]);
    admin(&server, &["CLIENT", "KILL", "USER", "sse-gateway"]).await;
    service.publish(json!({"channel": "a", "data": "6"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("6"));

    let held = service.client.get(format!("{}/channels/a/events", service.url)).send().await.unwrap();
    assert_eq!((held.status().as_u16(), held.text().await.unwrap().matches("\"data\"").count()), (200, 5));
    let cancel = service.client.post(format!("{}/channels/a/cancel", service.url)).send().await.unwrap();
    assert!(cancel.status().is_success(), "{cancel:?}");
    let erased = service.client.delete(format!("{}/channels/a", service.url)).send().await.unwrap();
    assert!(erased.status().is_success(), "{erased:?}");
    service.publish(json!({"channel": "a", "data": "7", "end": true})).await;
    assert_eq!(stream.data().await.as_deref(), Some("7"));
    let rest = soon("the end of the stream", stream.rest()).await;
    assert!(rest.iter().all(|said| !matches!(said, Decoded::Event(event) if event.event == "message")), "{rest:?}");
    eventually("both nodes answer", async || {
        let asked = service.client.get(format!("{}/channels/a", service.url)).send().await.unwrap();
        let there: Value = asked.json().await.unwrap();
        (there["ended"] == true && there["connections"] == 0 && there.get("silent").is_none()).then_some(())
    })
    .await;
    let nodes: Value = service.client.get(format!("{}/nodes", service.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 2, "{nodes}");
    tokens_work(&server, &service).await;
    // Neither was ever refused anything, but for what a library tells of itself on newer servers.
    let log = admin(&server, &["ACL", "LOG"]).await;
    let lines = |words: &[&str]| log.lines().filter(|line| words.contains(line)).count();
    assert_eq!(lines(&["command", "key", "channel"]), lines(&["client|setinfo"]), "{log}");
}

/// Tickets, renewals, revocations and orders to disconnect.
async fn tokens_work(server: &RedisServer, service: &Service) {
    let secret = "a secret of the tests, long enough for HS256";
    let builder = Gateway::builder().args(&["--redis-url", &url(server, "sse-gateway")]);
    let builder = builder.env("SSE_GATEWAY__REDIS__PASSWORD", "GATEWAY-PASSWORD");
    let gateway = builder.env("SSE_GATEWAY__AUTH__SECRET", secret).start().await;
    let token =
        TokenKey::hs256(secret.as_bytes()).token(None, &json!({"sub": "42", "exp": 9_999_999_999_u64}).to_string());
    let post = |path: &str| gateway.client.post(gateway.url(path)).bearer_auth(&token);
    let ticket: Value = post("/tickets").send().await.unwrap().json().await.unwrap();
    let path = format!("/events?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut stream = gateway.stream(&path).await;
    stream.opened().await;
    let elsewhere = post("/events/renew").json(&json!({"connection": "0123456789abcdef"})).send().await.unwrap();
    assert_eq!(elsewhere.status(), 202);
    for (path, body) in [("/users/42/disconnect", json!({})), ("/tokens/revoke", json!({"sub": "42"}))] {
        let ordered = service.client.post(format!("{}{path}", service.url)).json(&body).send().await.unwrap();
        assert_eq!(ordered.status(), 202, "{path}");
    }
    soon("the end of the stream", stream.rest()).await;
    eventually("the token is revoked", async || {
        (gateway.client.get(gateway.url("/events")).bearer_auth(&token).send().await.unwrap().status() == 401)
            .then_some(())
    })
    .await;
}

/// The selector of the manual for gateways that tell of presence.
fn presence_selector() -> String {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    manual.lines().find(|line| line.starts_with("(~sse:presence:*")).expect("a selector").to_owned()
}

fn tells_of_presence(server: &RedisServer) -> crate::support::Builder {
    let builder = Gateway::builder().args(&["--redis-url", &url(server, "sse-gateway")]);
    let builder = builder.env("SSE_GATEWAY__REDIS__PASSWORD", "GATEWAY-PASSWORD");
    builder.config("[presence]\nenabled = true\noffline_after = \"1s\"")
}

#[tokio::test]
async fn presence_works_with_its_selector() {
    let server = server(RedisServer::builder()).await;
    let mut rights: Vec<String> = vec!["ACL".to_owned(), "SETUSER".to_owned(), "sse-gateway".to_owned()];
    rights.push(presence_selector());
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    assert_eq!(admin(&server, &rights).await, "OK");
    let gateway = tells_of_presence(&server).start().await;
    let mut watch = gateway.stream("/events?channel=presence:42").await;
    watch.opened().await;
    let stream = gateway.stream("/api/sse/connect?userId=42").await;
    assert!(watch.data().await.unwrap().contains("42"));
    drop(stream);
    assert!(watch.data().await.unwrap().contains("42"));
    let log = admin(&server, &["ACL", "LOG"]).await;
    assert_eq!(log.lines().filter(|line| ["key", "channel"].contains(line)).count(), 0, "{log}");
}

#[tokio::test]
async fn presence_without_its_rights_says_so_once_and_harms_nothing_else() {
    let server = server(RedisServer::builder()).await;
    let mut gateway = tells_of_presence(&server).log_piped().start().await;
    let mut log = tokio::io::BufReader::new(gateway.take_log());
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    assert!(admin(&server, &["PUBLISH", "sse:a", "x"]).await.starts_with('1'));
    assert_eq!(stream.data().await.as_deref(), Some("x"));
    let mut text = String::new();
    let told = async {
        while !text.contains("WARN cannot tell Redis who is online") {
            let read = tokio::io::AsyncBufReadExt::read_line(&mut log, &mut text).await.unwrap();
            assert_ne!(read, 0, "it ended: {text}");
        }
    };
    soon("the warning", told).await;
    // No stream is left to drain; the grace before that is long enough for tries without a number.
    drop(stream);
    gateway.signal("TERM").await;
    soon("the log's end", tokio::io::AsyncReadExt::read_to_string(&mut log, &mut text)).await.unwrap();
    assert_eq!(text.matches("WARN cannot tell Redis who is online").count(), 1, "{text}");
}

#[tokio::test]
async fn what_they_need_not_do_is_refused() {
    let server = server(RedisServer::builder()).await;
    let gateway = ("sse-gateway", "GATEWAY-PASSWORD");
    let publisher = ("sse-publisher", "PUBLISHER-PASSWORD");
    for (user, password) in [gateway, publisher] {
        for command in [
            &["CONFIG", "GET", "*"][..],
            &["FLUSHALL"],
            &["FLUSHDB"],
            &["KEYS", "*"],
            &["SCAN", "0"],
            &["ACL", "LIST"],
            &["CLIENT", "LIST"],
            &["SHUTDOWN"],
            &["EVAL", "return 1", "0"],
            &["FUNCTION", "FLUSH"],
            &["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', function() end)"],
            &["PSUBSCRIBE", "*"],
            &["GET", "other:a"],
            &["SET", "other:a", "x"],
            &["GET", "ssex"],
            &["PUBLISH", "other:a", "x"],
            &["SUBSCRIBE", "other:a"],
            &["DEL", "sse:a"],
        ] {
            let answer = by(&server, user, password, command).await;
            assert!(answer.contains("NOPERM"), "{user} {command:?}: {answer}");
        }
    }
    let (user, password) = gateway;
    for command in [
        &["FCALL", "sse_publish", "1", "sse:a", "x"][..],
        &["FCALL", "sse_cancel", "1", "sse:a"],
        &["PUBLISH", "sse:a", "x"],
        &["PUBLISH", "sse.cancel:a", "x"],
        &["XADD", "sse:a", "*", "d", "x"],
        &["SET", "sse.last:a", "1-0"],
        &["SET", "sse:a", "x"],
        &["UNLINK", "sse:a"],
        &["EXPIRE", "sse:a", "1"],
    ] {
        let answer = by(&server, user, password, command).await;
        // Of a function it is the command inside that is refused, in Redis 7.0 with other words.
        let refused = answer.contains("NOPERM") || answer.contains("can't run this command") || answer.contains("ACL");
        assert!(refused, "{command:?}: {answer}");
    }
    assert_eq!(admin(&server, &["EXISTS", "sse:a", "sse.last:a", "sse.cancel:a"]).await, "0", "nothing was written");
    let answer = by(&server, "jobs", "JOBS-PASSWORD", &["FCALL", "sse_publish", "1", "sse:job:1", "x"]).await;
    assert!(answer.contains('-'), "a position: {answer}");
    let answer = by(&server, "jobs", "JOBS-PASSWORD", &["FCALL", "sse_publish", "1", "sse:user:1", "x"]).await;
    assert_eq!(admin(&server, &["EXISTS", "sse:user:1"]).await, "0", "{answer}");
}

/// Each right of the file is one that a check misses, and so one that is needed.
#[tokio::test]
async fn a_check_names_every_right_that_lacks() {
    let server = server(RedisServer::builder()).await;
    let check = async || {
        let builder = Gateway::builder().args(&["--redis-url", &url(&server, "sse-gateway"), "check", "--connect"]);
        let builder = builder.config("[auth]\nsecret = 'a secret of the tests, long enough for HS256'");
        let builder = builder.env("SSE_GATEWAY__LIMITS__MAX_CONNECTIONS_PER_USER", "5");
        builder.env("SSE_GATEWAY__REDIS__PASSWORD", "GATEWAY-PASSWORD").fail().await
    };
    let all = check().await;
    assert_eq!((all.status.code(), &*all.errors), (Some(0), ""), "{all:?}");
    assert!(all.output.contains("\n  fine      permissions: all of "), "{all:?}");
    assert!(!all.output.contains("  warning  "), "{all:?}");

    let file = std::fs::read_to_string(FILE).unwrap();
    let rules = file.lines().find_map(|line| line.strip_prefix("user sse-gateway on ")).unwrap();
    let (root, selector) = rules.split_once('(').unwrap();
    let commands = root.split(' ').filter_map(|rule| rule.strip_prefix('+'));
    for command in commands {
        admin(&server, &["ACL", "SETUSER", "sse-gateway", &format!("-{command}")]).await;
        let lacks = check().await;
        let named = lacks.output.contains("  warning  ")
            || lacks.output.contains("  error    ")
            || lacks.status.code() == Some(1);
        assert!(named, "{command}: {lacks:?}");
        let named = command.split('|').next().unwrap();
        assert!(format!("{}{}", lacks.output, lacks.errors).to_lowercase().contains(named), "{command}: {lacks:?}");
        admin(&server, &["ACL", "SETUSER", "sse-gateway", &format!("+{command}")]).await;
    }
    admin(&server, &["ACL", "SETUSER", "sse-gateway", "clearselectors"]).await;
    let lacks = check().await;
    assert_eq!(lacks.status.code(), Some(1), "{lacks:?}");
    assert!(lacks.output.contains("\n  error     a session: PUBLISH sse.node:check x (NOPERM "), "{lacks:?}");
    admin(&server, &["ACL", "SETUSER", "sse-gateway", &format!("({selector}")]).await;
    assert_eq!(check().await.output, all.output, "it is as it was");

    // Presence is not of the file: its rights are those of the manual's selector.
    let with_presence = async || {
        let builder = Gateway::builder().args(&["--redis-url", &url(&server, "sse-gateway"), "check", "--connect"]);
        let builder = builder.config("[presence]\nenabled = true");
        builder.env("SSE_GATEWAY__REDIS__PASSWORD", "GATEWAY-PASSWORD").fail().await.output
    };
    let lacks = with_presence().await;
    assert!(lacks.contains("\n  warning   presence: "), "{lacks}");
    let selector = presence_selector();
    let commands = selector.trim_end_matches(')').split(' ').filter_map(|rule| rule.strip_prefix('+'));
    for command in commands {
        let without = selector.replace(&format!(" +{command} "), " ").replace(&format!(" +{command})"), ")");
        admin(&server, &["ACL", "SETUSER", "sse-gateway", "clearselectors"]).await;
        admin(&server, &["ACL", "SETUSER", "sse-gateway", &format!("({}", rules.split_once('(').unwrap().1)]).await;
        assert_eq!(admin(&server, &["ACL", "SETUSER", "sse-gateway", &without]).await, "OK");
        let lacks = with_presence().await;
        // Some are had by other words of the file.
        let had = ["info", "time", "get", "xrevrange"].contains(&command);
        let line = lacks.lines().find(|line| line.starts_with("  warning   presence: ")).unwrap_or_default();
        assert!(had || line.to_lowercase().contains(&format!("{command} ")), "{command}: {lacks}");
    }
    assert_eq!(admin(&server, &["ACL", "SETUSER", "sse-gateway", &selector]).await, "OK");
    let lacks = with_presence().await;
    assert!(!lacks.contains("  warning  "), "{lacks}");

    admin(&server, &["FUNCTION", "FLUSH"]).await;
    let lacks = check().await;
    assert_eq!(lacks.status.code(), Some(1), "{lacks:?}");
    assert!(lacks.output.contains("\n  error     functions: none, and this user may not load them"), "{lacks:?}");
}
