//! Heads, well-formed and not: one lane reads what the other one reads, and refuses what it refuses.

use super::exchange::{Both, Case, closed, get, kept, stream};

/// As much as a head may have.
const MAX_HEAD: usize = 64 << 10;
/// As many headers as a head may have.
const MAX_HEADERS: usize = 100;

const HOST: &str = "Host: x\r\n";

/// A head of so many bytes.
fn head_of(bytes: usize) -> String {
    let empty = stream("X: \r\n");
    stream(&format!("X: {}\r\n", "y".repeat(bytes - empty.len())))
}

/// A head with so many headers.
fn headers(count: usize) -> String {
    let lines: Vec<String> = (1..count).map(|number| format!("X-{number}: y\r\n")).collect();
    stream(&lines.concat())
}

/// A request by this request line.
fn line(line: &str) -> String {
    format!("{line}\r\n{HOST}\r\n")
}

async fn compare(cases: Vec<Case>) {
    Both::start("").await.compare(cases).await;
}

#[tokio::test]
async fn limits() {
    compare(vec![
        kept("a small head", stream(""), &[200]),
        kept("the longest head", head_of(MAX_HEAD), &[200]),
        closed("a head one byte longer", head_of(MAX_HEAD + 1), &[431]),
        closed("a head far too long", head_of(4 * MAX_HEAD), &[431]),
        kept("the most headers", headers(MAX_HEADERS), &[200]),
        closed("a header more", headers(MAX_HEADERS + 1), &[431]),
        kept("the longest URL", get(&format!("/events?channel=a&p={}", "x".repeat(8_192 - 20)), ""), &[200]),
        kept("a URL one byte longer", get(&format!("/events?channel=a&p={}", "x".repeat(8_193 - 20)), ""), &[414]),
        kept("a URL far too long", get(&format!("/events?channel=a&p={}", "x".repeat(60_000)), ""), &[414]),
    ])
    .await;
}

#[tokio::test]
async fn request_lines() {
    compare(vec![
        kept("a method in lower case", line("get /events?channel=a HTTP/1.1"), &[405]),
        kept("another method", line("PUT /events?channel=a HTTP/1.1"), &[405]),
        kept("a method of the future", line("GETS /events?channel=a HTTP/1.1"), &[405]),
        closed("HTTP/1.0", line("GET /events?channel=a HTTP/1.0"), &[200]),
        closed("HTTP/1.2", line("GET /events?channel=a HTTP/1.2"), &[400]),
        closed("HTTP/2.0", line("GET /events?channel=a HTTP/2.0"), &[400]),
        closed("HTTP/0.9", "GET /events?channel=a\r\n", &[400]),
        closed("HTTP/0.9 with an empty line", "GET /events?channel=a\r\n\r\n", &[400]),
        closed("HTTP in lower case", line("GET /events?channel=a http/1.1"), &[400]),
        closed("two spaces before the target", line("GET  /events?channel=a HTTP/1.1"), &[400]),
        closed("a space behind the version", line("GET /events?channel=a HTTP/1.1 "), &[400]),
        closed("a space in the target", line("GET /events?channel=a b HTTP/1.1"), &[400]),
        closed("no target", line("GET HTTP/1.1"), &[400]),
        closed("a tab", line("GET\t/events?channel=a\tHTTP/1.1"), &[400]),
        closed("garbage", "\u{fe}\0garbage\r\n\r\n", &[400]),
        closed("a TLS hello", [&b"\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03"[..], &[0; 160]].concat(), &[400]),
        kept("empty lines before", format!("\r\n\r\n\r\n{}", stream("")), &[200]),
        kept("line feeds before", format!("\n\n{}", stream("")), &[200]),
        kept("very many empty lines before", format!("{}{}", "\r\n".repeat(2_000), stream("")), &[200]),
    ])
    .await;
}

#[tokio::test]
async fn targets() {
    let target = |target: &str| get(target, "");
    compare(vec![
        kept("the absolute form", target("http://other.example/events?channel=a"), &[200]),
        kept("the absolute form of https", target("https://other.example:8443/events?channel=a"), &[200]),
        kept("the absolute form of another path", target("http://other.example/nothing"), &[404]),
        kept("an asterisk", target("*"), &[404]),
        closed("a relative target", target("events?channel=a"), &[400]),
        kept("an escaped slash", target("/events%2f?channel=a"), &[404]),
        kept("an escaped letter", target("/%65vents?channel=a"), &[404]),
        kept("a slash behind", target("/events/?channel=a"), &[404]),
        kept("a slash before", target("//events?channel=a"), &[404]),
        kept("a dot", target("/./events?channel=a"), &[404]),
        kept("two dots", target("/x/../events?channel=a"), &[404]),
        kept("capital letters", target("/Events?channel=a"), &[404]),
        kept("a parameter", target("/events;v=1?channel=a"), &[404]),
        kept("a fragment", target("/events?channel=a#there"), &[200]),
        kept("no query", target("/events"), &[400]),
        kept("an empty query", target("/events?"), &[400]),
        kept("only a fragment", target("/events#?channel=a"), &[400]),
        kept("two question marks", target("/events?channel=a?"), &[200]).on("a?"),
        closed("a quote", target("/events?channel=\"a\""), &[400]),
        closed("NUL", target("/events?channel=a\0"), &[400]),
        closed("DEL", target("/events?channel=a\u{7f}"), &[400]),
    ])
    .await;
}

#[tokio::test]
async fn channels() {
    let channel = |channel: &str| get(&format!("/events?channel={channel}"), "");
    compare(vec![
        kept("escaped letters", channel("%61"), &[200]),
        kept("an escaped name of the parameter", get("/events?%63hannel=a", ""), &[200]),
        kept("escaped text", channel("%EA%B0%80"), &[200]).on("가"),
        kept("escaped in lower case", channel("%ea%b0%80"), &[200]).on("가"),
        kept("text as it is", channel("가"), &[200]).on("가"),
        kept("a colon", channel("user:42"), &[200]).on("user:42"),
        kept("an escaped colon", channel("user%3A42"), &[200]).on("user:42"),
        kept("an escaped escape", channel("%2561"), &[200]).on("%61"),
        kept("half an escape", channel("%zz"), &[200]).on("%zz"),
        kept("an escaped ampersand", channel("a%26b"), &[200]).on("a&b"),
        kept("an escaped space", channel("a%20b"), &[400]),
        kept("a plus", channel("a+b"), &[400]),
        kept("no UTF-8", channel("%FF"), &[400]),
        kept("an escaped NUL", channel("%00"), &[400]),
        kept("an escaped line", channel("a%0d%0ab"), &[400]),
        kept("a name of ours", channel("sse.control"), &[403]),
        kept("the same one twice", get("/events?channel=a&channel=a", ""), &[200]),
        kept("a user's", get("/api/sse/connect?userId=42", ""), &[200]).on("user:42"),
        kept("an escaped user's", get("/api/sse/connect?userId=%34%32", ""), &[200]).on("user:42"),
        kept("no user's", get("/api/sse/connect", ""), &[400]),
    ])
    .await;
}

#[tokio::test]
async fn header_lines() {
    let bytes = |line: &[u8]| [b"GET /events?channel=a HTTP/1.1\r\nHost: x\r\n", line, b"\r\n\r\n"].concat();
    compare(vec![
        kept("line feeds alone", "GET /events?channel=a HTTP/1.1\nHost: x\n\n", &[200]),
        kept("a line feed among others", "GET /events?channel=a HTTP/1.1\r\nHost: x\n\r\n", &[200]),
        closed("a carriage return in a value", bytes(b"X: a\rb"), &[400]),
        closed("a folded value", bytes(b"X: a\r\n b"), &[400]),
        closed("a value folded by a tab", bytes(b"X: a\r\n\tb"), &[400]),
        closed("a space before the first name", "GET /events?channel=a HTTP/1.1\r\n X: a\r\n\r\n", &[400]),
        closed("a space before the colon", bytes(b"X : a"), &[400]),
        closed("a space in a name", bytes(b"X y: a"), &[400]),
        closed("no colon", bytes(b"X"), &[400]),
        closed("no name", bytes(b": a"), &[400]),
        closed("a name of other letters", bytes("가: a".as_bytes()), &[400]),
        closed("NUL in a name", bytes(b"X\0: a"), &[400]),
        closed("NUL in a value", bytes(b"X: a\0b"), &[400]),
        closed("DEL in a value", bytes(b"X: \x7f"), &[400]),
        kept("no value", bytes(b"X:"), &[200]),
        kept("tabs about a value", bytes(b"X:\ta\tb\t"), &[200]),
        kept("a value of other letters", bytes("X: 가".as_bytes()), &[200]),
        kept("a value that is not UTF-8", bytes(b"X: \xe9"), &[200]),
        kept("no host", "GET /events?channel=a HTTP/1.1\r\n\r\n", &[200]),
        kept("two hosts", bytes(b"Host: y"), &[200]),
        kept("an empty host", "GET /events?channel=a HTTP/1.1\r\nHost:\r\n\r\n", &[200]),
        kept("no sound host", "GET /events?channel=a HTTP/1.1\r\nHost: a b/c\r\n\r\n", &[200]),
        kept("another origin", bytes(b"Origin: https://a.example"), &[200]),
        kept(
            "names in any case",
            "GET /events?channel=a HTTP/1.1\r\nhOST: x\r\nACCEPT: text/event-stream\r\n\r\n",
            &[200],
        ),
        kept("a cursor that is none", bytes(b"Last-Event-ID: nonsense"), &[200]),
        kept("a cursor of other letters", bytes("Last-Event-ID: 가".as_bytes()), &[200]),
        kept("a cursor that is not UTF-8", bytes(b"Last-Event-ID: \xff"), &[200]),
        kept("an empty cursor", bytes(b"Last-Event-ID:"), &[200]),
        kept("encodings", bytes(b"Accept-Encoding: gzip, br, zstd"), &[200]),
    ])
    .await;
}
