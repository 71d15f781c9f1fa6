//! The bytes around an event stream on HTTP/1.1: the answer's head, and its chunks (RFC 9112, 7.1). Pure.

use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue};

/// Behind the data of each chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";
/// Ends the body.
pub(super) const BODY_END: &[u8] = b"0\r\n\r\n";

/// The head of an answer with a chunked body, as hyper writes it. With `close` it says that the connection ends with it.
pub(crate) fn head(mut parts: Parts, close: bool) -> Vec<u8> {
    if close {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut out = Vec::with_capacity(384);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(&mut out, &parts.headers);
    out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    if !parts.headers.contains_key(DATE) {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    // The router takes the answer for one without a body, and says so.
    for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What stands before the data of a chunk: its length in hexadecimal, and a line end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkSize {
    /// Right-aligned.
    text: [u8; Self::MOST],
    start: u8,
}

impl ChunkSize {
    /// 16 digits and the line end.
    const MOST: usize = 18;

    pub(crate) fn new(length: usize) -> Self {
        let mut text = [0; Self::MOST];
        text[Self::MOST - 2..].copy_from_slice(CHUNK_END);
        let (mut left, mut start) = (length, Self::MOST - 2);
        loop {
            start -= 1;
            text[start] = b"0123456789ABCDEF"[left & 15];
            left >>= 4;
            if left == 0 {
                break;
            }
        }
        Self { text, start: start as u8 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[usize::from(self.start)..]
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http::header::{CACHE_CONTROL, CONTENT_TYPE};

    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (length, text) in [(0, "0\r\n"), (9, "9\r\n"), (16, "10\r\n"), (0xabc, "ABC\r\n"), (65_536, "10000\r\n")] {
            assert_eq!(ChunkSize::new(length).as_bytes(), text.as_bytes());
        }
        assert_eq!(ChunkSize::new(usize::MAX).as_bytes(), format!("{:X}\r\n", usize::MAX).as_bytes());
    }

    #[test]
    fn the_head_byte_by_byte() {
        let answer = || {
            let answer =
                Response::builder().header(CONTENT_TYPE, "text/event-stream").header(CACHE_CONTROL, "no-cache");
            answer.header(CONTENT_LENGTH, 0).header(DATE, "now").body(()).unwrap().into_parts().0
        };
        let wanted = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ndate: now\r\n";
        let text = |close| String::from_utf8(head(answer(), close)).unwrap();
        assert_eq!(text(false), format!("{wanted}transfer-encoding: chunked\r\n\r\n"));
        assert_eq!(text(true), format!("{wanted}connection: close\r\ntransfer-encoding: chunked\r\n\r\n"));
        let mut parts = answer();
        parts.headers.remove(DATE);
        let dated = String::from_utf8(head(parts, false)).unwrap();
        let (_, date) = dated.split_once("date: ").unwrap();
        assert!(date.ends_with(" GMT\r\n\r\n") && date.len() == 33, "{date:?}");
    }
}
