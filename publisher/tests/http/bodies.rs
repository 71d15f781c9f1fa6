//! Bodies at their limits, and that no more of one is read than may be kept.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::support::*;

const KIB: usize = 1024;

/// A body without end, of frames of 16 KiB, that counts what was taken of it.
struct Endless {
    taken: Arc<AtomicUsize>,
    announced: u64,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.taken.fetch_add(16 * KIB, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 16 * KIB])))))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.announced);
        hint
    }
}

fn endless(announced: usize) -> (Arc<AtomicUsize>, Body) {
    let taken = Arc::new(AtomicUsize::new(0));
    let body = Endless { taken: Arc::clone(&taken), announced: announced as u64 };
    (taken, Body::new(body))
}

fn too_large(field: &str, limit: usize) -> String {
    let detail = format!("{field} has more than {limit} bytes");
    format!(r#"too-large","title":"too large","status":413,"detail":"{detail}","field":"{field}","limit":{limit}}}"#)
}

#[tokio::test]
async fn no_more_is_read_than_the_limit() {
    let server = Server::new();
    for (uri, content_type, field, limit) in [
        ("/publish", JSON, "body", 8 * 65_536 + 65_536),
        ("/publish", NDJSON, "body", 16 * KIB * KIB),
        ("/channels/c/events", "text/plain", "data", 65_536),
        ("/api/sse/notify", FORM, "body", 8 * 65_536 + 65_536),
    ] {
        let (taken, body) = endless(0);
        server.refuses_request(post(uri, content_type, body), &too_large(field, limit)).await;
        assert_eq!(taken.load(Ordering::Relaxed), limit + 16 * KIB, "{uri}: the frame that is too much is the last");
        let (taken, body) = endless(limit + 1);
        server.refuses_request(post(uri, content_type, body), &too_large(field, limit)).await;
        assert_eq!(taken.load(Ordering::Relaxed), 0, "{uri}: its length was announced");
    }
}

#[tokio::test]
async fn a_body_that_is_not_needed_is_not_read() {
    let server = Server::new();
    for (uri, content_type, status) in [
        ("/publish", "text/plain", 415),
        ("/channels/sse.x/events", "text/plain", 400),
        ("/channels/c/events?retry=x", "text/plain", 400),
        ("/api/sse/notify?userId=1&message=m", FORM, 200),
        ("/api/sse/notify?userId=1", JSON, 400),
    ] {
        let (taken, body) = endless(0);
        assert_eq!(server.send(post(uri, content_type, body)).await.status, status, "{uri}");
        assert_eq!(taken.load(Ordering::Relaxed), 0, "{uri}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off() {
    let server = Server::new();
    let expected = r#"incomplete-body","title":"incomplete body","status":400,"detail":"the body broke off before its end","field":"#;
    for (uri, content_type, field) in
        [("/publish", JSON, "body"), ("/publish", NDJSON, "body"), ("/channels/c/events", JSON, "data")]
    {
        let frames = [Ok(Bytes::from_static(b"{\"channel\":\"c\"}\n")), Err(std::io::Error::other("reset"))];
        let body = Body::from_stream(futures_util::stream::iter(frames));
        server.refuses_request(post(uri, content_type, body), &format!(r#"{expected}"{field}"}}"#)).await;
    }
}

#[tokio::test]
async fn data_at_its_limit() {
    let server = Server::new();
    let json = |data: &str| post("/publish", JSON, format!(r#"{{"channel":"c","data":{data}}}"#));
    let string = |unit: &str, n: usize| format!("\"{}\"", unit.repeat(n));
    let array = |n: usize| format!("[{}]", " ".repeat(n - 2));
    for (fits, too_much) in [
        (string("x", 65_536), string("x", 65_537)),
        // Measured decoded: the escapes are six times as long.
        (string("\\u0041", 65_536), string("\\u0041", 65_537)),
        (string("\\n", 65_536), string("\\n", 65_537)),
        // Three bytes each.
        (string("한", 21_845), string("한", 21_846)),
        (string("\\ud55c", 21_845), string("\\ud55c", 21_846)),
        // Anything else is measured as its JSON text.
        (array(65_536), array(65_537)),
        ("1".repeat(65_536), "1".repeat(65_537)),
    ] {
        assert_eq!(server.send(json(&fits)).await.status, 200, "{}", &fits[..8]);
        assert_eq!(server.payloads(), [sent("c", &format!(r#"{{"data":{fits}}}"#))]);
        server.refuses_request(json(&too_much), &too_large("data", 65_536)).await;
    }
    let raw = |n: usize| post("/channels/c/events", "text/plain", "\n".repeat(n));
    assert_eq!(server.send(raw(65_536)).await.status, 200);
    server.asked();
    server.refuses_request(raw(65_537), &too_large("data", 65_536)).await;
}

#[tokio::test]
async fn a_json_body_at_its_limit() {
    let server = Server::new();
    let padded = |n: usize| post("/publish", JSON, format!("{}{{\"channel\":\"c\"}}", " ".repeat(n - 15)));
    assert_eq!(server.send(padded(589_824)).await.status, 200);
    server.asked();
    server.refuses_request(padded(589_825), &too_large("body", 589_824)).await;
}
