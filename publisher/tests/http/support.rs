//! A broker in memory, and requests in one line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::{Extension, Router};
use futures_util::future::{BoxFuture, FutureExt};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use publisher::census::{Census, Count, Seen};
use publisher::http::{Limits, router};
use publisher::{Cancel, Channels, HistoryEntry, HistoryPage, LastEvent, Publication, Publish, PublishError, Receipt};
use shared::auth::Access;
use shared::census::Of;
use shared::channel::Channel;
use shared::cursor::{CursorPart, Tag};
use shared::envelope::Payload;
use shared::position::Position;
use tower::ServiceExt;

pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Writes down every publication, and what was read, erased and cancelled, heard by three. The n-th durable one gets position `n-0` and the tag
/// `abcde`. Channels beginning `down` are not available, those beginning `user:nobody` have no receivers, all others two.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    down: bool,
    asked: Vec<(String, Publication)>,
    once: HashMap<(String, String), Position>,
    last: u64,
    held: HashMap<String, Held>,
    /// What was read, erased and cancelled, in words.
    requests: Vec<String>,
}

/// What is remembered of one channel.
#[derive(Default)]
struct Held {
    entries: Vec<HistoryEntry>,
    last: Option<LastEvent>,
}

impl Publish for Fake {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        std::future::ready(self.state.lock().unwrap().publish(channel.as_str(), publication)).boxed()
    }
}

/// Two connections on one of two nodes, the other of which does not answer.
impl Census for Fake {
    fn count<'a>(&'a self, of: &'a Of) -> BoxFuture<'a, Result<Count, PublishError>> {
        let mut state = self.state.lock().unwrap();
        state.requests.push(format!("count {of:?}"));
        let count = Count { connections: 2, nodes: 1, silent: vec!["two".to_owned()] };
        std::future::ready(state.check("").map(|()| count)).boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Seen>, PublishError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
}

impl State {
    fn publish(&mut self, channel: &str, publication: Publication) -> Result<Receipt, PublishError> {
        self.asked.push((channel.to_owned(), publication.clone()));
        self.check(channel)?;
        let receivers = if channel.starts_with("user:nobody") { 0 } else { 2 };
        if publication.ephemeral {
            return Ok(Receipt { position: None, cursor: None, receivers, duplicate: false });
        }
        let key = publication.once.map(|once| (channel.to_owned(), once.as_str().to_owned()));
        if let Some(position) = key.as_ref().and_then(|key| self.once.get(key)) {
            return Ok(receipt(*position, 0, true));
        }
        self.last += 1;
        let position = Position { ms: self.last, seq: 0 };
        self.once.extend(key.map(|key| (key, position)));
        let held = self.held.entry(channel.to_owned()).or_default();
        let previous = held.last.map_or(Position::ZERO, |last| last.position);
        held.last = Some(LastEvent { position, ended: Payload::parse(&publication.payload).is_end() });
        held.entries.push(HistoryEntry { position, previous, payload: publication.payload });
        Ok(receipt(position, receivers, false))
    }

    fn check(&self, channel: &str) -> Result<(), PublishError> {
        if !self.down && !channel.starts_with("down") {
            return Ok(());
        }
        let retry_after = Duration::from_millis(1_500);
        Err(PublishError::Unavailable { reason: "no connection".into(), retry_after })
    }

    fn history(&mut self, channel: &str, after: Position, limit: usize) -> Result<HistoryPage, PublishError> {
        self.requests.push(format!("read {channel} after {after}, {limit}"));
        self.check(channel)?;
        let (entries, last) = self.held.get(channel).map(|held| (held.entries.clone(), held.last)).unwrap_or_default();
        let entries = entries.into_iter().filter(|entry| entry.position > after).collect();
        let clock = Position { ms: self.last, seq: 0 };
        let mut page =
            HistoryPage { clock, time_ms: self.last, tag: tag(), partition: None, last, entries, more: false };
        page.cut(limit);
        Ok(page)
    }

    fn erase(&mut self, channel: &str) -> Result<bool, PublishError> {
        self.requests.push(format!("erase {channel}"));
        self.check(channel)?;
        Ok(self.held.get_mut(channel).is_some_and(|held| held.entries.drain(..).count() > 0))
    }
}

impl Channels for Fake {
    fn history<'a>(
        &'a self,
        channel: &'a Channel,
        after: Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>> {
        std::future::ready(self.state.lock().unwrap().history(channel.as_str(), after, limit)).boxed()
    }

    fn erase<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<bool, PublishError>> {
        std::future::ready(self.state.lock().unwrap().erase(channel.as_str())).boxed()
    }
}

impl Cancel for Fake {
    fn cancel<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<u64, PublishError>> {
        let mut state = self.state.lock().unwrap();
        state.requests.push(format!("cancel {channel}"));
        std::future::ready(state.check(channel.as_str()).map(|()| 3)).boxed()
    }

    fn cancelled(&self, _: &Channel) -> BoxFuture<'static, ()> {
        unreachable!("no route waits for it")
    }
}

fn tag() -> Tag {
    "abcde".parse().unwrap()
}

fn receipt(position: Position, receivers: u64, duplicate: bool) -> Receipt {
    let cursor = CursorPart { partition: None, position, tag: tag() };
    Receipt { position: Some(position), cursor: Some(cursor), receivers, duplicate }
}

/// The router over a [`Fake`].
pub(crate) struct Server {
    fake: Arc<Fake>,
    router: Router,
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::made(limits).mounted_in(|router| router.layer(Extension(Access::Open)))
    }

    /// With nothing that says who may do what.
    pub(crate) fn bare() -> Self {
        Self::made(Limits::default())
    }

    fn made(limits: Limits) -> Self {
        let fake = Arc::new(Fake::default());
        let router = router(fake.clone(), fake.clone(), fake.clone(), fake.clone(), limits);
        Self { fake, router }
    }

    /// Over a broker that is not available.
    pub(crate) fn down() -> Self {
        let server = Self::new();
        server.fake.state.lock().unwrap().down = true;
        server
    }

    pub(crate) fn mounted_in(self, mount: impl FnOnce(Router) -> Router) -> Self {
        Self { fake: self.fake, router: mount(self.router) }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Posts `body` as JSON to `/publish`.
    pub(crate) async fn publish(&self, body: &str) -> Response {
        self.send(post("/publish", JSON, body.to_owned())).await
    }

    /// What was published since the last time, in order: `(channel, payload)`.
    pub(crate) fn payloads(&self) -> Vec<(String, String)> {
        let payload = |publication: Publication| String::from_utf8(publication.payload.to_vec()).unwrap();
        self.asked().into_iter().map(|(channel, publication)| (channel, payload(publication))).collect()
    }

    /// What was published since the last time, in order.
    pub(crate) fn asked(&self) -> Vec<(String, Publication)> {
        std::mem::take(&mut self.fake.state.lock().unwrap().asked)
    }

    /// Puts a payload into the history as it is, as others do who write to the broker themselves.
    pub(crate) fn put(&self, channel: &str, payload: &[u8]) {
        let publication = Publication::new(payload.to_vec());
        self.fake.state.lock().unwrap().publish(channel, publication).unwrap();
        self.asked();
    }

    /// The oldest entries go.
    pub(crate) fn trim(&self, channel: &str, count: usize) {
        self.fake.state.lock().unwrap().held.get_mut(channel).unwrap().entries.drain(..count);
    }

    /// What was read, erased and cancelled since the last time, in order and in words.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.state.lock().unwrap().requests)
    }

    /// Posts to `/publish`, and expects this problem and nothing published.
    pub(crate) async fn refuses(&self, body: &str, expected: &str) {
        self.refuses_request(post("/publish", JSON, body.to_owned()), expected).await;
    }

    /// Expects this problem, and nothing published, read, erased or cancelled. `expected` has the body, less the prefix of its type.
    pub(crate) async fn refuses_request(&self, request: Request<Body>, expected: &str) {
        let uri = request.uri().to_string();
        let response = self.send(request).await;
        response.is_problem(expected);
        assert_eq!(self.asked(), [], "nothing may be published: {uri}");
        assert_eq!(self.requests(), [""; 0], "nothing may be read, erased or cancelled: {uri}");
    }
}

impl Response {
    /// `expected` is the exact body, less `{"type":"urn:problem:sse:` at its beginning; its status is the response's.
    pub(crate) fn is_problem(&self, expected: &str) {
        assert_eq!(self.body, format!(r#"{{"type":"urn:problem:sse:{expected}"#));
        assert!(self.body.contains(&format!(r#","status":{},"#, self.status.as_u16())), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }

    /// Status 200, this content type and exactly this body.
    pub(crate) fn is_ok(&self, content_type: &str, body: &str) {
        assert_eq!((self.status.as_u16(), self.body.as_str()), (200, body));
        assert_eq!(self.header("content-type"), Some(content_type));
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn post(uri: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(uri).header("content-type", content_type).body(body.into()).unwrap()
}

/// `(channel, payload)` as [`Server::payloads`] gives it.
pub(crate) fn sent(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}
