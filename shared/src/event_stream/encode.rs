//! Writes events as bytes. Total: an [`Event`] cannot hold what the format cannot carry.

use std::time::Duration;

use memchr::memchr2;

use crate::event::{Event, MAX_RETRY, MIN_RETRY};

/// Appends one whole block: `event`, `data`, `retry`, then `id` as the last field, and the blank line.
///
/// `id` comes last so that a block without it is a prefix of the block with it.
pub fn event(out: &mut Vec<u8>, event: &Event) {
    fields(out, event);
    if let Some(value) = event.id() {
        id(out, value);
    }
    end(out);
}

/// Appends every field but `id`, without the blank line.
pub fn fields(out: &mut Vec<u8>, event: &Event) {
    if let Some(value) = event.event() {
        field(out, b"event", value.as_bytes());
    }
    if let Some(value) = event.data() {
        data(out, value);
    }
    if let Some(value) = event.retry() {
        retry(out, value);
    }
}

/// Appends `data:` lines, one for each line of `text`; CR, LF and CRLF each end one. An empty text is one empty line.
pub fn data(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        field(out, b"data", &rest[..at]);
        let crlf = rest[at..].starts_with(b"\r\n");
        rest = &rest[at + if crlf { 2 } else { 1 }..];
    }
    field(out, b"data", rest);
}

/// Appends a `retry:` line in milliseconds, clamped to 100 ms - 1 h.
pub fn retry(out: &mut Vec<u8>, time: Duration) {
    let ms = time.clamp(MIN_RETRY, MAX_RETRY).as_millis();
    field(out, b"retry", ms.to_string().as_bytes());
}

/// Appends an `id:` line. The caller vouches for `value`: no CR, LF or NUL (a [cursor](crate::cursor) has none).
pub fn id(out: &mut Vec<u8>, value: &str) {
    debug_assert!(!value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    field(out, b"id", value.as_bytes());
}

/// Appends the blank line that ends a block.
pub fn end(out: &mut Vec<u8>) {
    out.push(b'\n');
}

/// Appends a comment block, `: text` and a blank line; a client ignores it. Line breaks in `text` begin new comment lines.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    for line in text.split(['\r', '\n']) {
        field(out, b"", line.as_bytes());
    }
    end(out);
}

/// `name: value`, or `name:` for an empty value. A client strips one space after the colon, so one is always written
/// before a value: a value that begins with a space keeps it.
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 3);
    out.extend_from_slice(name);
    out.push(b':');
    if !value.is_empty() {
        out.push(b' ');
        out.extend_from_slice(value);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_field_id_last() {
        let full = Event::default()
            .with_retry(Duration::from_secs(3))
            .with_id("1-0_abcde")
            .unwrap()
            .with_data(r#"{"message":"hi"}"#)
            .with_event("notification")
            .unwrap();
        assert_eq!(
            bytes(|out| event(out, &full)),
            "event: notification\ndata: {\"message\":\"hi\"}\nretry: 3000\nid: 1-0_abcde\n\n"
        );
    }

    #[test]
    fn empty_data_is_a_line_and_no_data_is_none() {
        assert_eq!(bytes(|out| event(out, &Event::default().with_data(""))), "data:\n\n");
        assert_eq!(bytes(|out| event(out, &Event::default().with_id("x").unwrap())), "id: x\n\n");
        assert_eq!(bytes(|out| event(out, &Event::default())), "\n");
    }

    #[test]
    fn line_breaks_in_data() {
        let data = |text: &str| bytes(|out| data(out, text));
        assert_eq!(data("a\nb"), "data: a\ndata: b\n");
        assert_eq!(data("a\r\nb"), "data: a\ndata: b\n");
        assert_eq!(data("a\rb"), "data: a\ndata: b\n");
        assert_eq!(data("a\n\rb"), "data: a\ndata:\ndata: b\n");
        assert_eq!(data("a\n"), "data: a\ndata:\n");
        assert_eq!(data("\r\n"), "data:\ndata:\n");
        assert_eq!(data(" a"), "data:  a\n");
        assert_eq!(data("event: x"), "data: event: x\n");
    }

    #[test]
    fn comments() {
        assert_eq!(bytes(|out| comment(out, "")), ":\n\n");
        assert_eq!(bytes(|out| comment(out, "keep-alive")), ": keep-alive\n\n");
        assert_eq!(bytes(|out| comment(out, "a\ndata: forged")), ": a\n: data: forged\n\n");
    }

    #[test]
    fn retry_is_clamped() {
        assert_eq!(bytes(|out| retry(out, Duration::ZERO)), "retry: 100\n");
        assert_eq!(bytes(|out| retry(out, Duration::MAX)), "retry: 3600000\n");
    }
}
