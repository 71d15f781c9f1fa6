//! Reads an event stream piece by piece, as a browser's `EventSource` would, in memory that is bounded.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>

use std::collections::VecDeque;
use std::time::Duration;

use memchr::{memchr, memchr2};

/// Default bound of one block, in bytes.
pub const DEFAULT_LIMIT: usize = 16 << 20;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What a stream says, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A dispatched event.
    Event(Received),
    /// A block that set the last event ID and had no data: nothing is dispatched, the ID counts all the same.
    Id(String),
    /// A new reconnection time.
    Retry(Duration),
    /// A comment, without its colon and one leading space.
    Comment(String),
}

/// An event as a client dispatches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The event type; `message` where the stream named none.
    pub event: String,
    /// The data, its lines joined by LF.
    pub data: String,
    /// The last event ID at this point: this block's, else that of an earlier one, else empty.
    pub id: String,
}

/// A block grew beyond the decoder's limit; the stream cannot be trusted further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block of the event stream is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit in bytes.
    pub limit: usize,
}

/// Incremental decoder: [`feed`](Self::feed) bytes cut anywhere, take what is complete with [`next`](Iterator::next).
#[derive(Debug)]
pub struct Decoder {
    /// The line that has no end yet.
    line: Vec<u8>,
    /// Whether a byte order mark may still come: only before the first line.
    at_start: bool,
    /// The last line ended in CR: an LF right after it belongs to the same line break.
    after_cr: bool,
    data: String,
    has_data: bool,
    event: String,
    /// The "last event ID buffer": it outlives a block.
    last_event_id: String,
    has_id: bool,
    ready: VecDeque<Decoded>,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// With [`DEFAULT_LIMIT`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }

    /// Bounds one line, and the data of one block, to `limit` bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            at_start: true,
            after_cr: false,
            data: String::new(),
            has_data: false,
            event: String::new(),
            last_event_id: String::new(),
            has_id: false,
            ready: VecDeque::new(),
            limit,
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`TooLong`]: do not feed this decoder again. What was complete before is still to be had.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = memchr2(b'\r', b'\n', bytes) {
            self.append(&bytes[..at])?;
            let line = std::mem::take(&mut self.line);
            self.take_line(&line)?;
            self.line = line;
            self.line.clear();
            let cr = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
            if cr && bytes.is_empty() {
                self.after_cr = true;
            } else if cr {
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(&mut self, mut line: &[u8]) -> Result<(), TooLong> {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (name, value) = match memchr(b':', line) {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        match name {
            b"" => self.ready.push_back(Decoded::Comment(text(value))),
            b"data" => self.append_data(value)?,
            b"event" => self.event = text(value),
            b"id" if !value.contains(&0) => {
                self.last_event_id = text(value);
                self.has_id = true;
            }
            b"retry" => self.take_retry(value),
            _ => {}
        }
        Ok(())
    }

    fn append_data(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.data.len() + value.len() + 1 > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if self.has_data {
            self.data.push('\n');
        }
        self.data.push_str(&String::from_utf8_lossy(value));
        self.has_data = true;
        Ok(())
    }

    /// ASCII digits only; a number too large for the clock counts as the largest.
    fn take_retry(&mut self, value: &[u8]) {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return;
        }
        let ms = text(value).parse().unwrap_or(u64::MAX);
        self.ready.push_back(Decoded::Retry(Duration::from_millis(ms)));
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let has_id = std::mem::take(&mut self.has_id);
        if std::mem::take(&mut self.has_data) {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            self.ready.push_back(Decoded::Event(Received { event, data, id: self.last_event_id.clone() }));
        } else if has_id {
            self.ready.push_back(Decoded::Id(self.last_event_id.clone()));
        }
    }
}

impl Iterator for Decoder {
    type Item = Decoded;

    /// What is complete and was not taken yet; `None` until more is fed.
    fn next(&mut self) -> Option<Decoded> {
        self.ready.pop_front()
    }
}

/// Invalid UTF-8 becomes U+FFFD, as the spec decodes it. Line by line is the same as the whole stream at once: CR and LF
/// are never part of a longer sequence.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
