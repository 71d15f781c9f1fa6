//! `POST /publish` with `channels`.

use crate::support::*;

#[tokio::test]
async fn a_result_a_channel_in_the_order_given() {
    let server = Server::new();
    let response = server.publish(r#"{"channels":["b","가","b","a"],"data":1}"#).await;
    response.is_ok(
        JSON,
        r#"{"results":[{"channel":"b","id":"1-0_abcde","receivers":2},{"channel":"가","id":"2-0_abcde","receivers":2},{"channel":"a","id":"3-0_abcde","receivers":2}]}"#,
    );
    let payload = r#"{"data":1}"#;
    assert_eq!(server.payloads(), [sent("b", payload), sent("가", payload), sent("a", payload)]);
}

#[tokio::test]
async fn one_entry_is_still_a_list() {
    let server = Server::new();
    let response = server.publish(r#"{"channels":["user:nobody"],"ephemeral":true}"#).await;
    response.is_ok(JSON, r#"{"results":[{"channel":"user:nobody","id":null,"receivers":0}]}"#);
}

#[tokio::test]
async fn once_is_by_channel() {
    let server = Server::new();
    server.publish(r#"{"channel":"b","once":"k"}"#).await;
    let response = server.publish(r#"{"channels":["a","b"],"once":"k"}"#).await;
    response.is_ok(
        JSON,
        r#"{"results":[{"channel":"a","id":"2-0_abcde","receivers":2},{"channel":"b","id":"1-0_abcde","receivers":0,"duplicate":true}]}"#,
    );
}

#[tokio::test]
async fn one_channel_failing_does_not_stop_the_others() {
    let server = Server::new();
    let response = server.publish(r#"{"channels":["a","down","b"]}"#).await;
    response.is_ok(
        JSON,
        r#"{"results":[{"channel":"a","id":"1-0_abcde","receivers":2},{"channel":"down","error":"the broker is not available: no connection"},{"channel":"b","id":"2-0_abcde","receivers":2}]}"#,
    );
}

#[tokio::test]
async fn all_failing_is_503() {
    let server = Server::new();
    let response = server.publish(r#"{"channels":["down:1","down:2"]}"#).await;
    response.is_problem(
        r#"unavailable","title":"broker not available","status":503,"detail":"the broker is not available: no connection"}"#,
    );
    assert_eq!(response.header("retry-after"), Some("2"));
    assert_eq!(server.payloads(), [sent("down:1", "{}"), sent("down:2", "{}")], "each was tried");
}

#[tokio::test]
async fn as_many_channels_as_allowed() {
    let server = Server::new();
    let list = |n: usize| format!(r#"{{"channels":{:?}}}"#, (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>());
    assert_eq!(server.publish(&list(64)).await.status, 200);
    assert_eq!(server.asked().len(), 64);
    let problem = r#"invalid-value","title":"invalid value","status":400,"detail":"channels has 65 entries, it takes 1 to 64","field":"channels","limit":64}"#;
    server.refuses(&list(65), problem).await;
    let problem = r#"invalid-value","title":"invalid value","status":400,"detail":"channels has 0 entries, it takes 1 to 64","field":"channels","limit":64}"#;
    server.refuses(r#"{"channels":[]}"#, problem).await;
}

#[tokio::test]
async fn a_wrong_channel_is_told_by_its_place_and_none_is_published_to() {
    let server = Server::new();
    let body = |third: &str| format!(r#"{{"channels":["a","a",{third}]}}"#);
    let invalid = |detail: &str, rest: &str| {
        format!(
            r#"invalid-value","title":"invalid value","status":400,"detail":"{detail}","field":"channels[2]"{rest}}}"#
        )
    };
    server.refuses(&body(r#""""#), &invalid("a channel name is empty", "")).await;
    let long = format!(r#""{}""#, "x".repeat(257));
    let problem = invalid("a channel name has 257 bytes, the limit is 256", r#","limit":256"#);
    server.refuses(&body(&long), &problem).await;
    let problem = r#"reserved-name","title":"reserved name","status":400,"detail":"channels beginning sse. are the cluster's own, nobody publishes to them","field":"channels[2]"}"#;
    server.refuses(&body(r#""sse.control""#), problem).await;
    let problem = r#"wrong-type","title":"wrong type","status":400,"detail":"channels[2] has to be a string of Unicode text","field":"channels[2]"}"#;
    for wrong in ["1", "null", r#"["a"]"#, r#""\ud800""#] {
        server.refuses(&body(wrong), problem).await;
    }
}
