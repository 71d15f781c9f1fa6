//! `POST /publish` as NDJSON.

use publisher::http::Limits;

use crate::support::*;

async fn batch(server: &Server, body: impl Into<axum::body::Body>) -> Response {
    server.send(post("/publish", NDJSON, body)).await
}

#[tokio::test]
async fn an_answer_a_line_in_the_same_order() {
    let server = Server::new();
    let lines = concat!(
        r#"{"channel":"a","data":{"b":1.50,"a":1e400},"once":"k"}"#,
        "\n\r\n  \n",
        r#"{"channels":["a","b"],"data":"둘"}"#,
        "\r\n",
        r#"{"channel":"a","once":"k"}"#,
        "\n",
        r#"{"channel":"c","ephemeral":true}"#,
    );
    let response = batch(&server, lines).await;
    let expected = concat!(
        r#"{"id":"1-0_abcde","receivers":2}"#,
        "\n",
        r#"{"results":[{"channel":"a","id":"2-0_abcde","receivers":2},{"channel":"b","id":"3-0_abcde","receivers":2}]}"#,
        "\n",
        r#"{"id":"1-0_abcde","receivers":0,"duplicate":true}"#,
        "\n",
        r#"{"id":null,"receivers":2}"#,
        "\n",
    );
    response.is_ok(NDJSON, expected);
    let two = r#"{"data":"둘"}"#;
    assert_eq!(
        server.payloads(),
        [
            sent("a", r#"{"data":{"b":1.50,"a":1e400}}"#),
            sent("a", two),
            sent("b", two),
            sent("a", "{}"),
            sent("c", "{}")
        ]
    );
}

#[tokio::test]
async fn a_wrong_line_is_answered_in_its_place_and_does_not_stop_the_rest() {
    let server = Server::new();
    let lines = concat!(
        r#"{"channel":"a"}"#,
        "\n\n",
        r#"{"channel":"b","data":}"#,
        "\n",
        r#"{"channel":"down"}"#,
        "\n",
        r#"{"channel":"b","chanel":1}"#,
        "\n",
        r#"{"channel":"c"}"#,
        "\n",
    );
    let response = batch(&server, lines).await;
    let expected = concat!(
        r#"{"id":"1-0_abcde","receivers":2}"#,
        "\n",
        r#"{"type":"urn:problem:sse:malformed-json","title":"malformed JSON","status":400,"detail":"expected value at line 3 column 23","field":"body"}"#,
        "\n",
        r#"{"type":"urn:problem:sse:unavailable","title":"broker not available","status":503,"detail":"the broker is not available: no connection"}"#,
        "\n",
        r#"{"type":"urn:problem:sse:unknown-key","title":"unknown key","status":422,"detail":"unknown key, did you mean channel","field":"chanel"}"#,
        "\n",
        r#"{"id":"2-0_abcde","receivers":2}"#,
        "\n",
    );
    response.is_ok(NDJSON, expected);
    assert_eq!(server.payloads(), [sent("a", "{}"), sent("down", "{}"), sent("c", "{}")]);
}

#[tokio::test]
async fn bytes_that_are_not_text_are_wrong_on_their_line_only() {
    let server = Server::new();
    let response = batch(&server, b"\xFF\xFE\n{\"channel\":\"a\"}".to_vec()).await;
    assert_eq!(response.status, 200);
    let lines: Vec<_> = response.body.lines().collect();
    assert!(lines[0].contains(r#""status":400,"#), "{lines:?}");
    assert_eq!(lines[1], r#"{"id":"1-0_abcde","receivers":2}"#);
}

#[tokio::test]
async fn an_empty_batch_has_an_empty_answer() {
    let server = Server::new();
    batch(&server, "").await.is_ok(NDJSON, "");
    batch(&server, "\n \r\n\n").await.is_ok(NDJSON, "");
}

#[tokio::test]
async fn too_many_lines_leave_nothing_behind() {
    let server = Server::new();
    let lines = |n: usize| "{\"channel\":\"a\"}\n\n".repeat(n);
    let response = batch(&server, lines(1_000)).await;
    assert_eq!((response.status.as_u16(), response.body.lines().count()), (200, 1_000));
    assert_eq!(server.asked().len(), 1_000);
    let problem = r#"too-large","title":"too large","status":413,"detail":"lines has more than 1000 lines","field":"lines","limit":1000}"#;
    server.refuses_request(post("/publish", NDJSON, lines(1_001)), problem).await;
}

#[tokio::test]
async fn a_line_longer_than_could_be_valid() {
    let server = Server::with(Limits { max_data: 0, ..Limits::default() });
    let padded = |n: usize| format!("{}{{\"channel\":\"a\"}}", " ".repeat(n - 15));
    let response = batch(&server, format!("{}\n{}", padded(166_145), padded(166_144))).await;
    let expected = concat!(
        r#"{"type":"urn:problem:sse:too-large","title":"too large","status":413,"detail":"body has more than 166144 bytes","field":"body","limit":166144}"#,
        "\n",
        r#"{"id":"1-0_abcde","receivers":2}"#,
        "\n",
    );
    response.is_ok(NDJSON, expected);
}
