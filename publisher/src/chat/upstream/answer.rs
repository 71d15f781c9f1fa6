//! One answer of an upstream as it comes, in memory that is bounded, and never waited for in vain.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use humantime::format_duration;
use hyper::body::Incoming;
use shared::event_stream::decode::{Decoded, Decoder};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::said::{self, Said};
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
/// After its last word, how long it may take to end the stream: one that is cut off takes it for a failure.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An answer that has begun. Dropping it closes its connection.
pub(super) struct Answer {
    body: Incoming,
    /// The task that drives the connection.
    _driver: JoinSet<()>,
    decoder: Decoder,
    /// The decoder gave up.
    broken: bool,
    /// Text that came and was not taken yet.
    texts: VecDeque<String>,
    stall: Duration,
    /// Text has come.
    begun: bool,
    /// When the answer began, or went on: text, or at least a chunk without any.
    last_chunk: Instant,
    /// Why it ends, once it was said; nothing counts that comes after.
    finish: Option<String>,
    /// It ended the stream itself.
    done: bool,
}

/// Asks, and waits for the head.
pub(super) async fn ask(shared: &Shared, question: &Question) -> Result<Answer, SourceError> {
    let unreachable =
        |why: &str| SourceError::new(SourceCode::Unreachable, format!("cannot reach the upstream: {why}"));
    let request = shared.request(question)?;
    let (mut sender, driver) = match timeout(CONNECT_TIMEOUT, shared.connector.connect()).await {
        Ok(connected) => connected.map_err(|why| unreachable(&why))?,
        Err(_) => return Err(unreachable(&format!("no connection within {}", format_duration(CONNECT_TIMEOUT)))),
    };
    let response = match timeout(shared.stall * PATIENCE, sender.send_request(request)).await {
        Ok(answered) => answered.map_err(|error| unreachable(&describe(&error)))?,
        Err(_) => return Err(stalled(shared.stall * PATIENCE, "it did not answer")),
    };
    if response.status() != StatusCode::OK || !is_event_stream(response.headers()) {
        return Err(refusal(response, shared.stall).await);
    }
    Ok(Answer {
        body: response.into_body(),
        _driver: driver,
        decoder: Decoder::with_limit(MAX_EVENT),
        broken: false,
        texts: VecDeque::new(),
        stall: shared.stall,
        begun: false,
        last_chunk: Instant::now(),
        finish: None,
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
            if let Some(reason) = self.finish.take() {
                if !self.done {
                    // Whether that is in time or not, the answer is complete.
                    let _ = timeout(LAST_WORDS, self.hear_out()).await;
                }
                return Ok(Piece::End { reason });
            }
            if let Some(decoded) = self.decoder.next() {
                self.take(decoded)?;
            } else if self.broken {
                return Err(invalid(&format!("an event of it is longer than {MAX_EVENT} bytes")));
            } else {
                self.read().await?;
            }
        }
    }

    fn take(&mut self, decoded: Decoded) -> Result<(), SourceError> {
        let Decoded::Event(event) = decoded else { return Ok(()) };
        match said::read(&event.event, &event.data) {
            Said::Chunk { text, finish } => {
                self.last_chunk = Instant::now();
                self.begun |= !text.is_empty();
                self.texts.extend(pieces(text));
                self.finish = self.finish.take().or(finish);
            }
            Said::Done => {
                self.done = true;
                self.finish.get_or_insert_with(|| "stop".to_owned());
            }
            Said::Aside => {}
            Said::Error(why) => return Err(SourceError::new(SourceCode::Said, format!("the upstream failed: {why}"))),
            Said::Nonsense(why) => return Err(invalid(&format!("an event of it is no chunk of an answer: {why}"))),
        }
        Ok(())
    }

    /// Reads once, within what it may take.
    async fn read(&mut self) -> Result<(), SourceError> {
        let silence = if self.begun { self.stall } else { self.stall * PATIENCE };
        let without_text = self.last_chunk + self.stall * PATIENCE;
        let deadline = without_text.min(Instant::now() + silence);
        // What has come counts, even if nobody looked for it in time: that is our own slowness.
        let Ok(frame) = timeout_at(deadline, self.body.frame()).await else {
            let (limit, what) = match deadline == without_text {
                true => (self.stall * PATIENCE, "it sent no text"),
                false => (silence, "it sent nothing"),
            };
            return Err(stalled(limit, what));
        };
        if Instant::now() > deadline {
            self.last_chunk = Instant::now();
        }
        match frame {
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    self.broken = self.decoder.feed(&bytes).is_err();
                }
                Ok(())
            }
            Some(Err(error)) => Err(ended(&format!("the connection broke off: {}", describe(&error)))),
            None => self.end_of_body(),
        }
    }

    /// An empty line behind the last event is often forgotten; a line that has no end is none.
    fn end_of_body(&mut self) -> Result<(), SourceError> {
        self.done = true;
        let fed = self.decoder.feed(b"\n");
        while let Some(decoded) = self.decoder.next() {
            self.take(decoded)?;
        }
        match fed {
            Ok(()) if self.finish.is_some() => Ok(()),
            _ => Err(ended("it did not say that this was the end")),
        }
    }

    /// Reads to `[DONE]` or the end, and drops it.
    async fn hear_out(&mut self) {
        loop {
            for decoded in self.decoder.by_ref() {
                if let Decoded::Event(event) = decoded
                    && said::read(&event.event, &event.data) == Said::Done
                {
                    return;
                }
            }
            let Some(Ok(frame)) = self.body.frame().await else { return };
            let Ok(bytes) = frame.into_data() else { continue };
            if self.decoder.feed(&bytes).is_err() {
                return;
            }
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

/// Why there is no answer, as the response says it.
async fn refusal(response: Response<Incoming>, patience: Duration) -> SourceError {
    let (head, mut body) = response.into_parts();
    let mut told = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            told.extend(frame.into_data().unwrap_or_else(|_| Bytes::new()));
            if told.len() >= MAX_PROBLEM {
                told.truncate(MAX_PROBLEM);
                return;
            }
        }
    };
    // What came until then has to do.
    let _ = timeout(patience, reading).await;
    let said = said::message(&told);
    let colon = if said.is_empty() { "" } else { ": " };
    if head.status != StatusCode::OK {
        let detail = format!("the upstream answered {}{colon}{said}", head.status);
        return SourceError::new(SourceCode::Status, detail);
    }
    if said::is_error(&told) {
        return SourceError::new(SourceCode::Said, format!("the upstream failed: {said}"));
    }
    invalid("it answered with something else than an event stream")
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE) && has_media_type(headers, "text/event-stream")
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
