//! A stream that is listened to on a task of its own, each thing noted with its time, so that several can be looked at and
//! waited for side by side. It must not judge anything.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use shared::event_stream::decode::{Decoded, Decoder};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::connection::{Ask, Dialer, How, Protocol, Unreachable, describe};

/// One block of the stream. What is published here is far below.
const MAX_BLOCK: usize = 4 << 20;
/// What is read of an answer that is no stream, and for how long.
const MAX_SAID: usize = 64 << 10;
const SAID_TIMEOUT: Duration = Duration::from_secs(2);
/// Most characters that are told of it.
const MAX_TOLD: usize = 200;

/// A stream that is open, being opened, or has ended. Dropping it closes it.
pub(super) struct Tap {
    seen: watch::Receiver<Seen>,
    _task: JoinSet<()>,
}

/// What was seen of it so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) how: Option<How>,
    /// When the request was sent.
    pub(super) asked: Option<Instant>,
    pub(super) head: Option<Head>,
    /// `sse.open`.
    pub(super) opened: Option<Opened>,
    /// The first `retry:`.
    pub(super) retry: Option<Duration>,
    /// When the last one came.
    pub(super) retry_at: Option<Instant>,
    /// Events of this run, by their numbers.
    pub(super) heard: Vec<Heard>,
    /// Reasons of `sse.gap`.
    pub(super) gaps: Vec<String>,
    /// The last event ID.
    pub(super) id: String,
    pub(super) last_byte: Option<Instant>,
    /// Between two pieces.
    pub(super) longest_silence: Duration,
    pub(super) comments: usize,
    /// Begin of an answer that is no stream.
    pub(super) said: String,
    pub(super) end: Option<(Instant, End)>,
}

/// The head of the answer.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) at: Instant,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// The stream's first event.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) at: Instant,
    pub(super) node: String,
}

/// An event that was published here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) number: u64,
    pub(super) at: Instant,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Unreachable(Unreachable),
    /// The answer is no event stream.
    NoStream,
    /// In order.
    Closed,
    Broken(String),
}

/// What is asked for, beside the address.
#[derive(Clone, Default)]
pub(super) struct Wish<'a> {
    pub(super) last_event_id: Option<&'a str>,
    pub(super) compressed: bool,
    pub(super) origin: Option<&'a HeaderValue>,
    pub(super) token: Option<&'a HeaderValue>,
}

impl Wish<'_> {
    pub(super) fn ask(&self, target: &str) -> Ask {
        let mut ask = Ask::get(target);
        let headers = &mut ask.headers;
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sse-publisher/", env!("CARGO_PKG_VERSION"))));
        let encodings = if self.compressed { "gzip, deflate, br" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encodings));
        if let Some(id) = self.last_event_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()) {
            headers.insert("last-event-id", id);
        }
        if let Some(origin) = self.origin {
            headers.insert(http::header::ORIGIN, origin.clone());
        }
        if let Some(token) = self.token {
            headers.insert(http::header::AUTHORIZATION, token.clone());
        }
        ask
    }
}

impl Seen {
    /// Whether an event stream was answered with.
    pub(super) fn is_stream(&self) -> bool {
        self.head.as_ref().is_some_and(|head| {
            head.status == StatusCode::OK && crate::http::has_media_type(&head.headers, "text/event-stream")
        })
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.heard.iter().any(|heard| heard.number == number)
    }
}

impl Tap {
    /// Begins to connect. Events count whose data have `mark` and a number behind it.
    pub(super) fn open(dialer: &Dialer, offer: Protocol, ask: Ask, mark: &str) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let (dialer, mark) = (dialer.clone(), mark.to_owned());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let end = follow(&dialer, offer, &ask, &mark, &sender).await;
            sender.send_modify(|seen| seen.end = Some((Instant::now(), end)));
        });
        Self { seen, _task: task }
    }

    /// What was seen so far. Not to be kept over an await.
    pub(super) fn seen(&self) -> watch::Ref<'_, Seen> {
        self.seen.borrow()
    }

    /// Waits until it is so, the stream has ended, or the time is over. Whether it is so.
    pub(super) async fn until(&self, within: Duration, mut is: impl FnMut(&Seen) -> bool) -> bool {
        let mut seen = self.seen.clone();
        // The closed queue of a task that is gone is the same as an end.
        drop(timeout(within, seen.wait_for(|seen| is(seen) || seen.end.is_some())).await);
        is(&self.seen.borrow())
    }
}

async fn follow(dialer: &Dialer, offer: Protocol, ask: &Ask, mark: &str, seen: &watch::Sender<Seen>) -> End {
    let mut connected = match dialer.dial(offer).await {
        Ok(connected) => connected,
        Err(unreachable) => return End::Unreachable(unreachable),
    };
    let how = connected.how.clone();
    seen.send_modify(|seen| (seen.how, seen.asked) = (Some(how), Some(Instant::now())));
    let response = match connected.send(&dialer.url, ask).await {
        Ok(response) => response,
        Err(why) => return End::Broken(why),
    };
    let _open = connected.into_driver();
    let (parts, body) = response.into_parts();
    let head = Head { at: Instant::now(), status: parts.status, headers: parts.headers };
    seen.send_modify(|seen| seen.head = Some(head));
    if !seen.borrow().is_stream() {
        let body = read(body).await;
        let text = said(seen.borrow().head.as_ref(), &body);
        seen.send_modify(|seen| seen.said = text);
        return End::NoStream;
    }
    listen(body, mark, seen).await
}

async fn listen(mut body: Incoming, mark: &str, seen: &watch::Sender<Seen>) -> End {
    let mut decoder = Decoder::with_limit(MAX_BLOCK);
    loop {
        let data = match body.frame().await {
            None => return End::Closed,
            Some(Err(error)) => return End::Broken(describe(&error)),
            Some(Ok(frame)) => frame.into_data(),
        };
        let Ok(data) = data else { continue };
        let fed = decoder.feed(&data);
        let items: Vec<_> = decoder.by_ref().collect();
        seen.send_modify(|seen| seen.take(items, mark));
        if let Err(error) = fed {
            return End::Broken(error.to_string());
        }
    }
}

impl Seen {
    fn take(&mut self, items: Vec<Decoded>, mark: &str) {
        let now = Instant::now();
        if let Some(before) = self.last_byte.replace(now) {
            self.longest_silence = self.longest_silence.max(now - before);
        }
        for item in items {
            match item {
                Decoded::Comment(_) => self.comments += 1,
                Decoded::Id(id) => self.id = id,
                Decoded::Retry(retry) => {
                    self.retry.get_or_insert(retry);
                    self.retry_at = Some(now);
                }
                Decoded::Event(event) => {
                    self.id = event.id;
                    match &*event.event {
                        "sse.open" => {
                            let node = member(&event.data, "node");
                            self.opened.get_or_insert(Opened { at: now, node });
                        }
                        "sse.gap" => self.gaps.push(member(&event.data, "reason")),
                        _ => self.heard.extend(number(&event.data, mark).map(|number| Heard { number, at: now })),
                    }
                }
            }
        }
    }
}

/// A text of a JSON object; empty where it has none.
fn member(json: &str, name: &str) -> String {
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The number behind `mark`, wherever in the data that stands.
fn number(data: &str, mark: &str) -> Option<u64> {
    let (_, rest) = data.split_once(mark)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

async fn read(body: Incoming) -> Bytes {
    match timeout(SAID_TIMEOUT, Limited::new(body, MAX_SAID).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    }
}

/// What an answer that is no stream says for itself: where it leads, the detail of problem details, the begin of its text.
fn said(head: Option<&Head>, body: &[u8]) -> String {
    let location = head.and_then(|head| head.headers.get(LOCATION)?.to_str().ok());
    if let Some(location) = location {
        return told(location);
    }
    told(&match serde_json::from_slice::<Value>(body) {
        Ok(problem) => {
            let member = |name: &str| problem.get(name).and_then(Value::as_str);
            member("detail").or_else(|| member("title")).unwrap_or_default().to_owned()
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    })
}

/// A line of it that can be shown.
pub(super) fn told(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_this_run_are_found_in_either_format() {
        assert_eq!(number("doctor ab 17", "doctor ab "), Some(17));
        assert_eq!(number(r#"{"channel":"c","data":"doctor ab 3"}"#, "doctor ab "), Some(3));
        assert_eq!(number("doctor cd 17", "doctor ab "), None);
        assert_eq!(number("doctor ab flood", "doctor ab "), None);
    }

    #[test]
    fn what_a_refusal_says_is_one_line() {
        let said = |body: &str| said(None, body.as_bytes());
        assert_eq!(said(r#"{"title":"no token","detail":"there is none"}"#), "there is none");
        assert_eq!(said(r#"{"title":"no token"}"#), "no token");
        assert_eq!(said("<html>\r\n <b>\x1b[2J  x"), "<html> <b> [2J x");
        assert_eq!(said(&"x".repeat(300)).len(), MAX_TOLD);
    }
}
