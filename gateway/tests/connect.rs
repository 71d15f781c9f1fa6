//! `/api/sse/connect` and `/api/sse/notify`: one user's own stream, and a text to that user.

use serde_json::Value;

use crate::support::{Gateway, Raw};

async fn notify(gateway: &Gateway, query: &str) -> (u16, String, String) {
    let response = gateway.client.post(gateway.url(&format!("/api/sse/notify?{query}"))).send().await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), content_type, response.text().await.unwrap())
}

fn sent() -> (u16, String, String) {
    (200, "text/plain; charset=utf-8".to_owned(), "알림 전송 완료".to_owned())
}

#[tokio::test]
async fn the_first_words_are_connected() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.get("/api/sse/connect?userId=42").await;
    let head = raw.head().await;
    assert_eq!((head.status.as_str(), head.get("content-type")), ("HTTP/1.1 200 OK", Some("text/event-stream")));
    let first = raw.body_until("\n\n").await;
    assert!(first.starts_with("event: connect\ndata: 연결되었습니다\n"), "{first:?}");
    // The rest of that block primes the client.
    let lines: Vec<&str> = first.lines().collect();
    assert!(
        matches!(lines[2..], [retry, id, ""] if retry.starts_with("retry: ") && id.starts_with("id: ")),
        "{first:?}"
    );
    assert!(raw.body_until("\n\n").await.starts_with("event: sse.open\n"));

    assert_eq!(notify(&gateway, "userId=42&message=hi").await, sent());
    let block = raw.body_until("\n\n").await;
    assert!(block.starts_with("event: notification\ndata: hi\nid: "), "{block:?}");
}

#[tokio::test]
async fn a_notification_for_nobody_is_not_found() {
    let gateway = Gateway::start().await;
    let mut other = gateway.stream("/api/sse/connect?userId=43").await;
    other.opened().await;
    let (status, content_type, body) = notify(&gateway, "userId=42&message=hi").await;
    assert_eq!((status, content_type.as_str()), (404, "application/problem+json"));
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&problem["type"], &problem["status"]), (&"urn:problem:sse:nobody-connected".into(), &404.into()));
    assert_eq!(notify(&gateway, "userId=43&message=hi").await, sent());
    assert_eq!(other.event().await.unwrap().event, "notification", "and nothing of what was not for this user");
}

#[tokio::test]
async fn odd_user_ids() {
    let gateway = Gateway::start().await;
    for user in
        ["%ED%99%8D%EA%B8%B8%EB%8F%99", "a%2Fb%3Fc%26d%3De%23f", "a%2Bb%2540c", "%2E%2E", "O'Neil%22%3C%3E", "sse.x"]
    {
        let mut stream = gateway.stream(&format!("/api/sse/connect?userId={user}")).await;
        assert_eq!(stream.status, 200, "{user}");
        stream.opened().await;
        assert_eq!(
            notify(&gateway, &format!("userId={user}&message=%EC%95%88%EB%85%95%0A%26")).await,
            sent(),
            "{user}"
        );
        assert_eq!(stream.data().await.as_deref(), Some("안녕\n&"), "{user}");
    }
}
