//! What readers are told in an upstream's own words: neither its key nor where it is, however it says them.

use super::*;

const KEY: &str = "s3cret/key-0123456789";

fn refusal(kind: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![send(&format!("HTTP/1.1 401 No\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"))]
}

/// What is told of such a refusal by an upstream with this key.
async fn told(key: &str, acts: Vec<Act>) -> (&'static str, String) {
    let (url, _server) = serve(acts).await;
    failure(ask_at(&ChatSettings { key: Some(key.to_owned()), ..settings(&url) }).await.1)
}

#[tokio::test(start_paused = true)]
async fn no_part_of_a_key() {
    let json = |message: &str| serde_json::json!({"error": {"message": message}}).to_string();
    let end_of_words = "x".repeat(490);
    for (acts, expected) in [
        // Across the 500th character.
        (refusal("text/plain", &format!("{end_of_words} {KEY}")), format!(": {end_of_words} ***")),
        (refusal("text/json", &json(&format!("{end_of_words} {KEY}"))), format!(": {end_of_words} ***")),
        // Escaped, in JSON that is read and in some that is not.
        (refusal("text/json", &json(KEY).replace('/', "\\/")), ": ***".to_owned()),
        (
            refusal("text/json", &format!("{{\"error\":{{\"{KEY}\":1,\"a\":[\"{KEY}\"]}}}}")),
            r#": {"***":1,"a":["***"]}"#.to_owned(),
        ),
        (refusal("text/json", r#"{"is":"s3cret\/key-0123456789"#), r#": {"is":"***"#.to_owned()),
        (refusal("text/json", r#"{"is":"\u00733cret/key-0123456789"#), ": ***".to_owned()),
        // Across the end of what is read.
        (refusal("text/plain", &format!("no {}{KEY}", " ".repeat((8 << 10) - 13))), ": no".to_owned()),
    ] {
        assert_eq!(
            told(KEY, acts).await,
            ("upstream_status", format!("the upstream answered 401 Unauthorized{expected}"))
        );
    }
    // One that breaks off within it.
    let head = "HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n";
    let acts = vec![send(head), send("no, s3cret/key-01234")];
    assert_eq!(told(KEY, acts).await.1, "the upstream answered 401 Unauthorized: no,");
}

#[tokio::test(start_paused = true)]
async fn a_short_key_takes_its_sentence_with_it() {
    let event = |data: &str| vec![head(), send(&format!("data: {data}\n\n"))];
    for (acts, expected) in [
        (refusal("text/plain", "the key abc is wrong"), "the upstream answered 401 Unauthorized: ***"),
        (refusal("text/plain", "the key is wrong"), "the upstream answered 401 Unauthorized: the key is wrong"),
        (event(r#"{"error":{"message":"\u0061bc is wrong"}}"#), "the upstream failed: ***"),
        (event(r#"{"choices":"abc"}"#), "the upstream is not understood: an event of it is no chunk of an answer: ***"),
    ] {
        assert_eq!(told("abc", acts).await.1, expected);
    }
    let acts = vec![head(), delta("abc"), finish("stop")];
    let (url, _server) = serve(acts).await;
    let settings = ChatSettings { key: Some("s".into()), ..settings(&url) };
    assert_eq!(ask_at(&settings).await, (vec!["abc".to_owned()], Ok("stop".to_owned())), "no failure, nothing hidden");
}

#[tokio::test(start_paused = true)]
async fn not_where_it_is() {
    let says = |words: &str| vec![head(), send(&format!("event: error\ndata: {words}\n\n"))];
    for (words, expected) in [
        ("Cannot POST /v1/chat/completions?v=1", "Cannot POST ***"),
        ("Cannot POST /v1/chat/completions", "Cannot POST ***"),
        ("127.0.0.1 is away", "*** is away"),
        ("see http://127.0.0.1/help", "see http://***/help"),
    ] {
        assert_eq!(told(KEY, says(words)).await.1, format!("the upstream failed: {expected}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_may_be_a_secret_too() {
    let (url, _server) = serve(vec![head(), delta("a"), finish(&format!("bad key {KEY}"))]).await;
    let settings = ChatSettings { key: Some(KEY.into()), ..settings(&url) };
    assert_eq!(ask_at(&settings).await.1, Ok("bad key ***".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_encoding_that_was_not_asked_for() {
    let head = |status: &str, encoding: &str| {
        send(&format!("HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nContent-Encoding: {encoding}\r\n\r\n"))
    };
    let (url, mut server) = serve(vec![head("200 OK", "gzip"), send("\x1f\u{8b}"), Act::Hold]).await;
    let outcome = failure(ask_at(&settings(&url)).await.1);
    let detail = "the upstream is not understood: its answer has the Content-Encoding gzip, which was not asked for";
    assert_eq!(outcome, ("upstream_invalid", detail.to_owned()));
    let ((asked, _), _) = server.join_next().await.unwrap().unwrap();
    assert!(asked.contains("\r\naccept-encoding: identity\r\n"), "{asked}");
    // What cannot be read is not repeated.
    let acts = vec![head("500 No", "br"), send("\x1f\u{8b}")];
    assert_eq!(told(KEY, acts).await.1, "the upstream answered 500 Internal Server Error");
    let acts = vec![head("200 OK", "Identity"), delta("a"), finish("stop")];
    assert_eq!(ask(acts).await, (vec!["a".to_owned()], Ok("stop".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn no_http_at_all() {
    let told = failure(ask(vec![send("SSH-2.0-OpenSSH_9.6\r\n\r\n"), Act::Hold]).await.1);
    assert_eq!(told, ("upstream_unreachable", "cannot reach the upstream: its answer is no HTTP".to_owned()));
}
