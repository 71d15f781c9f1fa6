//! What comes with a request: its head on the direct lane, and what its query or its body asks for.

use std::time::Duration;

use form_urlencoded::Serializer;
use http::{HeaderMap, Response};
use publisher::http::problem::Problem;
use serde_json::{Value, json};
use shared::auth::Access;
use shared::channel::Channel;

use super::other_reader::{self, MAX_HEAD};
use crate::connection::Resume;
use crate::http::{Limits, is_stream, params};
use crate::lane::direct::{framing, head};

/// The direct lane takes what hyper would take for the same request, and waits only where hyper waits. Its answer has the
/// header fields that it was given, and no others.
pub(super) fn head(bytes: &[u8]) {
    let whole = head::read(bytes, is_stream);
    // What was not for this lane once does not become it by what follows: the socket has been handed over.
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = head::read(&bytes[..end], is_stream);
        assert!(!matches!(part, head::Head::Other) || matches!(whole, head::Head::Other), "other, then not");
        assert!(!matches!(part, head::Head::Stream(_)) || end == bytes.len() || matches!(whole, head::Head::Other));
    }
    // Long ones in a few pieces, since all of it is looked at again with each; short ones in very many.
    for (size, most) in [(1, 256), (7, 256), (bytes.len() / 31 + 1, MAX_HEAD), (bytes.len() / 40 + 1, MAX_HEAD)] {
        in_pieces(bytes, size, most);
    }
    // As full as hyper's own buffer, which does not wait for more.
    if bytes.len() > MAX_HEAD || (bytes.len() == MAX_HEAD && matches!(whole, head::Head::Part)) {
        return;
    }
    match whole {
        head::Head::Other => {}
        head::Head::Part => {
            let seen = other_reader::hyper(bytes);
            assert!(seen.request.is_none() && seen.said.is_empty() && !seen.ended, "hyper does not wait");
        }
        head::Head::Stream(request) => {
            let seen = other_reader::hyper(bytes);
            let (parts, bodiless) = seen.request.expect("hyper reads it as a request too");
            assert!(bodiless && seen.said.is_empty(), "hyper reads a body, or answers by itself");
            assert_eq!((&parts.method, &parts.uri), (request.method(), request.uri()));
            assert_eq!((parts.version, &parts.headers), (request.version(), request.headers()));
            head::wants_close(request.headers());
            answer(&parts.headers);
            chunk(bytes);
        }
    }
}

/// However a head is cut, it is what it is as a whole, unless it is beyond a bound; and it never waits beyond one.
fn in_pieces(bytes: &[u8], size: usize, most: usize) {
    let mut beginning = head::Beginning::default();
    for (number, piece) in (1..).zip(bytes.chunks(size)) {
        let so_far = &bytes[..bytes.len().min(number * size)];
        let (found, whole) = (beginning.add(piece, is_stream, most), head::read(so_far, is_stream));
        match (found, whole) {
            (head::Head::Part, whole) => {
                assert!(matches!(whole, head::Head::Part), "it waits for more of a head that is whole");
                assert!(so_far.len() < most && number < usize::from(head::MAX_PIECES), "it waits beyond a bound");
                continue;
            }
            (head::Head::Stream(found), head::Head::Stream(whole)) => {
                assert!(so_far.len() <= most, "a head of {} bytes", so_far.len());
                assert_eq!((found.uri(), found.headers()), (whole.uri(), whole.headers()));
            }
            (head::Head::Stream(_), _) => panic!("a stream of what is none"),
            (head::Head::Other, head::Head::Other) => {}
            (head::Head::Other, head::Head::Stream(_)) => assert!(so_far.len() > most, "a stream is given away"),
            (head::Head::Other, head::Head::Part) => {
                let at_bound = so_far.len() >= most || number == usize::from(head::MAX_PIECES);
                assert!(at_bound, "a part is given away within the bounds");
            }
        }
        assert_eq!(beginning.into_read(), so_far, "what was read is handed on");
        return;
    }
}

/// An answer with these fields is read as one with these fields: no value ends its line.
fn answer(fields: &HeaderMap) {
    let mut response = Response::new(());
    *response.headers_mut() = fields.clone();
    response.headers_mut().remove(http::header::DATE);
    let text = framing::head(response.into_parts().0, false);
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut read = httparse::Response::new(&mut space);
    assert_eq!(read.parse(&text), Ok(httparse::Status::Complete(text.len())), "{}", text.escape_ascii());
    // The encoding and the date come to them.
    let given = fields.iter().filter(|(name, _)| !["date", "content-length"].contains(&name.as_str())).count();
    assert_eq!(read.headers.len(), given + 2);
    for field in read.headers.iter().take(given) {
        assert!(fields.get_all(field.name).iter().any(|value| value.as_bytes() == field.value), "{}", field.name);
    }
}

fn chunk(data: &[u8]) {
    let size = framing::ChunkSize::new(data.len());
    let begin = size.as_bytes().len();
    let read = httparse::parse_chunk_size(size.as_bytes()).expect("a chunk's size");
    assert_eq!(read, httparse::Status::Complete((begin, data.len() as u64)));
}

const LIMITS: Limits = Limits {
    max_channels: 8,
    max_url: 8_192,
    request_timeout: Duration::from_secs(30),
    open_timeout: Duration::from_secs(5),
    max_replay: 1_000,
};

/// Names that are taken are names, each once, and are taken again when they are written anew; what is refused is refused with
/// a status of the client's fault.
pub(super) fn query(bytes: &[u8]) {
    let query = String::from_utf8_lossy(bytes);
    match params::channels_of_query(&query, &Access::Open, &LIMITS) {
        Ok(channels) => {
            sound(&channels);
            let mut plain: Vec<String> = Vec::new();
            for (name, value) in form_urlencoded::parse(query.as_bytes()) {
                if name == "channel" && !plain.contains(&value.clone().into_owned()) {
                    plain.push(value.into_owned());
                }
            }
            assert!(channels.iter().map(Channel::as_str).eq(plain.iter().map(String::as_str)), "{plain:?}");
            let anew = Serializer::new(String::new()).extend_pairs(plain.iter().map(|name| ("channel", name))).finish();
            assert_eq!(params::channels_of_query(&anew, &Access::Open, &LIMITS).ok(), Some(channels));
        }
        Err(problem) => refused(&problem),
    }
    match params::channel_of_user(&query, &Access::Open) {
        Ok(channel) => assert!(channel.as_str().starts_with("user:") && Channel::parse(channel.as_str()).is_ok()),
        Err(problem) => refused(&problem),
    }
    match params::request(&query, &LIMITS) {
        Ok(request) => {
            if let Resume::Newest(count) = request.resume {
                assert!((1..=LIMITS.max_replay).contains(&count));
            }
        }
        Err(problem) => refused(&problem),
    }
    match params::channels_of_body(bytes, &Access::Open, &LIMITS) {
        Ok(channels) => {
            sound(&channels);
            let anew = json!({"channels": channels.iter().map(Channel::as_str).collect::<Vec<_>>()}).to_string();
            assert!(anew.len() <= params::max_body(&LIMITS));
            assert_eq!(params::channels_of_body(anew.as_bytes(), &Access::Open, &LIMITS).ok(), Some(channels));
        }
        Err(problem) => refused(&problem),
    }
}

fn sound(channels: &[Channel]) {
    assert!((1..=LIMITS.max_channels).contains(&channels.len()));
    for (place, channel) in channels.iter().enumerate() {
        assert!(!channels[..place].contains(channel), "twice");
        assert!(!channel.is_reserved(), "a name of ours");
        assert_eq!(Channel::parse(channel.as_str()).as_ref(), Ok(channel));
    }
}

fn refused(problem: &Problem) {
    let problem = serde_json::to_value(problem).expect("a problem as JSON");
    let status = problem.get("status").and_then(Value::as_u64);
    assert!(status.is_some_and(|status| (400..500).contains(&status)), "{problem}");
    assert!(problem.get("field").is_some_and(Value::is_string), "{problem}");
}
