//! Upstreams that behave and that do not, on real sockets. Time stands still, and jumps when everybody waits.

mod ends;
mod tls;
mod words;

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::chat::source::MAX_PIECE;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";
const STALL: Duration = Duration::from_secs(30);

/// What a server does with its only connection, once it has read the request.
enum Act {
    Send(Vec<u8>),
    /// So many milliseconds.
    Wait(u64),
    /// Holds the connection until the client closes it.
    Hold,
}

fn send(text: &str) -> Act {
    Act::Send(text.as_bytes().to_vec())
}

fn head() -> Act {
    send(HEAD)
}

fn delta(text: &str) -> Act {
    send(&format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]})))
}

fn finish(reason: &str) -> Act {
    send(&format!("data: {}\n\n", serde_json::json!({"choices": [{"delta": {}, "finish_reason": reason}]})))
}

/// The request, as it came: head and body.
async fn request(socket: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "the request broke off");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return (head.to_owned(), body.to_owned());
        }
    }
}

/// A server for one connection. The task returns the request, and when the client closed, if it was held.
async fn serve(acts: Vec<Act>) -> (String, JoinSet<((String, String), Option<Instant>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat/completions?v=1", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        drop(listener);
        let request = request(&mut socket).await;
        let mut closed = None;
        for act in acts {
            match act {
                Act::Send(bytes) => {
                    if socket.write_all(&bytes).await.is_err() {
                        return (request, Some(Instant::now()));
                    }
                }
                Act::Wait(ms) => sleep(Duration::from_millis(ms)).await,
                Act::Hold => {
                    let _ = socket.read(&mut [0]).await;
                    closed = Some(Instant::now());
                }
            }
        }
        let _ = socket.shutdown().await;
        (request, closed)
    });
    (url, server)
}

fn settings(url: &str) -> ChatSettings {
    ChatSettings { upstream: Some(url.to_owned()), stall: STALL, ..ChatSettings::default() }
}

/// Asks such a server, to the end: the texts, and why there is no more.
async fn ask(acts: Vec<Act>) -> (Vec<String>, Result<String, SourceError>) {
    let (url, _server) = serve(acts).await;
    ask_at(&settings(&url)).await
}

async fn ask_at(settings: &ChatSettings) -> (Vec<String>, Result<String, SourceError>) {
    let upstream = Upstream::new(settings).unwrap().unwrap();
    let mut answer = upstream.answer(Question::new("왜?"));
    let mut texts = Vec::new();
    loop {
        match answer.next().await.expect("an end") {
            Ok(Piece::Text(text)) => texts.push(text),
            Ok(Piece::End { reason }) => return (texts, Ok(reason)),
            Err(error) => return (texts, Err(error)),
        }
    }
}

/// What kind of failure, and what is told of it.
fn failure(outcome: Result<String, SourceError>) -> (&'static str, String) {
    let error = outcome.unwrap_err();
    (error.code.as_str(), error.detail)
}

#[tokio::test(start_paused = true)]
async fn what_is_asked() {
    let (url, mut server) = serve(vec![head(), delta("hi"), finish("stop"), send("data: [DONE]\n\n")]).await;
    let (key, system) = (Some("s3cret-key".into()), Some("Be brief.".into()));
    let settings = ChatSettings { model: Some("m:8b".into()), key, system, ..settings(&url) };
    assert_eq!(ask_at(&settings).await, (vec!["hi".to_owned()], Ok("stop".to_owned())));
    let ((head, body), _) = server.join_next().await.unwrap().unwrap();
    assert!(head.starts_with("POST /v1/chat/completions?v=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{head}");
    for line in ["authorization: Bearer s3cret-key", "content-type: application/json", "accept: text/event-stream"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    assert_eq!(
        body,
        r#"{"model":"m:8b","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"왜?"}],"stream":true}"#
    );
}

#[tokio::test(start_paused = true)]
async fn however_it_is_cut_text_is_whole() {
    let mut stream = HEAD.as_bytes().to_vec();
    let texts = ["한", "글 😀", "\r\n", "\n\nend"];
    stream.extend_from_slice(b": thinking\n\n");
    for text in texts {
        let Act::Send(bytes) = delta(text) else { unreachable!() };
        stream.extend(bytes);
    }
    stream.extend_from_slice(b"data: {\"choices\":[],\"usage\":{}}\r\n\r\ndata: [DONE]\r\n\r\n");
    for size in [1, 2, 3, 7, stream.len()] {
        let acts = stream.chunks(size).flat_map(|bytes| [Act::Send(bytes.to_vec()), Act::Wait(1)]).collect();
        assert_eq!(ask(acts).await, (texts.map(str::to_owned).to_vec(), Ok("stop".to_owned())), "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends() {
    let done = || send("data: [DONE]\n\n");
    for (acts, reason) in [
        (vec![head(), delta("a"), done()], "stop"),
        (vec![head(), delta("a"), finish("length"), done(), Act::Hold], "length"),
        (vec![head(), delta("a"), finish("content_filter"), finish("stop")], "stop"),
        (vec![head(), delta("a"), send("data: [DONE]\n")], "stop"),
        (vec![head(), delta("a"), finish("stop"), send("data: {broken")], "stop"),
    ] {
        assert_eq!(ask(acts).await, (vec!["a".to_owned()], Ok(reason.to_owned())));
    }
}

#[tokio::test(start_paused = true)]
async fn refusals() {
    let answer = |status: &str, kind: &str, body: &str| {
        let length = body.len();
        vec![
            send(&format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")),
            Act::Hold,
        ]
    };
    for (status, kind, body, code, detail) in [
        (
            "401 Unauthorized",
            "application/json",
            r#"{"error":{"message":"Incorrect API key: s3cret-key"}}"#,
            "upstream_status",
            "the upstream answered 401 Unauthorized: Incorrect API key: ***",
        ),
        (
            "429 Too Many Requests",
            "application/json",
            r#"{"error":"slow down"}"#,
            "upstream_status",
            "the upstream answered 429 Too Many Requests: slow down",
        ),
        (
            "500 Internal Server Error",
            "text/html",
            "",
            "upstream_status",
            "the upstream answered 500 Internal Server Error",
        ),
        ("302 Found", "text/plain", "elsewhere", "upstream_status", "the upstream answered 302 Found: elsewhere"),
        (
            "200 OK",
            "application/json",
            r#"{"error":{"message":"no such model"}}"#,
            "upstream_error",
            "the upstream failed: no such model",
        ),
        (
            "200 OK",
            "application/json",
            r#"{"choices":[]}"#,
            "upstream_invalid",
            "the upstream is not understood: it answered with something else than an event stream",
        ),
    ] {
        let (url, _server) = serve(answer(status, kind, body)).await;
        let settings = ChatSettings { key: Some("s3cret-key".into()), ..settings(&url) };
        assert_eq!(failure(ask_at(&settings).await.1), (code, detail.to_owned()));
    }
    // Without an end only so much is read.
    let head = "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n";
    let (code, detail) = failure(ask(vec![send(head), send(&"한".repeat(10_000)), Act::Hold]).await.1);
    assert_eq!(
        (code, detail.chars().count()),
        ("upstream_status", "the upstream answered 500 Internal Server Error: ".len() + 500)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood() {
    for (wrong, code, detail) in [
        (send("data: {\"choices\":[{\n\n"), "upstream_invalid", "an event of it is no chunk of an answer: EOF"),
        (send("data: [\"한\"] 5\n\n"), "upstream_invalid", "an event of it is no chunk"),
        (
            send("data: {\"error\":{\"message\":\"out of\\nmemory\"}}\n\n"),
            "upstream_error",
            "the upstream failed: out of memory",
        ),
        (send("event: error\ndata: gone\n\n"), "upstream_error", "the upstream failed: gone"),
        (send(&format!("data: {}", "x".repeat(10 << 20))), "upstream_invalid", "longer than 1048576 bytes"),
        (send(&"data: x\n".repeat(1 << 20)), "upstream_invalid", "longer than 1048576 bytes"),
    ] {
        let (texts, outcome) = ask(vec![head(), delta("a"), wrong, Act::Hold]).await;
        let (got, told) = failure(outcome);
        assert_eq!((texts, got), (vec!["a".to_owned()], code), "what came before is not lost: {told}");
        assert!(told.contains(detail) && told.len() < 600, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_too_early() {
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let Act::Send(first) = delta("a") else { unreachable!() };
    let first = format!("{:x}\r\n{}\r\n", first.len(), String::from_utf8(first).unwrap());
    for (acts, detail) in [
        (vec![head(), delta("a")], "it did not say that this was the end"),
        (vec![head(), delta("a"), send("data: {\"choices\":[]}")], "it did not say that this was the end"),
        (vec![send(chunked), send(&first), send("ff\r\ndata")], "the connection broke off"),
    ] {
        let (texts, outcome) = ask(acts).await;
        let (code, told) = failure(outcome);
        assert_eq!((texts, code), (vec!["a".to_owned()], "upstream_ended"), "{told}");
        assert!(told.contains(detail), "{told}");
    }
    let (code, _) = failure(ask(vec![]).await.1);
    assert_eq!(code, "upstream_unreachable", "it took the question and went away");
}

#[tokio::test(start_paused = true)]
async fn it_stalls() {
    let stall = STALL.as_secs();
    let comments = || (0..40).flat_map(|_| [send(": still here\n\n"), Act::Wait(10_000)]);
    let empty = || (0..40).flat_map(|_| [delta(""), Act::Wait(10_000)]);
    for (acts, seconds, detail) in [
        (vec![Act::Hold], 4 * stall, "it did not answer for 2m"),
        (vec![head(), Act::Hold], 4 * stall, "it sent no text for 2m"),
        (vec![head(), delta("a"), Act::Hold], stall, "it sent nothing for 30s"),
        ([head(), delta("a")].into_iter().chain(comments()).collect(), 4 * stall, "it sent no text for 2m"),
        (
            [head(), delta("a")].into_iter().chain(empty()).chain([Act::Hold]).collect(),
            400 + stall - 10,
            "it sent nothing for 30s",
        ),
    ] {
        let start = Instant::now();
        let (code, told) = failure(ask(acts).await.1);
        assert_eq!((code, &*told), ("upstream_stalled", &*format!("the upstream stalled: {detail}")));
        assert_eq!(start.elapsed().as_secs(), seconds, "{detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn our_own_slowness_is_not_its_fault() {
    // The comment comes when nobody looks, and the rest just after somebody does again.
    let late = Act::Wait(20 * 1_000 * STALL.as_secs());
    let acts = vec![head(), delta("a"), delta("b"), Act::Wait(1), send(": x\n\n"), late, delta("c"), finish("stop")];
    let (url, _server) = serve(acts).await;
    let upstream = Upstream::new(&settings(&url)).unwrap().unwrap();
    let mut answer = upstream.answer(Question::new("x"));
    for expected in ["a", "b", "c"] {
        assert_eq!(answer.next().await, Some(Ok(Piece::Text(expected.to_owned()))));
        sleep(STALL * 10).await;
    }
    assert_eq!(answer.next().await, Some(Ok(Piece::End { reason: "stop".to_owned() })));
    assert_eq!(answer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_drops_the_stream_closes_the_connection() {
    let (url, mut server) = serve(vec![head(), delta("a"), Act::Hold]).await;
    let upstream = Upstream::new(&settings(&url)).unwrap().unwrap();
    let mut answer = upstream.answer(Question::new("x"));
    assert_eq!(answer.next().await, Some(Ok(Piece::Text("a".to_owned()))));
    let start = Instant::now();
    drop(answer);
    let (_, closed) = server.join_next().await.unwrap().unwrap();
    assert_eq!(closed.unwrap(), start, "at once");
}

#[tokio::test(start_paused = true)]
async fn a_large_piece_comes_in_several() {
    let text = "한".repeat(20_000);
    let (texts, outcome) = ask(vec![head(), delta(&text), finish("stop")]).await;
    assert_eq!((texts.concat(), outcome), (text, Ok("stop".to_owned())));
    assert!(texts.iter().all(|text| text.len() <= MAX_PIECE));
}

#[tokio::test]
async fn nobody_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let told = failure(ask_at(&settings(&url)).await.1);
    assert_eq!(told, ("upstream_unreachable", "cannot reach the upstream: connection refused".to_owned()));
}
