//! The head of a request: is it one for the direct lane? Pure.
//!
//! Whatever is not plainly a `GET` for an event stream by HTTP/1.1 goes to the hyper lane with the bytes that were read, so
//! there is one place that judges what is odd, wrong or long.

use axum::body::Body;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use httparse::Status;

/// As many as the hyper lane takes.
const MAX_HEADERS: usize = 100;
/// Pieces in which a head may come: each time all of it is looked at again. One in more is left to the hyper lane.
pub(crate) const MAX_PIECES: u8 = 32;

/// What the bytes so far are.
pub(crate) enum Head {
    /// The beginning of a head.
    Part,
    /// A whole head, and nothing behind it, for this lane.
    Stream(Box<Request<Body>>),
    /// Anything else.
    Other,
}

/// A head that comes in pieces: all that was read of a connection.
#[derive(Default)]
pub(crate) struct Beginning {
    read: Vec<u8>,
    pieces: u8,
}

impl Beginning {
    /// What it is with one more piece. One of more than `most` bytes, or in very many pieces, is for the other lane to judge:
    /// after anything but [`Head::Part`] there is no next piece.
    pub(crate) fn add(&mut self, piece: &[u8], is_stream: fn(&str) -> bool, most: usize) -> Head {
        self.read.extend_from_slice(piece);
        self.pieces += 1;
        match read(&self.read, is_stream) {
            Head::Part if self.read.len() < most && self.pieces < MAX_PIECES => Head::Part,
            Head::Stream(request) if self.read.len() <= most => Head::Stream(request),
            Head::Part | Head::Stream(_) | Head::Other => Head::Other,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    pub(crate) fn into_read(self) -> Vec<u8> {
        self.read
    }
}

/// Looks at `bytes`, all that was read of a connection. `is_stream` knows the paths of event streams.
pub(crate) fn read(bytes: &[u8], is_stream: fn(&str) -> bool) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        // What stands behind it is a body or the next request.
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Ok(Status::Partial) => return Head::Part,
        Ok(Status::Complete(_)) | Err(_) => return Head::Other,
    }
    match stream(&head, is_stream) {
        Some(request) => Head::Stream(Box::new(request)),
        None => Head::Other,
    }
}

fn stream(head: &httparse::Request<'_, '_>, is_stream: fn(&str) -> bool) -> Option<Request<Body>> {
    let target = head.path.filter(|target| target.starts_with('/'))?;
    if head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    let uri = Uri::try_from(target).ok().filter(|uri| is_stream(uri.path()))?;
    let headers = fields(head.headers)?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

/// The header fields; `None` where one of them announces more than a head, or is wrong.
fn fields(parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, EXPECT].contains(&name) {
            return None;
        }
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(headers)
}

/// Whether the client wants the connection to end after the answer (RFC 9112, 9.6).
pub(crate) fn wants_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_stream(path: &str) -> bool {
        path == "/events"
    }

    #[test]
    fn bounds_on_pieces_and_bytes() {
        let whole = format!("GET /events HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(100));
        // How many bytes at a time, the most that it may have, and at which piece it is what.
        for (size, most, at, expected) in [
            (1, 1_000, 32, "other"),
            (5, 1_000, 26, "stream"),
            (5, whole.len(), 26, "stream"),
            (5, whole.len() - 1, 26, "other"),
            (5, 50, 10, "other"),
            (5, 51, 11, "other"),
        ] {
            let mut beginning = Beginning::default();
            let mut heads = whole.as_bytes().chunks(size).map(|piece| beginning.add(piece, is_stream, most));
            let (number, head) = (1..).zip(&mut heads).find(|(_, head)| !matches!(head, Head::Part)).unwrap();
            let said = if matches!(head, Head::Stream(_)) { "stream" } else { "other" };
            assert_eq!((number, said), (at, expected), "{size} at a time, {most} at most");
        }
    }

    fn kind(bytes: &[u8]) -> &'static str {
        match read(bytes, is_stream) {
            Head::Part => "part",
            Head::Stream(_) => "stream",
            Head::Other => "other",
        }
    }

    #[test]
    fn a_get_for_a_stream_is_for_this_lane() {
        let text = b"GET /events?channel=a%20b HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1-0_abcde\r\nCookie: a=b\r\ncookie: c\r\n\r\n";
        for end in 1..text.len() {
            assert_eq!(kind(&text[..end]), "part", "{end} bytes");
        }
        let Head::Stream(request) = read(text, is_stream) else { panic!("not for this lane") };
        assert_eq!(request.uri(), "/events?channel=a%20b");
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        assert_eq!(request.headers()["last-event-id"], "1-0_abcde");
        assert_eq!(request.headers().get_all("cookie").iter().count(), 2);
        assert!(!wants_close(request.headers()));
    }

    #[test]
    fn everything_else_is_not() {
        for (text, wanted) in [
            ("GET /publish HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
            ("GET /events%2f HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
            ("GET http://x/events HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
            ("HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
            ("POST /events HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
            ("get /events HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
            ("GET /events HTTP/1.0\r\nHost: x\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nA : b\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\nA: \0\r\n\r\n", "other"),
            ("GET /events HTTP/1.1\r\n\r\nGET", "other"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "other"),
            ("\x16\x03\x01\x02\x00", "other"),
            ("GET /events", "part"),
            ("", "part"),
        ] {
            assert_eq!(kind(text.as_bytes()), wanted, "{text:?}");
        }
        let many = format!("GET /events HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(kind(many.as_bytes()), "other");
    }

    #[test]
    fn close_is_found_among_options() {
        for (value, wanted) in [("close", true), ("keep-alive, Close", true), ("closed", false), ("keep-alive", false)]
        {
            let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static(value))]);
            assert_eq!(wants_close(&headers), wanted, "{value}");
        }
    }
}
