//! The answer that carries an event stream: its head, then its body in chunks, of a known length, or up to the end of the
//! connection (RFC 9112). It must not look into the body.

/// Longest head that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Most headers in it.
const MAX_HEADERS: usize = 64;
/// Longest line between two chunks, in bytes: size and extensions, or a trailer.
const MAX_LINE: u32 = 4_096;

/// Why an answer cannot be read, or is no event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

/// Reads a head. `None` as long as it is not whole; else the body's framing and the number of bytes of the head.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(Body, usize)>, Unreadable> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|error| Unreadable(format!("the answer's head: {error}")))?;
    let httparse::Status::Complete(length) = parsed else {
        if bytes.len() > MAX_HEAD {
            return Err(Unreadable(format!("the answer's head is longer than {MAX_HEAD} bytes")));
        }
        return Ok(None);
    };
    let status = answer.code.unwrap_or_default();
    if status != 200 {
        return Err(Unreadable(format!("status {status}")));
    }
    let value = |name: &str| {
        let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase())
    };
    let media_type = value("content-type").unwrap_or_default();
    if !media_type.trim_start().starts_with("text/event-stream") {
        return Err(Unreadable(format!("content type {media_type:?} is not text/event-stream")));
    }
    if value("transfer-encoding").is_some_and(|encoding| encoding.trim() == "chunked") {
        return Ok(Some((Body { left: 0, line: 0, state: State::Size }, length)));
    }
    let body = match value("content-length") {
        Some(text) => {
            let left = text.trim().parse().map_err(|_| Unreadable(format!("content length {text:?}")))?;
            Body { left, line: 0, state: State::Length }
        }
        None => Body { left: 0, line: 0, state: State::Close },
    };
    Ok(Some((body, length)))
}

/// Where in a body its reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    /// Bytes that the chunk or the body still has; in a size line, the size so far.
    left: u64,
    /// Bytes of the present line between chunks.
    line: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within the hex digits of a chunk's size.
    Size,
    /// Behind them, up to the line's end.
    Extension,
    /// Within a chunk.
    Chunk,
    /// Between a chunk and the next size.
    ChunkEnd,
    /// Behind the last chunk: trailers, up to an empty line.
    Trailer,
    /// All of it was read.
    Over,
    /// Within a body of known length.
    Length,
    /// The body ends with the connection.
    Close,
}

impl Body {
    /// One whose head has not been read.
    pub(crate) fn none() -> Self {
        Self { left: 0, line: 0, state: State::Over }
    }

    /// Whether the answer is complete: what follows would be another one's.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over || (self.state == State::Length && self.left == 0)
    }

    /// Whether the end of the connection is the regular end of the body.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.state == State::Close
    }

    /// The next piece of the body in `bytes`, which is moved on past it; `None` when there is none in what is left.
    #[inline]
    pub(crate) fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Unreadable> {
        loop {
            match self.state {
                State::Chunk | State::Length => {
                    let piece = self.take(bytes);
                    if self.state == State::Chunk && self.left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                    if self.state != State::ChunkEnd {
                        return Ok(None);
                    }
                }
                State::Close => {
                    let piece = std::mem::take(bytes);
                    return Ok((!piece.is_empty()).then_some(piece));
                }
                State::Over => return Ok(None),
                State::Size | State::Extension | State::ChunkEnd | State::Trailer => {
                    let Some((&byte, rest)) = bytes.split_first() else { return Ok(None) };
                    *bytes = rest;
                    self.between(byte)?;
                }
            }
        }
    }

    fn take<'b>(&mut self, bytes: &mut &'b [u8]) -> &'b [u8] {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        *bytes = rest;
        self.left -= length as u64;
        piece
    }

    /// Takes one byte that stands between two chunks.
    fn between(&mut self, byte: u8) -> Result<(), Unreadable> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(Unreadable(format!("a line between two chunks is longer than {MAX_LINE} bytes")));
        }
        match (self.state, byte) {
            (State::ChunkEnd, b'\r') => {}
            (State::ChunkEnd, b'\n') => self.begin_line(State::Size),
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or_default());
                let size = self.left.checked_mul(16).ok_or_else(|| Unreadable("a chunk's size".to_owned()))?;
                self.left = size + digit;
            }
            // A line of no digit at all is no size.
            (State::Size, _) if self.line == 1 => return Err(bad_byte("a chunk's size", byte)),
            (State::Size | State::Extension, b'\n') => {
                self.begin_line(if self.left == 0 { State::Trailer } else { State::Chunk });
            }
            (State::Size, b'\r' | b';' | b' ' | b'\t') | (State::Extension, _) => self.state = State::Extension,
            (State::Trailer, b'\n') if self.line == 1 => self.state = State::Over,
            (State::Trailer, b'\n') => self.line = 0,
            // An empty line may be CR and LF.
            (State::Trailer, b'\r') => self.line -= 1,
            (State::Trailer, _) => {}
            (State::Size, _) => return Err(bad_byte("a chunk's size", byte)),
            (_, _) => return Err(bad_byte("the end of a chunk", byte)),
        }
        Ok(())
    }

    fn begin_line(&mut self, state: State) {
        self.line = 0;
        self.state = state;
    }
}

fn bad_byte(place: &str, byte: u8) -> Unreadable {
    Unreadable(format!("{place} holds the byte 0x{byte:02x}"))
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
