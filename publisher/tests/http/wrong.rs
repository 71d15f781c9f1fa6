//! `POST /publish`, wrong in every way there is. Each time nothing may be published.

use crate::support::*;

fn problem(code: &str, title: &str, status: u16, detail: &str, field: &str) -> String {
    format!(r#"{code}","title":"{title}","status":{status},"detail":"{detail}","field":"{field}"}}"#)
}

fn limited(problem: &str, limit: usize) -> String {
    format!(r#"{},"limit":{limit}}}"#, problem.strip_suffix('}').unwrap())
}

fn invalid(field: &str, detail: &str) -> String {
    problem("invalid-value", "invalid value", 400, detail, field)
}

fn wrong_type(field: &str, wanted: &str) -> String {
    problem("wrong-type", "wrong type", 400, &format!("{field} has to be {wanted}"), field)
}

#[tokio::test]
async fn malformed_json_with_line_and_column() {
    let server = Server::new();
    let malformed = |detail: &str| problem("malformed-json", "malformed JSON", 400, detail, "body");
    for (body, detail) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\"channel\":\"c\",\n  \"data\": }", "expected value at line 2 column 11"),
        (r#"{"channel":"c"} x"#, "trailing characters at line 1 column 17"),
        (r#"{"channel":"c","unknown":1,"#, "EOF while parsing a value at line 1 column 27"),
        (r#"{"channel":"c","data":01}"#, "invalid number at line 1 column 24"),
        (r#"{"channel":"c","data":NaN}"#, "expected value at line 1 column 23"),
        (
            "{\"channel\":\"c\",\"data\":\"a\nb\"}",
            "control character (\\\\u0000-\\\\u001F) found while parsing a string at line 1 column 24",
        ),
    ] {
        server.refuses(body, &malformed(detail)).await;
    }
    let invalid_utf8 = post("/publish", JSON, b"{\"channel\":\"c\",\"data\":\"\xFF\"}".to_vec());
    server.refuses_request(invalid_utf8, &malformed("invalid unicode code point at line 1 column 24")).await;
}

#[tokio::test]
async fn not_an_object() {
    let server = Server::new();
    for body in ["null", "[]", r#"[{"channel":"c"}]"#, "1", r#""channel""#, "true"] {
        server.refuses(body, &wrong_type("body", "a JSON object")).await;
    }
}

#[tokio::test]
async fn keys() {
    let server = Server::new();
    let unknown = |field: &str, detail: &str| problem("unknown-key", "unknown key", 422, detail, field);
    let known = "unknown key, known ones are channel, channels, event, data, retry, end, ephemeral, once";
    server.refuses(r#"{"chanel":"c"}"#, &unknown("chanel", "unknown key, did you mean channel")).await;
    server.refuses(r#"{"channel":"c","Data":1}"#, &unknown("Data", "unknown key, did you mean data")).await;
    server.refuses(r#"{"channel":"c","id":"1-0"}"#, &unknown("id", known)).await;
    server.refuses(r#"{"channel":"c","메시지":1}"#, &unknown("메시지", known)).await;
    server.refuses(r#"{"channel":"c","":1}"#, &unknown("", known)).await;
    let long = format!(r#"{{"channel":"c","{}":1}}"#, "k".repeat(100_000));
    server.refuses(&long, &unknown(&"k".repeat(64), known)).await;
    let duplicate = |field: &str| {
        problem("duplicate-key", "duplicate key", 400, &format!("{field} is given more than once"), field)
    };
    server.refuses(r#"{"channel":"c","channel":"c"}"#, &duplicate("channel")).await;
    server.refuses(r#"{"channel":"c","data":1,"d\u0061ta":2,"x":1}"#, &duplicate("data")).await;
}

#[tokio::test]
async fn exactly_one_of_channel_and_channels() {
    let server = Server::new();
    let missing = problem("missing-value", "missing value", 400, "one of channel and channels is needed", "channel");
    server.refuses(r#"{"data":1}"#, &missing).await;
    server.refuses("{}", &missing).await;
    let detail = "channel and channels contradict each other, give one of them";
    let both = problem("conflicting-keys", "conflicting keys", 400, detail, "channels");
    server.refuses(r#"{"channel":"c","channels":["c"]}"#, &both).await;
}

#[tokio::test]
async fn types() {
    let server = Server::new();
    let text = "a string of Unicode text";
    let ms = "a whole number of milliseconds, 0 to 2^64 - 1";
    let flag = "true or false";
    for (key, wanted, values) in [
        ("channel", text, &["null", "1", "[\"c\"]", "{}", "\"\\udc00\""] as &[&str]),
        ("channels", "an array of strings", &["null", "\"c\"", "{}", "1"]),
        ("event", text, &["null", "1", "true", "\"\\ud800x\""]),
        ("retry", ms, &["null", "\"5\"", "-1", "1.5", "1e3", "1.0", "18446744073709551616", "true"]),
        ("end", flag, &["null", "1", "\"true\"", "[]"]),
        ("ephemeral", flag, &["null", "0", "\"false\""]),
        ("once", text, &["null", "7", "[\"k\"]"]),
    ] {
        for value in values {
            let channel = if key.starts_with("channel") { "" } else { r#""channel":"c","# };
            server.refuses(&format!(r#"{{{channel}"{key}":{value}}}"#), &wrong_type(key, wanted)).await;
        }
    }
}

#[tokio::test]
async fn channel_names() {
    let server = Server::new();
    let body = |name: &str| format!(r#"{{"channel":"{name}"}}"#);
    let rules = "(no control characters, white space, '{', '}' or '*')";
    let not = |shown: &str| invalid("channel", &format!("a channel name may not have '{shown}' {rules}"));
    server.refuses(&body(""), &invalid("channel", "a channel name is empty")).await;
    server.refuses(&body("a b"), &not(" ")).await;
    server.refuses(&body("a\\nb"), &not("\\\\n")).await;
    server.refuses(&body("a*"), &not("*")).await;
    server.refuses(&body("a\\u0000"), &not("\\\\0")).await;
    let long = invalid("channel", "a channel name has 258 bytes, the limit is 256");
    server.refuses(&body(&"한".repeat(86)), &limited(&long, 256)).await;
    let detail = "channels beginning sse. are the cluster's own, nobody publishes to them";
    server.refuses(&body("sse.control"), &problem("reserved-name", "reserved name", 400, detail, "channel")).await;
    assert_eq!(server.publish(&body("sse:control")).await.status, 200);
}

#[tokio::test]
async fn event_names() {
    let server = Server::new();
    let body = |event: &str| format!(r#"{{"channel":"c","event":"{event}"}}"#);
    for shown in ["r", "n", "0"] {
        let escaped = if shown == "0" { "\\u0000".to_owned() } else { format!("\\{shown}") };
        let detail = format!("event may not have '\\\\{shown}' (no CR, LF or NUL)");
        server.refuses(&body(&format!("a{escaped}b")), &invalid("event", &detail)).await;
    }
    let detail = "event names beginning sse. are the gateway's own signals";
    server.refuses(&body("sse.gap"), &problem("reserved-name", "reserved name", 400, detail, "event")).await;
    let long = invalid("event", "event has 257 bytes, the limit is 256");
    server.refuses(&body(&"x".repeat(257)), &limited(&long, 256)).await;
    assert_eq!(server.publish(&body(&"x".repeat(256))).await.status, 200);
}

#[tokio::test]
async fn once_keys() {
    let server = Server::new();
    let body = |once: &str| format!(r#"{{"channel":"c","once":"{once}"}}"#);
    let length = |n: usize| limited(&invalid("once", &format!("a once key has 1 to 128 bytes, this one {n}")), 128);
    server.refuses(&body(""), &length(0)).await;
    server.refuses(&body(&"x".repeat(129)), &length(129)).await;
    let detail = "a once key may not have ' ' (no control characters, no white space)";
    server.refuses(&body("a b"), &invalid("once", detail)).await;
    assert_eq!(server.publish(&body(&"x".repeat(128))).await.status, 200);
}

#[tokio::test]
async fn what_an_ephemeral_event_cannot_have() {
    let server = Server::new();
    let conflict = |field: &str, detail: &str| problem("conflicting-keys", "conflicting keys", 400, detail, field);
    let end = conflict(
        "ephemeral",
        "ephemeral and end contradict each other: an end has to be in history, so that who comes late learns of it",
    );
    server.refuses(r#"{"channel":"c","ephemeral":true,"end":true}"#, &end).await;
    let once = conflict(
        "once",
        "once and ephemeral contradict each other: an ephemeral event has no position to answer a repeated key with",
    );
    server.refuses(r#"{"channel":"c","ephemeral":true,"once":"k"}"#, &once).await;
    assert_eq!(server.publish(r#"{"channel":"c","ephemeral":false,"end":true,"once":"k"}"#).await.status, 200);
}

#[tokio::test]
async fn a_string_that_is_no_text() {
    let server = Server::new();
    let detail = "a string with half a surrogate pair is not Unicode text";
    server.refuses(r#"{"channel":"c","data":"\ud800"}"#, &invalid("data", detail)).await;
}
