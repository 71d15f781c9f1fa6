//! `POST /api/sse/notify`.

use axum::body::Body;
use http::Request;

use crate::support::*;

const TEXT: &str = "text/plain; charset=utf-8";
const SENT: &str = "알림 전송 완료";

fn notify(query: &str) -> Request<Body> {
    Request::post(format!("/api/sse/notify{query}")).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn publishes_on_the_users_channel() {
    let server = Server::new();
    server.send(notify("?userId=42&message=%EC%95%88%EB%85%95+%26+hi&x=1")).await.is_ok(TEXT, SENT);
    server.send(notify("?message=&userId=%EA%B9%80")).await.is_ok(TEXT, SENT);
    assert_eq!(
        server.payloads(),
        [
            sent("user:42", r#"{"event":"notification","data":"안녕 & hi"}"#),
            sent("user:김", r#"{"event":"notification","data":""}"#)
        ]
    );
}

#[tokio::test]
async fn nobody_connected_is_404_and_the_event_is_published_all_the_same() {
    let server = Server::new();
    let response = server.send(notify("?userId=nobody&message=m")).await;
    response.is_problem(
        r#"nobody-connected","title":"nobody is connected as that user","status":404,"detail":"nobody is connected as that user; the event is kept in history all the same"}"#,
    );
    assert_eq!(server.payloads(), [sent("user:nobody", r#"{"event":"notification","data":"m"}"#)]);
}

#[tokio::test]
async fn values_from_a_form_but_the_query_wins() {
    let server = Server::new();
    let uri = "/api/sse/notify";
    let form = "userId=1&message=%ED%95%9C+form";
    server.send(post(uri, FORM, form)).await.is_ok(TEXT, SENT);
    server.send(post(&format!("{uri}?userId=2"), &format!("{FORM}; charset=UTF-8"), form)).await.is_ok(TEXT, SENT);
    server.send(post(&format!("{uri}?message=q&userId=3"), FORM, "userId=%FF")).await.is_ok(TEXT, SENT);
    let payload = r#"{"event":"notification","data":"한 form"}"#;
    assert_eq!(
        server.payloads(),
        [sent("user:1", payload), sent("user:2", payload), sent("user:3", r#"{"event":"notification","data":"q"}"#)]
    );
}

#[tokio::test]
async fn refuses() {
    let server = Server::new();
    let missing = |field: &str| {
        let detail = format!("{field} is needed, in the query or in a form");
        format!(r#"missing-value","title":"missing value","status":400,"detail":"{detail}","field":"{field}"}}"#)
    };
    let invalid = |field: &str, detail: &str, rest: &str| {
        format!(r#"invalid-value","title":"invalid value","status":400,"detail":"{detail}","field":"{field}"{rest}}}"#)
    };
    server.refuses_request(notify(""), &missing("userId")).await;
    server.refuses_request(notify("?message=m"), &missing("userId")).await;
    server.refuses_request(notify("?userId=42"), &missing("message")).await;
    server.refuses_request(post("/api/sse/notify?userId=42", "text/plain", "message=m"), &missing("message")).await;
    server.refuses_request(post("/api/sse/notify?userId=42", FORM, "x=1"), &missing("message")).await;
    let empty = invalid("userId", "a channel name is empty", "");
    server.refuses_request(notify("?userId=&message=m"), &empty).await;
    let rules = "(no control characters, white space, '{', '}' or '*')";
    let space = invalid("userId", &format!("a channel name may not have ' ' {rules}"), "");
    server.refuses_request(notify("?userId=4+2&message=m"), &space).await;
    let long = invalid("userId", "a channel name has 257 bytes, the limit is 256", r#","limit":256"#);
    server.refuses_request(notify(&format!("?userId={}&message=m", "x".repeat(252))), &long).await;
    let legacy = invalid("message", "message is not percent-encoded UTF-8", "");
    server.refuses_request(notify("?userId=42&message=%BE%C8%B3%E7"), &legacy).await;
    let twice = r#"duplicate-key","title":"duplicate key","status":400,"detail":"userId is given more than once","field":"userId"}"#;
    server.refuses_request(notify("?userId=1&userId=2&message=m"), twice).await;
    let large = r#"too-large","title":"too large","status":413,"detail":"message has more than 65536 bytes","field":"message","limit":65536}"#;
    let form = |n: usize| post("/api/sse/notify?userId=42", FORM, format!("message={}", "%61".repeat(n)));
    server.refuses_request(form(65_537), large).await;
    server.send(form(65_536)).await.is_ok(TEXT, SENT);
}

#[tokio::test]
async fn an_absent_broker_is_503() {
    let response = Server::down().send(notify("?userId=1&message=m")).await;
    assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, Some("2")));
}
