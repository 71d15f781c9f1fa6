//! One connection to Redis: commands go out in batches, answers come back in their order. It must not know what is due.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::resp;

/// Events that may wait for their answers: Redis holds up the next one beyond that, and not this process' memory.
const MAX_PENDING: usize = 4_096;
/// Bytes read at once.
const READ: usize = 16 * 1024;

/// What an event that was sent waits for its answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pending {
    /// Channel.
    pub(super) key: u32,
    /// Its number there.
    pub(super) sequence: u64,
    /// When it was sent.
    pub(super) sent: Instant,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// Bytes to send, of which `written` are gone.
    pub(super) out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// Without an answer so far, in the order they were sent.
    pub(super) pending: VecDeque<Pending>,
}

impl Link {
    /// Over a connection on which nothing was said.
    pub(super) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write, out: Vec::new(), written: 0, input: Vec::new(), pending: VecDeque::new() }
    }

    /// Whether more may be put into `out`: all of it is gone, and not too many answers are owed.
    pub(super) fn has_room(&self) -> bool {
        self.written == self.out.len() && self.pending.len() < MAX_PENDING
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.written < self.out.len()
    }

    /// Makes room in `out`.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.written = 0;
    }

    /// Appends a command.
    pub(super) fn push(&mut self, words: &[&[u8]]) {
        use std::io::Write as _;
        // Writing into a Vec cannot fail.
        let _ = write!(self.out, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.out, "${}\r\n", word.len());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends and reads what can be: returns after either. Dropping it half way loses nothing.
    pub(super) async fn step(&mut self) -> Result<(), String> {
        let Self { read, write, out, written, input, .. } = self;
        input.reserve(READ);
        let unsent = &out[*written..];
        tokio::select! {
            biased;
            got = read.read_buf(input) => match got {
                Ok(0) => Err("the server closed the connection".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            sent = write.write(unsent), if !unsent.is_empty() => match sent {
                Ok(length) => {
                    *written += length;
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Hands over each answer that was read, with what was sent for it.
    pub(super) fn answers(&mut self, mut each: impl FnMut(Pending, Option<&[u8]>)) -> Result<(), String> {
        let mut at = 0;
        while let Some(reply) = resp::reply(&self.input[at..])? {
            at += reply.length;
            let pending = self.pending.pop_front().ok_or("an answer to nothing")?;
            each(pending, reply.error);
        }
        self.input.drain(..at);
        Ok(())
    }
}
