//! One answer of an upstream as it comes, in memory that is bounded, and never waited for in vain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use humantime::format_duration;
use hyper::body::Incoming;
use shared::event_stream::decode::{Decoded, Decoder};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::endpoint::Unconnected;
use super::said::{self, Said};
use super::secrets::Secrets;
use super::{Shared, describe};
use crate::chat::source::{MAX_PIECE, Piece, Question, SourceCode, SourceError};
use crate::http::has_media_type;

/// Name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest event of an upstream, in bytes: some send a whole answer as one.
const MAX_EVENT: usize = 1 << 20;
/// What is read of a refusal.
const MAX_PROBLEM: usize = 8 << 10;
/// How much longer than within an answer an upstream may keep silent before it, or think without a word of text.
const PATIENCE: u32 = 4;
/// After its last word, how long it may take to end the stream before it is taken for ended: one that is cut off takes that
/// for a failure, and some go on all the same.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An answer that has begun. Dropping it closes its connection.
pub(super) struct Answer {
    shared: Arc<Shared>,
    body: Incoming,
    /// The task that drives the connection.
    _driver: JoinSet<()>,
    decoder: Decoder,
    /// The decoder gave up.
    broken: bool,
    /// The body is at its end, or broke off; what the decoder has of it still counts.
    over: Option<Result<(), SourceError>>,
    /// Text that came and was not taken yet.
    texts: VecDeque<String>,
    /// Text has come.
    begun: bool,
    /// When the answer began, or went on: text, or at least a chunk without any.
    last_chunk: Instant,
    /// Why it ends, as it was said last. Some say so with each chunk, so that is no end yet.
    finish: Option<String>,
    /// Text came behind a `finish`: it means nothing.
    went_on: bool,
    /// How long nothing may come behind `finish` until that is the end.
    last_words: Duration,
    /// No more is to come; nothing is read any more.
    done: bool,
}

/// Asks, and waits for the head.
pub(super) async fn ask(shared: &Arc<Shared>, question: &Question) -> Result<Answer, SourceError> {
    let request = shared.request(question)?;
    let (mut sender, driver) = match timeout(CONNECT_TIMEOUT, shared.connector.connect()).await {
        Ok(connected) => connected.map_err(|Unconnected { told, why }| unreachable(shared, told, &why))?,
        Err(_) => {
            let told = format!("no connection within {}", format_duration(CONNECT_TIMEOUT));
            return Err(unreachable(shared, &told, ""));
        }
    };
    let patience = shared.stall * PATIENCE;
    let response = match timeout(patience, sender.send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let told = if error.is_parse() { "its answer is no HTTP" } else { "the connection broke off" };
            return Err(unreachable(shared, told, &describe(&error)));
        }
        Err(_) => return Err(stalled(patience, "it did not answer")),
    };
    let encoding = encoding(response.headers(), &shared.secrets);
    if response.status() != StatusCode::OK || (encoding.is_none() && !is_event_stream(response.headers())) {
        return Err(refusal(response, encoding.is_some(), shared).await);
    }
    if let Some(encoding) = encoding {
        return Err(invalid(&format!("its answer has the Content-Encoding {encoding}, which was not asked for")));
    }
    Ok(Answer {
        shared: Arc::clone(shared),
        body: response.into_body(),
        _driver: driver,
        decoder: Decoder::with_limit(MAX_EVENT),
        broken: false,
        over: None,
        texts: VecDeque::new(),
        begun: false,
        last_chunk: Instant::now(),
        finish: None,
        went_on: false,
        last_words: shared.stall,
        done: false,
    })
}

impl Answer {
    /// What comes next, the end included.
    pub(super) async fn next(&mut self) -> Result<Piece, SourceError> {
        loop {
            if let Some(text) = self.texts.pop_front() {
                return Ok(Piece::Text(text));
            }
            if self.done {
                let reason = self.finish.take().ok_or_else(|| ended("it did not say that this was the end"))?;
                return Ok(Piece::End { reason });
            }
            if let Some(decoded) = self.decoder.next() {
                self.take(decoded)?;
            } else if self.broken {
                self.fail(invalid(&format!("an event of it is longer than {MAX_EVENT} bytes")))?;
            } else if let Some(over) = self.over.take() {
                self.done = true;
                over.or_else(|error| self.fail(error))?;
            } else {
                self.read().await?;
            }
        }
    }

    fn take(&mut self, decoded: Decoded) -> Result<(), SourceError> {
        let Decoded::Event(event) = decoded else { return Ok(()) };
        match said::read(&event.event, &event.data, &self.shared.secrets) {
            Said::Chunk { text, finish } => self.take_chunk(text, finish),
            Said::Done => {
                if !self.begun && self.finish.is_none() {
                    return Err(ended("it said that this was the end, and nothing before"));
                }
                self.done = true;
                self.finish.get_or_insert_with(|| "stop".to_owned());
            }
            Said::Aside => {}
            Said::Error(why) => return Err(SourceError::new(SourceCode::Said, with("the upstream failed", &why))),
            Said::Nonsense(why) => self.fail(invalid(&format!("an event of it is no chunk of an answer: {why}")))?,
        }
        Ok(())
    }

    fn take_chunk(&mut self, text: String, finish: Option<String>) {
        if self.finish.is_some() && finish.is_none() && text.is_empty() {
            // It only keeps the connection open.
            return;
        }
        self.last_chunk = Instant::now();
        // Alone behind the text it is what it should be. Who says it otherwise may say so with each chunk.
        let is_last = self.finish.is_none() && self.begun && text.is_empty();
        self.last_words = if is_last { LAST_WORDS.min(self.shared.stall) } else { self.shared.stall };
        self.went_on |= self.finish.is_some() && !text.is_empty();
        self.begun |= !text.is_empty();
        self.texts.extend(pieces(text));
        self.finish = finish.or(self.finish.take());
    }

    /// What goes wrong behind the last word does not matter.
    fn fail(&mut self, error: SourceError) -> Result<(), SourceError> {
        if self.finish.is_none() || self.went_on {
            return Err(error);
        }
        self.done = true;
        Ok(())
    }

    /// Reads once, within what it may take.
    async fn read(&mut self) -> Result<(), SourceError> {
        let (deadline, limit, what) = self.deadline();
        // What has come counts, even if nobody looked for it in time: that is our own slowness.
        let Ok(frame) = timeout_at(deadline, self.body.frame()).await else {
            self.done = self.finish.is_some();
            return if self.done { Ok(()) } else { Err(stalled(limit, what)) };
        };
        if Instant::now() > deadline {
            self.last_chunk = Instant::now();
        }
        match frame {
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    self.broken = self.decoder.feed(&bytes).is_err();
                }
                return Ok(());
            }
            Some(Err(error)) => {
                let why = describe(&error);
                tracing::warn!(upstream = self.shared.connector.endpoint().server(), why, "an answer broke off");
                self.over = Some(Err(ended("the connection broke off")));
            }
            None => self.over = Some(Ok(())),
        }
        // An empty line behind the last event is often forgotten; a line that has no end is none.
        self.broken = self.decoder.feed(b"\n").is_err();
        Ok(())
    }

    /// Until when something has to come, how long that is in all, and what it is called if it does not.
    fn deadline(&self) -> (Instant, Duration, &'static str) {
        let stall = self.shared.stall;
        let silence = if self.begun { stall } else { stall * PATIENCE };
        let without_text = self.last_chunk + stall * PATIENCE;
        if self.finish.is_some() {
            return (self.last_chunk + self.last_words, self.last_words, "it did not end");
        }
        match Instant::now() + silence {
            deadline if deadline < without_text => (deadline, silence, "it sent nothing"),
            _ => (without_text, stall * PATIENCE, "it sent no text"),
        }
    }
}

/// `text` in pieces of at most [`MAX_PIECE`] bytes, none of them empty, no character torn.
fn pieces(mut text: String) -> VecDeque<String> {
    let mut pieces = VecDeque::new();
    while text.len() > MAX_PIECE {
        let rest = text.split_off(text.floor_char_boundary(MAX_PIECE));
        pieces.push_back(std::mem::replace(&mut text, rest));
    }
    if !text.is_empty() {
        pieces.push_back(text);
    }
    pieces
}

/// Why there is no answer, as the response says it; `encoded`, it says nothing that can be read.
async fn refusal(response: Response<Incoming>, encoded: bool, shared: &Shared) -> SourceError {
    let (head, body) = response.into_parts();
    let told = if encoded { Vec::new() } else { beginning(body, shared).await };
    let said = said::message(&told, &shared.secrets);
    if head.status != StatusCode::OK {
        return SourceError::new(SourceCode::Status, with(&format!("the upstream answered {}", head.status), &said));
    }
    if said::is_error(&told) {
        return SourceError::new(SourceCode::Said, with("the upstream failed", &said));
    }
    invalid("it answered with something else than an event stream")
}

/// What comes of a body in time and is not too much.
async fn beginning(mut body: Incoming, shared: &Shared) -> Vec<u8> {
    let mut told = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            told.extend(frame.into_data().unwrap_or_else(|_| Bytes::new()));
            if told.len() > MAX_PROBLEM {
                told.truncate(MAX_PROBLEM);
                return false;
            }
        }
        true
    };
    // What came until then has to do.
    let whole = timeout(shared.stall, reading).await.unwrap_or(false);
    if !whole {
        shared.secrets.drop_begun(&mut told);
    }
    told
}

/// How a body is encoded, where it is.
fn encoding(headers: &HeaderMap, secrets: &Secrets) -> Option<String> {
    let named = headers.get_all(CONTENT_ENCODING).iter();
    let mut named = named.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    let other = named.find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))?;
    Some(said::words(&other, secrets))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE) && has_media_type(headers, "text/event-stream")
}

/// `what`, and why, where that is known.
fn with(what: &str, why: &str) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    format!("{what}{colon}{why}")
}

/// `told` is for everybody; the log has `why`, which may say where the upstream is.
fn unreachable(shared: &Shared, told: &str, why: &str) -> SourceError {
    let why = said::printable(why);
    tracing::warn!(upstream = shared.connector.endpoint().server(), why, "cannot reach the upstream: {told}");
    SourceError::new(SourceCode::Unreachable, format!("cannot reach the upstream: {told}"))
}

fn stalled(limit: Duration, what: &str) -> SourceError {
    SourceError::new(SourceCode::Stalled, format!("the upstream stalled: {what} for {}", format_duration(limit)))
}

fn invalid(what: &str) -> SourceError {
    SourceError::new(SourceCode::Invalid, format!("the upstream is not understood: {what}"))
}

fn ended(what: &str) -> SourceError {
    SourceError::new(SourceCode::Ended, format!("the upstream ended too early: {what}"))
}
