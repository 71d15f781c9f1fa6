//! Models that fail, by HTTP: whatever happens, the channel is told and closed, and nothing is left.

use std::time::Duration;

use publisher::chat::ChatSettings;
use serde_json::{Value, json};

use crate::support::{Relay, words};

fn quick() -> ChatSettings {
    ChatSettings { stall: Duration::from_millis(200), max_time: Duration::from_secs(60), ..ChatSettings::default() }
}

/// The answer to `question`, which fails: its text, why, and what is told.
async fn failed(settings: ChatSettings, question: &str) -> (String, String, String) {
    let relay = Relay::with(settings).await;
    let channel = relay.ask(question).await;
    let (text, name, last) = relay.answer(&channel).await;
    assert_eq!(name, "failed", "{last}");
    relay.is_quiet().await;
    let told = |member: &str| last[member].as_str().map(str::to_owned).unwrap();
    (text, told("reason"), told("detail"))
}

#[tokio::test]
async fn it_refuses() {
    for (status, told) in
        [(401, "401 Unauthorized"), (429, "429 Too Many Requests"), (500, "500 Internal Server Error")]
    {
        let outcome = failed(quick(), &format!("status {status}")).await;
        let detail = format!("the upstream answered {told}: no, thank you");
        assert_eq!(outcome, (String::new(), "upstream_status".to_owned(), detail));
    }
}

#[tokio::test]
async fn it_stalls_ends_too_early_or_never() {
    let (text, reason, _) = failed(quick(), "hang 3").await;
    assert_eq!((text, &*reason), (words(3), "upstream_stalled"));
    let (text, reason, _) = failed(quick(), "break 3").await;
    assert_eq!((text, &*reason), (words(3), "upstream_ended"));
    let settings = ChatSettings { max_time: Duration::from_secs(1), ..ChatSettings::default() };
    let (text, reason, _) = failed(settings, "hang 3").await;
    assert_eq!((text, &*reason), (words(3), "too_slow"));
}

#[tokio::test]
async fn it_writes_too_much() {
    let settings = ChatSettings { max_bytes: 100_500, ..quick() };
    let (text, reason, detail) = failed(settings, "huge 1000").await;
    assert_eq!((text.len(), &*reason, &*detail), (100_500, "too_long", "the answer is longer than 100500 bytes"));
}

#[tokio::test]
async fn nobody_is_there() {
    let settings = ChatSettings { upstream: Some("http://127.0.0.1:1/".into()), ..quick() };
    let redis = testkit::RedisServer::start().await;
    let publisher = publisher::Publisher::connect(&shared::redis::Settings::new(&redis.url())).await.unwrap();
    let source = publisher::chat::source(&settings, false).unwrap().unwrap();
    let publisher = std::sync::Arc::new(publisher);
    let chat = publisher::chat::Chat::new(publisher.clone(), publisher, source, settings);
    chat.ask(publisher::chat::Question::new("x"), Some(shared::channel::Channel::parse("chat:a").unwrap()))
        .await
        .unwrap();
    chat.close();
    testkit::soon("the end", chat.wait()).await;
    let entries = redis.cli(&["XRANGE", "sse:chat:a", "-", "+"]).await;
    assert!(entries.contains("upstream_unreachable"), "{entries}");
    assert_eq!(json!(entries.contains("127.0.0.1")), Value::Bool(false), "where it is, is nobody's business");
}
