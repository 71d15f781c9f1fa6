//! A broker that is away, and readers that are.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, StatusCode};
use axum::body::Body;
use axum::{Extension, Router};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use super::support::{Script, all_over, ask, chat, end, say};
use shared::auth::Access;
use shared::channel::Channel;

use crate::Cancel as _;
use crate::chat::{self, Chat, ChatSettings};

/// As where nobody is asked who they are.
fn router(chat: Arc<Chat>) -> Router {
    chat::router(chat).layer(Extension(Access::Open))
}

#[tokio::test(start_paused = true)]
async fn away_for_less_than_a_minute_nothing_is_lost_or_repeated() {
    let steps = (0..100).map(|n| say(100, &format!("{n} "))).chain([end("stop")]).collect();
    let (chat, broker) = chat(Script::new(steps), ChatSettings::default());
    let channel = ask(&chat).await;
    sleep(Duration::from_secs(3)).await;
    broker.away_for(Duration::from_secs(50));
    all_over(&chat).await;
    let expected: String = (0..100).map(|n| format!("{n} ")).collect();
    let (text, name, _) = broker.answer(&channel);
    assert_eq!((text, &*name), (expected, "done"));
}

#[tokio::test(start_paused = true)]
async fn away_for_longer_the_source_is_let_go() {
    let source = Script::new(vec![say(0, "a"), say(1_000, "b"), say(1_000, "c")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    let channel = ask(&chat).await;
    sleep(Duration::from_millis(500)).await;
    broker.away_for(Duration::from_secs(3_600));
    let start = Instant::now();
    all_over(&chat).await;
    assert!((57..62).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(source.dropped(), 1);
    assert!(broker.events(&channel).len() <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_it_is_away_lets_the_source_go_at_once() {
    let source = Script::new(vec![say(0, "a"), say(1_000, "b"), say(1_000, "c")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    let channel = ask(&chat).await;
    sleep(Duration::from_millis(500)).await;
    broker.away_for(Duration::from_secs(30));
    sleep(Duration::from_secs(10)).await;
    broker.cancel(&channel).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(source.dropped(), 1);
    all_over(&chat).await;
    let (text, name, last) = broker.answer(&channel);
    assert_eq!((&*text, &*name, &last["reason"]), ("ab", "done", &Value::from("cancelled")));
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_ends_it() {
    let source = Script::new(vec![say(0, "a"), say(1_000, "b"), say(1_000, "c")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    let channel = ask(&chat).await;
    sleep(Duration::from_millis(500)).await;
    broker.reject();
    let start = Instant::now();
    all_over(&chat).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!((source.dropped(), broker.events(&channel).len()), (1, 2));
}

fn post(accept: &str) -> Request<Body> {
    post_to(accept, "chat:mine")
}

fn post_to(accept: &str, channel: &str) -> Request<Body> {
    let request = Request::post("/chat").header("content-type", "application/json").header("accept", accept);
    request.body(Body::from(format!(r#"{{"question":"왜?","channel":"{channel}"}}"#))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn away_at_the_question_nothing_begins() {
    let source = Script::new(vec![say(0, "a"), end("stop")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    broker.away_for(Duration::from_millis(10));
    let response = router(chat.clone()).oneshot(post("*/*")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "2");
    all_over(&chat).await;
    assert_eq!(source.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_stream_has_the_channels_events_and_ids() {
    let (chat, _broker) = chat(Script::new(vec![say(0, "a\n"), end("stop")]), ChatSettings::default());
    let response = router(chat.clone()).oneshot(post("text/event-stream")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    assert_eq!(header("location"), "/events?channel=chat%3Amine&last_event_id=earliest");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let sha256 = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7";
    let expected = format!(
        "retry: 3000\n\nevent: question\ndata: {{\"text\":\"왜?\"}}\nid: 1-0_abcde\n\n\
         event: chunk\ndata: {{\"text\":\"a\\n\"}}\nid: 2-0_abcde\n\n\
         event: done\ndata: {{\"reason\":\"stop\",\"chunks\":1,\"bytes\":2,\"sha256\":\"{sha256}\"}}\nid: 3-0_abcde\n\n"
    );
    assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    all_over(&chat).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_or_is_slow_stops_nothing() {
    let steps = (0..200).map(|n| say(100, &format!("{n} "))).chain([end("stop")]).collect();
    let (chat, broker) = chat(Script::new(steps), ChatSettings::default());
    let response = router(chat.clone()).oneshot(post("*/*")).await.unwrap();
    let left = router(chat.clone()).oneshot(post_to("*/*", "chat:left")).await.unwrap();
    drop(left);
    let twice = router(chat.clone()).oneshot(post("*/*")).await.unwrap();
    assert_eq!(twice.status(), StatusCode::CONFLICT);
    let foreign = router(chat.clone()).oneshot(post_to("*/*", "user:42")).await.unwrap();
    assert_eq!(foreign.status(), StatusCode::BAD_REQUEST);
    all_over(&chat).await;
    for channel in ["chat:mine", "chat:left"] {
        let events = broker.events(&Channel::parse(channel).unwrap());
        assert_eq!(events.iter().filter(|(name, _)| name == "done").count(), 1, "{channel}");
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let blocks = std::str::from_utf8(&body).unwrap().matches("\n\n").count();
    assert_eq!(blocks, 33, "what was in the queue, and then the end");
}
