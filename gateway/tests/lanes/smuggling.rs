//! Requests that two readers may take for different ones: a proxy in front may see one request where we see two, or the other
//! way about. Either lane reads as the other does, and nothing that stands behind what is ambiguous is answered.

use super::exchange::{Both, Case, closed, get, kept, stream};
use crate::support::{Gateway, Lane, Raw};

const BODY: &str = r#"{"channels":["a"]}"#;

/// What is to be smuggled: its answer would be a 404.
fn smuggled() -> String {
    get("/nothing", "")
}

/// A request for a stream with these lines and this behind it, then what is to be smuggled.
fn with(lines: &str, body: &str) -> String {
    stream(lines) + body + &smuggled()
}

/// The same by `POST`.
fn post(lines: &str, body: &str) -> String {
    format!("POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{lines}\r\n{body}") + &smuggled()
}

async fn compare(cases: Vec<Case>) {
    Both::start("").await.compare(cases).await;
}

#[tokio::test]
async fn lengths() {
    let refused = |name: &str, lines: &str| closed(name, with(lines, "abcde"), &[400]);
    compare(vec![
        refused("a length with a sign", "Content-Length: +5\r\n"),
        refused("a hexadecimal length", "Content-Length: 0x5\r\n"),
        refused("a length of two words", "Content-Length: 0 5\r\n"),
        refused("a list of two lengths", "Content-Length: 5, 5\r\n"),
        refused("a length and a comma", "Content-Length: 5,\r\n"),
        refused("a fraction", "Content-Length: 5.0\r\n"),
        refused("digits of other letters", "Content-Length: ５\r\n"),
        refused("two lengths", "Content-Length: 5\r\nContent-Length: 0\r\n"),
        refused("two lengths, the longer one last", "Content-Length: 0\r\nContent-Length: 5\r\n"),
        refused("a space before the colon", "Content-Length : 5\r\n"),
        refused("a folded length", "Content-Length:\r\n 5\r\n"),
        refused("a length behind a carriage return", "X: y\rContent-Length: 5\r\n"),
        refused("a length behind NUL", "X: y\0Content-Length: 5\r\n"),
        closed("one length twice", with("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"), &[200]),
        closed("a length behind a line feed", with("X: y\nContent-Length: 5\r\n", "abcde"), &[200]),
        closed("zeros before a length", with("Content-Length: 05\r\n", "abcde"), &[200]),
        // Another header: what follows is a request that is none.
        closed("an underscore", with("Content_Length: 5\r\n", "\0\r\n\r\n"), &[200, 400]),
    ])
    .await;
}

#[tokio::test]
async fn encodings() {
    const CHUNKS: &str = "0\r\n\r\n";
    let refused = |name: &str, lines: &str| closed(name, with(lines, CHUNKS), &[400]);
    let taken = |name: &str, lines: &str| closed(name, with(lines, CHUNKS), &[200]);
    compare(vec![
        refused("another encoding", "Transfer-Encoding: xchunked\r\n"),
        refused("another encoding behind", "Transfer-Encoding: chunked, identity\r\n"),
        refused("another encoding below", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        refused("in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
        refused("with a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
        refused("behind a vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
        refused("before NUL", "Transfer-Encoding: chunked\0\r\n"),
        refused("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        refused("a space before the name", " Transfer-Encoding: chunked\r\n"),
        refused("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        refused("behind a carriage return", "X: y\rTransfer-Encoding: chunked\r\n"),
        refused("another one, and a length", "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n"),
        taken("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        taken("twice in a list", "Transfer-Encoding: chunked, chunked\r\n"),
        taken("in capital letters", "TRANSFER-ENCODING: CHUNKED\r\n"),
        taken("behind a tab", "Transfer-Encoding:\tchunked\r\n"),
        taken("behind a line feed", "X: y\nTransfer-Encoding: chunked\r\n"),
        taken("and a length", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        taken("and a length behind", "Transfer-Encoding: chunked\r\nContent-Length: 500\r\n"),
        taken("and a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n"),
        closed("by HTTP/1.0", with("Transfer-Encoding: chunked\r\n", CHUNKS).replace("/1.1", "/1.0"), &[400]),
    ])
    .await;
}

#[tokio::test]
async fn bodies_that_are_wanted() {
    let chunked = |lines: &str, size: &str| {
        post(&format!("Transfer-Encoding: chunked\r\n{lines}"), &format!("{size}\r\n{BODY}\r\n0\r\n\r\n"))
    };
    let long = (BODY.len() + smuggled().len()).to_string();
    compare(vec![
        kept("a length", post("Content-Length: 18\r\n", BODY), &[200, 404]),
        kept("chunks", chunked("", "12"), &[200, 404]),
        kept("an extension", chunked("", "12;a=b"), &[200, 404]),
        kept(
            "trailers",
            post("Transfer-Encoding: chunked\r\n", &format!("12\r\n{BODY}\r\n0\r\nX: y\r\n\r\n")),
            &[200, 404],
        ),
        closed("chunks and a length", chunked("Content-Length: 18\r\n", "12"), &[200]),
        closed("chunks and a length beyond the body", chunked(&format!("Content-Length: {long}\r\n"), "12"), &[200]),
        kept("a request within a body", post(&format!("Content-Length: {long}\r\n"), BODY), &[400]),
        closed("a size with a sign", chunked("", "+12"), &[400]),
        closed("a size as in a program", chunked("", "0x12"), &[400]),
        closed("a size of two words", chunked("", "1 2"), &[400]),
        closed("a size beyond all", chunked("", "10000000000000012"), &[400]),
        closed("a size that is none", chunked("", "z"), &[400]),
        closed("a chunk that is longer than it says", chunked("", "3"), &[400]),
        closed("a line feed in an extension", chunked("", "12;a\nb"), &[400]),
    ])
    .await;
}

#[tokio::test]
async fn beginnings_of_something_else() {
    compare(vec![
        closed("half of HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\n".to_owned() + &smuggled(), &[400]),
        closed("a long method", format!("{} /events?channel=a HTTP/1.1\r\n\r\n", "M".repeat(70_000)), &[431]),
        kept("a method of some length", format!("{} /events?channel=a HTTP/1.1\r\n\r\n", "M".repeat(9_000)), &[405]),
        closed("a method of other letters", "GÉT /events?channel=a HTTP/1.1\r\n\r\n", &[400]),
        closed("NUL before", "\0".to_owned() + &stream(""), &[400]),
        closed("a header before the request line", "Host: x\r\n".to_owned() + &stream(""), &[400]),
        closed("a request line in a header", stream("GET /nothing HTTP/1.1\r\n"), &[400]),
    ])
    .await;
}

/// Whoever sends a request and its end reads the answer to nothing behind it; whoever ends in a head gets none, and in a body a
/// refusal at most.
#[tokio::test]
async fn ends_of_what_is_sent() {
    for lane in [Lane::Direct, Lane::Hyper] {
        let gateway = Gateway::builder().lane(lane).start().await;
        let before = gateway.descriptors_at_rest().await;
        let whole = get("/nothing", "");
        let half =
            "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"chan";
        let half = half.to_owned();
        for (what, sent, answers) in [
            ("nothing", String::new(), 0),
            ("half a head", whole[..whole.len() - 2].to_owned(), 0),
            ("a head", whole.clone(), 1),
            ("a head and half of another", whole.clone() + &whole[..20], 1),
            ("half a body", half, 1),
        ] {
            let mut raw = Raw::connect(&gateway.public).await;
            raw.send(&sent).await;
            raw.half_close().await;
            let said = String::from_utf8_lossy(&raw.rest().await).into_owned();
            assert!(said.matches("HTTP/1.1 ").count() <= answers, "{what} on {lane:?}: {said}");
            assert!(!said.contains("HTTP/1.1 200"), "{what} on {lane:?}: {said}");
        }
        gateway.is_at_rest(before, "ends of all kinds").await;
    }
}
