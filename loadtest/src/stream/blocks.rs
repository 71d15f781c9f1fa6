//! Reads an event stream as `shared::event_stream::decode` does, keeping of each block only what an account needs: whether it
//! is one of ours, its marker, its id. A test holds both against each other, over any cut of the bytes.

use memchr::{memchr, memchr2};

use crate::verify::Marker;

/// What data is filled up with.
pub(crate) const PADDING: u8 = b'x';
/// Room for the lines of a block beside the data, in bytes.
const OVERHEAD: usize = 16 * 1024;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Who an event is from, by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Name {
    /// Anybody: it has to carry a marker.
    #[default]
    Publisher,
    /// `sse.gap`: the gateway tells of a loss.
    Gap,
    /// Another name that gateways keep for themselves, as `sse.open`.
    Reserved,
}

/// A block that ended: an event if it has data; else its id alone counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// By its last `event:` line.
    pub(crate) name: Name,
    /// At least one `data:` line.
    pub(crate) has_data: bool,
    /// Bytes of the data, its lines joined by one byte each.
    pub(crate) data_bytes: usize,
    /// At the start of the first data line.
    pub(crate) marker: Option<Marker>,
    /// The new last event id; only read where the reader was told to.
    pub(crate) id: Option<Vec<u8>>,
    /// Bytes of all lines, against the limit.
    bytes: usize,
}

/// A stream longer than it may be without the end of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong(pub(crate) usize);

/// What is known of a stream between two reads.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The block that a read ended within.
    partial: Option<Box<Partial>>,
    /// The last line ended in CR: an LF right after it belongs to the same line break.
    after_cr: bool,
    /// A byte order mark may still come: only before the first line.
    at_start: bool,
}

#[derive(Debug, Default)]
struct Partial {
    block: Block,
    /// The line that has no end yet.
    line: Vec<u8>,
}

/// How to read; the same for all streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Most bytes of a block.
    limit: usize,
    /// Whether ids are of interest.
    ids: bool,
}

impl Rules {
    /// For events of `size` bytes of data.
    pub(crate) fn new(size: usize, ids: bool) -> Self {
        Self { limit: size + OVERHEAD, ids }
    }
}

impl Reader {
    /// Before the first byte.
    pub(crate) fn new() -> Self {
        Self { partial: None, after_cr: false, at_start: true }
    }

    /// Takes the next bytes, cut anywhere, and hands over each block that ends in them. After an error the stream cannot be
    /// read on.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], rules: Rules, mut ended: impl FnMut(Block)) -> Result<(), TooLong> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        let Partial { mut block, mut line } = self.partial.take().map_or_else(Partial::default, |partial| *partial);
        while let Some(at) = memchr2(b'\r', b'\n', bytes) {
            block.bytes += at;
            if block.bytes > rules.limit {
                return Err(TooLong(rules.limit));
            }
            let over = if line.is_empty() {
                self.take_line(&mut block, &bytes[..at], rules)
            } else {
                line.extend_from_slice(&bytes[..at]);
                let over = self.take_line(&mut block, &line, rules);
                line.clear();
                over
            };
            if over {
                ended(std::mem::take(&mut block));
            }
            let cr = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
            if cr && bytes.is_empty() {
                self.after_cr = true;
            } else if cr {
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        if !bytes.is_empty() {
            block.bytes += bytes.len();
            if block.bytes > rules.limit {
                return Err(TooLong(rules.limit));
            }
            line.extend_from_slice(bytes);
        }
        if !line.is_empty() || block != Block::default() {
            self.partial = Some(Box::new(Partial { block, line }));
        }
        Ok(())
    }

    /// Takes one line, without its end. True where it is the empty one that ends a block.
    #[inline]
    fn take_line(&mut self, block: &mut Block, mut line: &[u8], rules: Rules) -> bool {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            return true;
        }
        let (name, value) = match memchr(b':', line) {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        match name {
            b"data" => block.take_data(value),
            b"event" => block.name = Name::of(value),
            b"id" if rules.ids && !value.contains(&0) => block.id = Some(value.to_vec()),
            _ => {}
        }
        false
    }
}

impl Block {
    fn take_data(&mut self, value: &[u8]) {
        if self.has_data {
            self.data_bytes += 1;
        } else {
            self.marker = Marker::parse(value);
            self.has_data = true;
        }
        self.data_bytes += value.len();
    }
}

impl Name {
    fn of(text: &[u8]) -> Self {
        match text {
            b"sse.gap" => Self::Gap,
            _ if text.starts_with(b"sse.") => Self::Reserved,
            _ => Self::Publisher,
        }
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
