//! Where an answer ends, and that all of its text comes before that.

use super::*;

fn done() -> Act {
    send("data: [DONE]\n\n")
}

/// A chunk that says with its text that this is the end.
fn both(text: &str, reason: &str) -> Act {
    let chunk = serde_json::json!({"choices": [{"delta": {"content": text}, "finish_reason": reason}]});
    send(&format!("data: {chunk}\n\n"))
}

fn outcome(text: &str, reason: &str) -> (String, Result<String, SourceError>) {
    (text.to_owned(), Ok(reason.to_owned()))
}

/// The text in one, and the end.
async fn whole(acts: Vec<Act>) -> (String, Result<String, SourceError>) {
    let (texts, end) = ask(acts).await;
    (texts.concat(), end)
}

#[tokio::test(start_paused = true)]
async fn a_reason_on_each_chunk_is_no_end() {
    let later = || Act::Wait(5_000);
    for (acts, text, reason) in [
        (vec![head(), both("a", "stop"), both("b", "stop"), both("c", "length"), done(), Act::Hold], "abc", "length"),
        (vec![head(), both("a", "stop"), later(), both("b", "stop")], "ab", "stop"),
        (vec![head(), both("", "stop"), later(), delta("a"), later(), delta("b"), done(), Act::Hold], "ab", "stop"),
        (vec![head(), delta("a"), finish("stop"), delta("b"), later(), delta("c"), done()], "abc", "stop"),
        (vec![head(), delta("a"), finish("content_filter"), delta("x"), finish("stop")], "ax", "stop"),
    ] {
        assert_eq!(whole(acts).await, outcome(text, reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silence_behind_a_reason_is_an_end() {
    let comments = || (0..1_000).flat_map(|_| [send(": x\n\n"), Act::Wait(100)]);
    let empty = || (0..1_000).flat_map(|_| [delta(""), Act::Wait(100)]);
    let stall = STALL.as_secs();
    for (acts, seconds) in [
        (vec![head(), delta("a"), finish("stop"), Act::Hold], 1),
        ([head(), delta("a"), finish("stop")].into_iter().chain(comments()).collect(), 1),
        ([head(), delta("a"), finish("stop")].into_iter().chain(empty()).collect(), 1),
        (vec![head(), both("a", "stop"), Act::Hold], stall),
    ] {
        let start = Instant::now();
        assert_eq!(whole(acts).await, outcome("a", "stop"));
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_behind_the_last_word() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n";
    let nonsense = || send("data: {broken\n\n");
    for acts in [
        vec![head(), delta("a"), finish("stop"), nonsense(), Act::Hold],
        vec![head(), delta("a"), finish("stop"), send(&format!("data: {}", "x".repeat(2 << 20))), Act::Hold],
        vec![send(broken), delta("a"), finish("stop")],
    ] {
        assert_eq!(whole(acts).await, outcome("a", "stop"));
    }
    // Where the reason was none, it matters.
    for (acts, code) in [
        (vec![head(), both("a", "stop"), both("b", "stop"), nonsense(), Act::Hold], "upstream_invalid"),
        (vec![send(broken), both("a", "stop"), both("b", "stop")], "upstream_ended"),
        (vec![head(), both("a", "stop"), both("b", "stop"), send("event: error\ndata:\n\n")], "upstream_error"),
    ] {
        let (text, end) = whole(acts).await;
        assert_eq!((&*text, failure(end).0), ("ab", code));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_an_answer_is_none() {
    for (acts, code, detail) in [
        (
            vec![done()],
            "upstream_ended",
            "the upstream ended too early: it said that this was the end, and nothing before",
        ),
        (
            vec![delta(""), send("data: {\"message\":\"hm\"}\n\n"), done()],
            "upstream_ended",
            "the upstream ended too early: it said that this was the end, and nothing before",
        ),
        (
            vec![send("data: {\"text\":\"NETWORK ERROR\",\"error_code\":50004}\n\n"), done()],
            "upstream_error",
            "the upstream failed: NETWORK ERROR",
        ),
        (
            vec![send("data: {\"object\":\"error\",\"message\":\"no such model\"}\n\n"), done()],
            "upstream_error",
            "the upstream failed: no such model",
        ),
    ] {
        let (text, end) = whole([head()].into_iter().chain(acts).collect()).await;
        assert_eq!((text, failure(end)), (String::new(), (code, detail.to_owned())));
    }
    // With a reason it is one, if an empty one.
    assert_eq!(whole(vec![head(), finish("stop"), done()]).await, outcome("", "stop"));
}

#[tokio::test(start_paused = true)]
async fn the_last_text_comes_before_the_failure() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n";
    let last = || send("data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n");
    for acts in [
        // The empty line behind the last event is missing.
        vec![head(), delta("a"), last()],
        vec![send(broken), delta("a"), last()],
        // The first of the last two is fine.
        vec![head(), delta("a"), delta("b"), send("event: error\ndata: x\n")],
    ] {
        let (text, end) = whole(acts).await;
        assert_eq!(text, "ab", "{end:?}");
        assert!(matches!(failure(end).0, "upstream_ended" | "upstream_error"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_event_means_nothing() {
    let acts = vec![head(), send("data:\n\n"), delta("a"), send("data:  \n\n"), send("event: ping\ndata:\n\n"), done()];
    assert_eq!(whole(acts).await, outcome("a", "stop"));
}
