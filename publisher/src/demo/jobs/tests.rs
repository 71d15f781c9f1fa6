//! The route as a client asks it: what is answered, what is refused, how many there may be.

use axum::body::Body;
use futures_util::stream;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::super::fake::Fake;
use super::*;

struct Server {
    fake: Arc<Fake>,
    demo: Arc<Demo>,
}

impl Server {
    fn new() -> Self {
        let fake = Fake::new();
        Self { demo: Demo::new(fake.clone(), fake.clone()), fake }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
        let (head, body) =
            router(self.demo.clone()).layer(Extension(Access::Open)).oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, query: &str, body: impl Into<Body>) -> (StatusCode, http::HeaderMap, String) {
        self.send(Request::post(format!("/demo/jobs{query}")).body(body.into()).unwrap()).await
    }

    /// The channel of a new job.
    async fn job(&self) -> Channel {
        let (status, _, body) = self.post("?name=a.txt", "text").await;
        assert_eq!(status, 202, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        Channel::parse(body["channel"].as_str().unwrap()).unwrap()
    }

    async fn refuses(&self, query: &str, body: impl Into<Body>, expected: &str) {
        let (status, _, body) = self.post(query, body).await;
        assert_eq!(body, format!(r#"{{"type":"urn:problem:sse:{expected}"#), "{query}");
        assert!(body.contains(&format!(r#""status":{}"#, status.as_u16())), "{status} {body}");
        assert_eq!(self.fake.tries(), 0, "{query}");
    }
}

/// A body that tells no length and is asked for its bytes piece by piece.
fn chunked(pieces: usize, bytes: usize) -> Body {
    let piece = Bytes::from(vec![b'x'; bytes]);
    Body::from_stream(stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
}

#[tokio::test]
async fn what_a_job_may_have() {
    let (status, _, body) = Server::new().send(Request::get("/demo/jobs").body(Body::empty()).unwrap()).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"max_bytes":8388608}"#));
    let (status, headers, _) = Server::new().send(Request::put("/demo/jobs").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 405);
    assert!(headers["allow"].to_str().unwrap().contains("POST"), "{headers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_is_told_where_to_listen_and_runs_to_its_end() {
    let server = Server::new();
    let (status, headers, body) = server.post("?name=%EA%B0%80%20%26.txt", "one two").await;
    assert_eq!(status, 202);
    let channel = body.strip_prefix(r#"{"channel":"job:"#).and_then(|rest| rest.get(..32)).unwrap().to_owned();
    let location = format!("/events?channel=job%3A{channel}&last_event_id=earliest");
    assert_eq!(body, format!(r#"{{"channel":"job:{channel}","location":"{location}"}}"#));
    assert_eq!(headers["location"].to_str().unwrap(), location);
    let channel = format!("job:{channel}");
    assert_eq!(
        server.fake.payloads(&channel),
        [r#"{"event":"started","data":{"name":"가 &.txt","bytes":7}}"#],
        "before the answer"
    );
    server.demo.close();
    server.demo.wait().await;
    assert_eq!(server.fake.payloads(&channel).len(), 82);
    assert!(server.fake.is_ended(&channel));
}

#[tokio::test]
async fn names_that_no_file_has() {
    let server = Server::new();
    let value = r#"invalid-value","title":"invalid value","status":400,"detail":"#;
    server
        .refuses(
            "",
            "x",
            r#"missing-value","title":"missing value","status":400,"detail":"name is missing: what the file is called","field":"name"}"#,
        )
        .await;
    let length =
        |bytes| format!(r#"{value}"name has {bytes} bytes, a file's name has 1 to 255","field":"name","limit":255}}"#);
    server.refuses("?name=", "x", &length(0)).await;
    server.refuses(&format!("?name={}", "n".repeat(256)), "x", &length(256)).await;
    for (query, control) in [("?name=a%0Ab", "{a}"), ("?name=%00", "{0}"), ("?name=%C2%85", "{85}")] {
        let detail = format!(r"name may not have the control character \\u{control}");
        server.refuses(query, "x", &format!(r#"{value}"{detail}","field":"name"}}"#)).await;
    }
    server.refuses("?name=%FF", "x", &format!(r#"{value}"name is not percent-encoded UTF-8","field":"name"}}"#)).await;
    server
        .refuses(
            "?name=a&name=b",
            "x",
            r#"duplicate-key","title":"duplicate key","status":400,"detail":"name is given more than once","field":"name"}"#,
        )
        .await;
    let (status, ..) = server.post(&format!("?name={}", "n".repeat(255)), "x").await;
    assert_eq!(status, 202);
}

#[tokio::test]
async fn bodies_that_are_too_large_or_empty() {
    let server = Server::new();
    let too_large = r#"too-large","title":"too large","status":413,"detail":"body has more than 8388608 bytes","field":"body","limit":8388608}"#;
    server.refuses("?name=a", vec![b'x'; MAX_JOB_BYTES + 1], too_large).await;
    // It is not read any further: there would be no end of it.
    server.refuses("?name=a", chunked(1_000_000, MAX_JOB_BYTES / 8 + 1), too_large).await;
    let empty = r#"invalid-value","title":"invalid value","status":400,"detail":"body has 0 bytes, a text has 1 to 8388608","field":"body","limit":1}"#;
    server.refuses("?name=a", Body::empty(), empty).await;
    let (status, _, body) = server.post("?name=a", chunked(8, MAX_JOB_BYTES / 8)).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(server.demo.places.available_permits(), MAX_JOBS - 1, "what was refused holds no place");
}

#[tokio::test(start_paused = true)]
async fn eight_at_a_time_and_places_come_back() {
    let server = Server::new();
    let mut jobs = Vec::new();
    for _ in 0..MAX_JOBS {
        jobs.push(server.job().await);
    }
    let (status, headers, body) = server.post("?name=a", "x").await;
    assert_eq!((status.as_u16(), headers["retry-after"].to_str().unwrap()), (503, "4"));
    assert_eq!(
        body,
        r#"{"type":"urn:problem:sse:too-many-jobs","title":"too many jobs","status":503,"detail":"8 jobs are under way, or their files, which is the limit; a job takes about eight seconds","limit":8}"#
    );
    let (status, ..) = server.post("?name=a", vec![b'x'; MAX_JOB_BYTES + 1]).await;
    assert_eq!(status, 413, "there is no use in coming back with it");
    server.fake.cancel(&jobs[0]).await.unwrap();
    while !server.fake.is_ended(jobs[0].as_str()) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    tokio::task::yield_now().await;
    server.job().await;
    server.demo.close();
    server.demo.wait().await;
    assert!(jobs.iter().all(|job| server.fake.is_ended(job.as_str())));
    assert_eq!(server.demo.places.available_permits(), MAX_JOBS);
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_at_once() {
    let server = Server::new();
    server.fake.set_error(Some(Fake::away()));
    let (status, headers, _) = server.post("?name=a", "x").await;
    assert_eq!((status.as_u16(), headers["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(server.demo.places.available_permits(), MAX_JOBS);
    assert!(server.demo.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_all_of_them_and_takes_no_more() {
    let server = Server::new();
    let jobs = [server.job().await, server.job().await];
    assert_eq!(server.demo.under_way(), 2);
    server.demo.close();
    let (status, headers, body) = server.post("?name=a", "x").await;
    assert_eq!((status.as_u16(), headers["retry-after"].to_str().unwrap()), (503, "4"));
    assert!(body.contains(r#""type":"urn:problem:sse:stopping""#), "{body}");
    server.demo.stop();
    server.demo.wait().await;
    for job in jobs {
        let last = server.fake.payloads(job.as_str()).pop().unwrap();
        assert_eq!(last, r#"{"event":"failed","data":{"detail":"stopped"},"end":true}"#);
    }
}
