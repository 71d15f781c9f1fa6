//! Whatever ends an answer from outside, the channel is told why, and the source is let go.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::support::{Broker, Script, Step, all_over, ask, chat, end, say};
use crate::Cancel as _;
use crate::chat::{Chat, ChatSettings, Question, SourceCode, SourceError};
use shared::channel::Channel;
use std::sync::Arc;

/// An answer by these steps to its end: its text, the last event's name, and what that says.
async fn whole(steps: Vec<Step>, settings: ChatSettings) -> (String, String, Value) {
    let source = Script::new(steps);
    let (chat, broker) = chat(source.clone(), settings);
    let channel = ask(&chat).await;
    all_over(&chat).await;
    assert_eq!((source.asked(), source.dropped()), (1, 1));
    broker.answer(&channel)
}

fn small() -> ChatSettings {
    ChatSettings { max_time: Duration::from_secs(5), max_bytes: 10, ..ChatSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn too_long() {
    let (text, name, last) = whole(vec![say(0, "1234"), say(0, "한글"), say(0, ""), end("stop")], small()).await;
    assert_eq!((&*text, &*name), ("1234한글", "done"), "{last}");
    let (text, name, last) = whole(vec![say(0, "12345"), say(0, "한글"), end("stop")], small()).await;
    assert_eq!((&*text, &*name, &last["reason"]), ("12345한", "failed", &Value::from("too_long")));
    assert_eq!(last["detail"], "the answer is longer than 10 bytes");
}

#[tokio::test(start_paused = true)]
async fn too_slow() {
    for steps in [vec![say(0, "a")], vec![say(0, "a"), say(3_000, "b"), say(3_000, "c"), end("stop")]] {
        let start = Instant::now();
        let (text, name, last) = whole(steps, small()).await;
        assert!(text.starts_with('a') && !text.contains('c'), "{text}");
        assert_eq!((&*name, &last["reason"]), ("failed", &Value::from("too_slow")));
        assert_eq!(last["detail"], "the answer took longer than 5s");
        assert!(start.elapsed() < Duration::from_secs(6));
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_fails() {
    let error = SourceError::new(SourceCode::Status, "the upstream answered 429");
    let (text, name, last) = whole(vec![say(0, "a"), say(1, "b"), (0, Err(error))], small()).await;
    assert_eq!((&*text, &*name), ("ab", "failed"), "what came is not lost");
    assert_eq!((&last["reason"], &last["detail"]), (&"upstream_status".into(), &"the upstream answered 429".into()));
}

/// One that says `a` and `b` and nothing more.
async fn silent() -> (Arc<Chat>, Arc<Broker>, Arc<Script>, Channel) {
    let source = Script::new(vec![say(0, "a"), say(10, "b")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    let channel = ask(&chat).await;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(broker.events(&channel).len(), 2, "b waits for its time");
    (chat, broker, source, channel)
}

#[tokio::test(start_paused = true)]
async fn cancelled_in_the_midst() {
    let (chat, broker, source, channel) = silent().await;
    let start = Instant::now();
    assert_eq!(broker.cancel(&channel).await, Ok(1));
    all_over(&chat).await;
    assert!(start.elapsed() < Duration::from_millis(30), "{:?}", start.elapsed());
    let (text, name, last) = broker.answer(&channel);
    assert_eq!((&*text, &*name, &last["reason"]), ("ab", "done", &Value::from("cancelled")));
    assert_eq!(source.dropped(), 1);
    assert_eq!(broker.cancel(&channel).await, Ok(0), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_it_began() {
    let source = Script::new(vec![say(0, "a"), end("stop")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    let channel = Channel::parse("chat:mine").unwrap();
    assert_eq!(broker.cancel(&channel).await, Ok(0));
    chat.ask(Question::new("x"), Some(channel.clone())).await.unwrap();
    all_over(&chat).await;
    let (text, name, last) = broker.answer(&channel);
    assert_eq!((&*text, &*name, &last["reason"]), ("", "done", &Value::from("cancelled")));
    assert_eq!(source.asked(), 0, "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn the_service_stops() {
    let (chat, broker, source, channel) = silent().await;
    chat.close();
    chat.stop();
    all_over(&chat).await;
    let (text, name, last) = broker.answer(&channel);
    assert_eq!((&*text, &*name, &last["reason"]), ("ab", "failed", &Value::from("stopped")));
    assert_eq!(source.dropped(), 1);
}
