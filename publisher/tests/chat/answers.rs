//! Answers that come to their end, and whoever reads them.

use std::collections::HashSet;

use futures_util::future::join_all;
use publisher::chat::{ChatSettings, Question};
use serde_json::json;
use shared::channel::Channel;
use testkit::{eventually, soon};

use crate::support::{Relay, stream, whole, words};

#[tokio::test]
async fn every_byte_comes_through_and_the_stream_is_the_channel() {
    let relay = Relay::start().await;
    let body = json!({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "words 500"}]});
    let response = soon("the head", relay.post(&body).send()).await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let channel =
        location.strip_prefix("/events?channel=chat%3A").unwrap().strip_suffix("&last_event_id=earliest").unwrap();
    assert!(channel.len() == 32 && channel.bytes().all(|byte| byte.is_ascii_hexdigit()), "{location}");

    let events = stream(response).await;
    assert_eq!(events[0].1, json!({"text": "words 500"}));
    let (text, name, last) = whole(&events);
    assert_eq!((text, &*name, &last["reason"]), (words(500), "done", &json!("stop")));
    let held = relay.history(&Channel::parse(&format!("chat:{channel}")).unwrap()).await;
    assert_eq!(events, held, "the same events with the same ids");
    assert!(events.len() < 100, "{} events of 500 pieces", events.len());
    relay.is_quiet().await;
}

#[tokio::test]
async fn two_hundred_at_once() {
    let relay = Relay::start().await;
    let channels = join_all((0..200).map(|_| relay.ask("words 100"))).await;
    assert_eq!(channels.iter().collect::<HashSet<_>>().len(), 200);
    for channel in &channels {
        let (text, name, _) = relay.answer(channel).await;
        assert_eq!((text, &*name), (words(100), "done"));
    }
    relay.is_quiet().await;
    assert_eq!(relay.model.asked(), 200);
}

#[tokio::test]
async fn more_than_there_may_be() {
    let relay = Relay::with(ChatSettings { max_answers: 2, ..ChatSettings::default() }).await;
    let channels = [relay.ask("hang 1").await, relay.ask("hang 1").await];
    let response = soon("the head", relay.post(&json!({"question": "words 1"})).send()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    assert_eq!(
        response.text().await.unwrap(),
        r#"{"type":"urn:problem:sse:too-many-answers","title":"too many answers","status":503,"detail":"there are 2 answers under way, as many as there may be","limit":2}"#
    );
    for channel in &channels {
        eventually("the cancel to be heard", async || (relay.publisher.cancel(channel).await == Ok(1)).then_some(()))
            .await;
        assert_eq!(relay.answer(channel).await.2["reason"], "cancelled");
    }
    relay.is_quiet().await;
    let channel = relay.ask("words 1").await;
    assert_eq!(relay.answer(&channel).await.0, words(1));
}

#[tokio::test]
async fn cancelled_in_the_midst_the_model_is_hung_up_on() {
    let relay = Relay::start().await;
    let channel = relay.ask("hang 7").await;
    eventually("the model", async || (relay.model.open() == 1).then_some(())).await;
    eventually("a receiver", async || (relay.publisher.cancel(&channel).await.unwrap() > 0).then_some(())).await;
    let (text, name, last) = relay.answer(&channel).await;
    assert!(words(7).starts_with(&text), "{text}");
    assert_eq!((&*name, &last["reason"]), ("done", &json!("cancelled")));
    relay.is_quiet().await;
}

#[tokio::test]
async fn cancelled_before_the_model_is_not_asked() {
    let relay = Relay::start().await;
    let channel = Channel::parse("chat:mine").unwrap();
    relay.publisher.cancel(&channel).await.unwrap();
    let body = json!({"question": "words 5", "channel": "chat:mine"});
    let events = stream(soon("the head", relay.post(&body).send()).await.unwrap()).await;
    let (text, name, last) = whole(&events);
    assert_eq!((&*text, &*name, &last["reason"]), ("", "done", &json!("cancelled")));
    relay.is_quiet().await;
    assert_eq!(relay.model.asked(), 0);
}

#[tokio::test]
async fn who_asked_may_leave_at_any_time() {
    let relay = Relay::start().await;
    let mut response =
        soon("the head", relay.post(&json!({"question": "words 300", "channel": "chat:left"})).send()).await.unwrap();
    soon("some of it", response.chunk()).await.unwrap();
    drop(response);
    // Before there is a head: the question was taken, so it is answered.
    let early = relay.chat.ask(Question::new("words 300"), Some(Channel::parse("chat:early").unwrap()));
    assert!(futures_util::FutureExt::now_or_never(early).is_none());
    for channel in ["chat:left", "chat:early"] {
        let (text, name, _) = relay.answer(&Channel::parse(channel).unwrap()).await;
        assert_eq!((text, &*name), (words(300), "done"), "{channel}");
    }
    relay.is_quiet().await;
}

#[tokio::test]
async fn who_does_not_read_holds_nothing_up() {
    let relay = Relay::start().await;
    let body = json!({"question": "huge 1000", "channel": "chat:slow"});
    let response = soon("the head", relay.post(&body).send()).await.unwrap();
    let channel = Channel::parse("chat:slow").unwrap();
    eventually("the text", async || {
        let page = publisher::Channels::history(&relay.publisher, &channel, shared::position::Position::ZERO, 1_000)
            .await
            .ok()?;
        (page.entries.iter().map(|entry| entry.payload.len()).sum::<usize>() > 900_000).then_some(())
    })
    .await;
    relay.publisher.cancel(&channel).await.unwrap();
    assert_eq!(relay.answer(&channel).await.1, "done");
    relay.is_quiet().await;
    drop(response);
}

#[tokio::test]
async fn what_cannot_be_asked() {
    let relay = Relay::start().await;
    for (kind, body, status, field, limit) in [
        ("text/plain", "x".to_owned(), 415, "content-type", r#""limit":"application/json""#),
        ("application/json", format!(r#"{{"question":"{}"}}"#, "x".repeat(2 << 20)), 413, "body", r#""limit":262144"#),
        (
            "application/json",
            format!(r#"{{"question":"{}"}}"#, "x".repeat(70_000)),
            413,
            "question",
            r#""limit":65536"#,
        ),
        ("application/json", r#"{"question":"x","temperature":1}"#.to_owned(), 422, "temperature", ""),
    ] {
        let request = relay.post(&json!(null)).header("content-type", kind).body(body);
        let mut request = request.build().unwrap();
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        let response = soon("the answer", relay.client.execute(request)).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let text = response.text().await.unwrap();
        assert!(text.contains(&format!(r#""field":"{field}""#)) && text.contains(limit), "{text}");
    }
    let response = relay.client.get(relay.post(&json!(null)).build().unwrap().url().clone()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"POST".parse().unwrap()));
    assert_eq!(relay.model.asked(), 0);
}
