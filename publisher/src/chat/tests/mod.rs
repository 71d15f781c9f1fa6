//! Answers over a broker and a source that do as they are told. Time stands still, and jumps when everybody waits.

mod broker;
mod ending;
mod support;

use std::time::Duration;

use futures_util::FutureExt as _;

use serde_json::json;

use self::support::{Script, all_over, ask, chat, end, say};
use super::*;

#[tokio::test(start_paused = true)]
async fn an_answer_from_question_to_end() {
    let source = Script::new(vec![say(0, "한"), say(10, "글\r\n"), say(10, "and"), say(100, ""), end("length")]);
    let (chat, broker) = chat(source.clone(), ChatSettings::default());
    let channel = ask(&chat).await;
    assert_eq!(channel.as_str().len(), "chat:".len() + 32);
    all_over(&chat).await;
    let events = broker.events(&channel);
    assert_eq!(events[0], ("question".to_owned(), json!({"text": "왜?"})));
    assert_eq!(events[1], ("chunk".to_owned(), json!({"text": "한"})), "the first piece goes out at once");
    assert_eq!(events[2], ("chunk".to_owned(), json!({"text": "글\r\nand"})), "the next ones together");
    let (text, name, last) = broker.answer(&channel);
    assert_eq!((&*text, &*name), ("한글\r\nand", "done"));
    assert_eq!(last["reason"], "length");
    assert_eq!(serde_json::to_string(&last).unwrap().matches(':').count(), 4, "reason, chunks, bytes, sha256");
    assert_eq!((source.asked(), source.dropped()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_channel_may_be_used_again() {
    let (chat, broker) = chat(Script::new(vec![say(0, "a"), end("stop")]), ChatSettings::default());
    let channel = Channel::parse("chat:mine").unwrap();
    for _ in 0..2 {
        assert_eq!(chat.ask(Question::new("x"), Some(channel.clone())).await.as_ref(), Ok(&channel));
        let again = chat.ask(Question::new("y"), Some(channel.clone())).await;
        assert_eq!(again, Err(AskError::UnderWay), "two answers would be one text");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    all_over(&chat).await;
    assert_eq!(broker.events(&channel).len(), 6, "no once key comes twice");
}

#[tokio::test(start_paused = true)]
async fn other_channels_are_not_for_answers() {
    let (chat, broker) = chat(Script::new(vec![say(0, "a"), end("stop")]), ChatSettings::default());
    let channel = Channel::parse("user:42").unwrap();
    let refused = chat.ask(Question::new("x"), Some(channel.clone())).await;
    assert_eq!(refused, Err(AskError::Foreign { prefix: "chat:".to_owned() }));
    all_over(&chat).await;
    assert_eq!(broker.events(&channel).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_name_is_told_is_not_answered() {
    let source = Script::new(vec![say(0, "a"), end("stop")]);
    let (chat, _broker) = chat(source.clone(), ChatSettings::default());
    assert!(chat.ask(Question::new("x"), None).now_or_never().is_none());
    all_over(&chat).await;
    assert_eq!(source.asked(), 0, "nobody could read it");
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_fits_what_is_replayed() {
    let steps = std::iter::repeat_n(say(20, "word "), 59_000).chain([end("stop")]).collect();
    let settings = ChatSettings { max_time: Duration::from_secs(1_200), max_bytes: 3 << 20, ..ChatSettings::default() };
    let (chat, broker) = chat(Script::new(steps), settings);
    let channel = ask(&chat).await;
    all_over(&chat).await;
    assert_eq!(broker.answer(&channel).0.len(), 59_000 * 5);
    let events = broker.events(&channel).len();
    assert!((900..1_000).contains(&events), "{events}");
}

#[tokio::test(start_paused = true)]
async fn chunks_are_events_whatever_is_in_them() {
    // The worst that JSON can make of text, and characters that must not be torn.
    for (letter, count) in [("\u{1}", 50_000), ("한", 50_000), ("😀", 10_000)] {
        let piece = letter.repeat(MAX_PIECE / letter.len());
        let pieces = letter.len() * count / piece.len();
        let steps = std::iter::repeat_n(say(0, &piece), pieces).chain([end("stop")]).collect();
        let (chat, broker) = chat(Script::new(steps), ChatSettings::default());
        let channel = ask(&chat).await;
        all_over(&chat).await;
        let (text, name, _) = broker.answer(&channel);
        assert_eq!((text, &*name), (piece.repeat(pieces), "done"), "{letter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_at_a_time() {
    let source = Script::new(vec![say(1_000, "a"), end("stop")]);
    let (chat, broker) = chat(source, ChatSettings { max_answers: 2, ..ChatSettings::default() });
    let channels = [ask(&chat).await, ask(&chat).await];
    assert_ne!(channels[0], channels[1]);
    let refused = chat.ask(Question::new("x"), None).await;
    assert_eq!(refused, Err(AskError::Busy { max: 2 }));
    tokio::time::sleep(Duration::from_secs(2)).await;
    ask(&chat).await;
    all_over(&chat).await;
    let refused = chat.ask(Question::new("x"), None).await;
    assert_eq!(refused, Err(AskError::Stopping));
    for channel in channels {
        assert_eq!(broker.answer(&channel).1, "done");
    }
}
