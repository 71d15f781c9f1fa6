//! `publish`: one event, its receipt, and every way to get it wrong.

use serde_json::{Value, json};
use testkit::RedisServer;

use crate::support::{Exit, Program, history, is_ended, program};

fn publish(server: &RedisServer, flags: &[&str]) -> Program {
    program(&["publish"]).args(flags).redis(server)
}

fn assert_published(exit: &Exit) {
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
}

/// The cursor of a receipt without the position and tag, which nobody knows before.
fn without_id(mut receipt: Value) -> Value {
    assert!(receipt["id"].as_str().is_some_and(|id| id.contains('-') && id.contains('_')), "{receipt}");
    receipt["id"] = json!("...");
    receipt
}

#[tokio::test]
async fn everything_that_an_event_can_have() {
    let server = RedisServer::start().await;
    for (channel, flags, payload) in [
        ("a", &["--data", "hi"][..], r#"{"data":"hi"}"#),
        ("b", &["--data", ""], r#"{"data":""}"#),
        ("c", &["--data", "-5"], r#"{"data":"-5"}"#),
        ("d", &["--json", r#" {"b": 1.50, "a":1e400} "#], r#"{"data":{"b": 1.50, "a":1e400}}"#),
        ("e", &["--json", r#""text""#], r#"{"data":"text"}"#),
        ("f", &["--event", "n"], r#"{"event":"n"}"#),
        ("g", &["--event", "n", "--data", "x", "--retry", "1500ms"], r#"{"event":"n","data":"x","retry":1500}"#),
        ("h", &["--end"], r#"{"end":true}"#),
        ("i", &["--end", "--event", "done", "--data", "x"], r#"{"event":"done","data":"x","end":true}"#),
    ] {
        let exit = publish(&server, &[&["--channel", channel], flags].concat()).run().await;
        assert_published(&exit);
        assert_eq!(
            exit.lines().into_iter().map(without_id).collect::<Vec<_>>(),
            [json!({"id": "...", "receivers": 0})]
        );
        assert_eq!(history(&server, channel).await, [payload], "{flags:?}");
        assert_eq!(is_ended(&server, channel).await, flags.contains(&"--end"), "{flags:?}");
    }
}

#[tokio::test]
async fn data_from_standard_input() {
    let server = RedisServer::start().await;
    for (channel, flag, input, payload) in [
        ("a", "--data", "two\nlines\n", r#"{"data":"two\nlines"}"#),
        ("b", "--data", "x\r\n", r#"{"data":"x"}"#),
        ("c", "--data", "", r#"{"data":""}"#),
        ("d", "--json", "[1,\t2]\n", "{\"data\":[1,\t2]}"),
    ] {
        let exit = publish(&server, &["--channel", channel, flag, "-"]).run_with(input.as_bytes()).await;
        assert_published(&exit);
        assert_eq!(history(&server, channel).await, [payload]);
    }
    let exit = publish(&server, &["--channel", "e", "--data", "-"]).run_with(&[b'x'; 65_536]).await;
    assert_published(&exit);

    let exit = publish(&server, &["--channel", "f", "--data", "-"]).run_with(b"caf\xe9").await;
    exit.assert_fails(2, &["sse-publisher: --data: standard input is not UTF-8"]);
    // As much as there is: nobody reads it all.
    let exit = publish(&server, &["--channel", "f", "--data", "-"]).run_with(&vec![b'x'; 8 << 20]).await;
    exit.assert_fails(2, &["sse-publisher: --data: more than 65536 bytes of data; the limit is limits.max_data"]);
    assert_eq!(history(&server, "f").await, Vec::<String>::new());
}

#[tokio::test]
async fn receipts() {
    let server = RedisServer::start().await;
    let once = ["--channel", "a", "--data", "x", "--once", "order-7/paid"];
    let first = publish(&server, &once).run().await;
    let again = publish(&server, &once).run().await;
    assert_published(&again);
    let id = &first.lines()[0]["id"];
    assert_eq!(again.lines(), [json!({"id": id, "receivers": 0, "duplicate": true})]);
    assert_eq!(history(&server, "a").await.len(), 1);

    let ephemeral = publish(&server, &["--channel", "b", "--data", "x", "--ephemeral"]).run().await;
    assert_published(&ephemeral);
    assert_eq!(ephemeral.output, "{\"id\":null,\"receivers\":0}\n");
    assert_eq!(history(&server, "b").await.len(), 0);

    // Twice the same is once.
    let several = publish(&server, &["--channel", "c", "--channel", "d", "--channel", "c", "--data", "x"]).run().await;
    assert_published(&several);
    let lines: Vec<_> = several.lines().into_iter().map(without_id).collect();
    assert_eq!(
        lines,
        [json!({"channel": "c", "id": "...", "receivers": 0}), json!({"channel": "d", "id": "...", "receivers": 0})]
    );
    assert!(several.output.starts_with(r#"{"channel":"c","id":""#), "{}", several.output);
}

#[tokio::test]
async fn receivers_are_counted() {
    let server = RedisServer::start().await;
    let mut subscriber = tokio::process::Command::new("redis-cli");
    subscriber.args(["-p", &server.port().to_string(), "SUBSCRIBE", "sse:a"]).kill_on_drop(true);
    let _subscriber = subscriber.stdout(std::process::Stdio::null()).spawn().unwrap();
    testkit::eventually("a subscriber", async || {
        server.cli(&["PUBSUB", "NUMSUB", "sse:a"]).await.ends_with('1').then_some(())
    })
    .await;
    let exit = publish(&server, &["--channel", "a", "--data", "x"]).run().await;
    assert_eq!(exit.lines()[0]["receivers"], 1);
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_is_published() {
    let server = RedisServer::start().await;
    let once_ephemeral = "sse-publisher: --once: once and ephemeral contradict each other: an ephemeral event has no position \
                          to answer a repeated key with";
    let end_ephemeral = "sse-publisher: --ephemeral: ephemeral and end contradict each other: an end has to be in history, so \
                         that who comes late learns of it";
    let nothing =
        "sse-publisher: nothing to publish: give --data, --json, --event, --retry or --end (--data '' for empty data)";
    for (flags, error) in [
        (&[][..], nothing),
        (&["--data", "x", "--once", "k", "--ephemeral"], once_ephemeral),
        (&["--end", "--ephemeral"], end_ephemeral),
        (&["--event", "sse.gap"], "sse-publisher: --event: event names beginning sse. are the gateway's own signals"),
        (&["--event", "a\nb"], "sse-publisher: --event: event may not have '\\n' (no CR, LF or NUL)"),
        (&["--json", "{"], "sse-publisher: --json: EOF while parsing an object at line 1 column 1"),
        (&["--json", ""], "sse-publisher: --json: EOF while parsing a value at line 1 column 0"),
    ] {
        let exit = publish(&server, &[&["--channel", "a"], flags].concat()).run().await;
        exit.assert_fails(2, &[error]);
    }
    // What the flags' own reader says, in its own form.
    for (flags, wanted) in [
        (&["--data", "x"][..], "--channel <CHANNEL>"),
        (&["--channel", "a b", "--data", "x"], "a channel name may not have ' '"),
        (&["--channel", "sse.control", "--data", "x"], "channels beginning sse. are the cluster's own"),
        (&["--channel", "a", "--data", "x", "--json", "1"], "cannot be used with"),
        (&["--channel", "a", "--data", "x", "--once", "a b"], "a once key may not have ' '"),
        (&["--channel", "a", "--data", "x", "--retry", "3"], "a duration has a unit, such as 3s or 500ms"),
        (&["--chanel", "a"], "a similar argument exists: '--channel'"),
    ] {
        let exit = publish(&server, flags).run().await;
        assert_eq!((exit.code(), &*exit.output), (2, ""), "{exit:?}");
        assert!(exit.errors.contains(wanted), "{wanted:?} is not in {}", exit.errors);
    }
    assert_eq!(server.cli(&["EXISTS", "sse:a"]).await, "0");
}

#[tokio::test]
async fn limits_and_channel_settings_of_the_configuration() {
    let server = RedisServer::start().await;
    let config = "limits = { max_data = 3, max_channels = 2 }\n[[channels]]\nprefix = 'live:'\nephemeral = true\n\
                  [[channels]]\nprefix = 'short:'\nttl = '90s'\n";
    let publish = |flags: &[&str]| publish(&server, flags).config(config);
    let exit = publish(&["--channel", "a", "--data", "four"]).run().await;
    exit.assert_fails(2, &["sse-publisher: --data: more than 3 bytes of data; the limit is limits.max_data"]);
    let three = ["--channel", "a", "--channel", "b", "--channel", "c", "--data", "x"];
    let exit = publish(&three).run().await;
    exit.assert_fails(2, &["sse-publisher: --channel: more than 2 of them; the limit is limits.max_channels"]);

    let exit = publish(&["--channel", "live:1", "--data", "x"]).run().await;
    assert_eq!(exit.output, "{\"id\":null,\"receivers\":0}\n");
    let exit = publish(&["--channel", "live:1", "--end"]).run().await;
    exit.assert_fails(
        2,
        &["sse-publisher: --end: every event on live:1 is ephemeral: an end has to be in history, so that who \
                            comes late learns of it"],
    );
    let exit = publish(&["--channel", "short:1", "--data", "x"]).run().await;
    assert_published(&exit);
    let ttl: u64 = server.cli(&["TTL", "sse:short:1"]).await.parse().unwrap();
    assert!((80..=90).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn what_redis_refuses() {
    let server = RedisServer::start().await;
    server.cli(&["SET", "sse:a", "no stream"]).await;
    let exit = publish(&server, &["--channel", "a", "--data", "x"]).run().await;
    assert_eq!((exit.code(), &*exit.output), (1, ""), "{exit:?}");
    assert!(exit.errors.starts_with("sse-publisher: the broker refuses: WRONGTYPE "), "{exit:?}");

    // The others are published, and a script can tell which were not.
    let exit = publish(&server, &["--channel", "b", "--channel", "a", "--data", "x"]).run().await;
    assert_eq!(exit.code(), 1);
    let lines = exit.lines();
    assert_eq!(without_id(lines[0].clone()), json!({"channel": "b", "id": "...", "receivers": 0}));
    assert_eq!(lines[1]["channel"], "a");
    assert!(
        lines[1]["error"].as_str().is_some_and(|error| error.starts_with("the broker refuses: WRONGTYPE")),
        "{exit:?}"
    );
    assert!(exit.errors.starts_with("sse-publisher: a: the broker refuses: WRONGTYPE "), "{exit:?}");
    assert_eq!(history(&server, "b").await.len(), 1);
}
