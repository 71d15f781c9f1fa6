//! What a connection writes beside its events, and events put together into one write.

use bytes::Bytes;
use serde::Serialize;
use shared::channel::Channel;
use shared::continuity::Gap;
use shared::cursor::CursorPart;
use shared::event_stream::encode;

use super::MAX_WRITE;
use super::pieces::Pieces;

/// Pieces of a write, of which an event has one or two: a connection that is not told what they are holds no more than their
/// addresses, and a socket takes so many in one call.
const MAX_PIECES: usize = 128;

/// `sse.gap`: events of `channel` can no longer be had; it is complete again after `end`. It carries no `id:`, since other
/// channels may still have events to come from before that.
pub(super) fn gap(out: &mut Vec<u8>, channel: &Channel, gap: Gap, end: CursorPart) {
    #[derive(Serialize)]
    struct Data<'a> {
        channel: &'a str,
        reason: Gap,
        cursor: String,
    }
    let data = Data { channel: channel.as_str(), reason: gap, cursor: end.to_string() };
    out.extend_from_slice(b"event: sse.gap\n");
    // Of strings only: it cannot fail.
    encode::data(out, &serde_json::to_string(&data).unwrap_or_default());
    encode::end(out);
}

/// One write as it grows: the shared bytes of events as they are.
#[derive(Default)]
pub(super) struct Write {
    pieces: Pieces,
    bytes: usize,
}

impl Write {
    /// Whether another event is to wait for the next write.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_WRITE || self.pieces.pieces().len() >= MAX_PIECES
    }

    pub(super) fn push(&mut self, block: Bytes) {
        self.bytes += block.len();
        self.pieces.push(block);
    }

    /// The fields are shared, the cursor is this connection's own.
    pub(super) fn push_with_id(&mut self, fields: Bytes, id: &str) {
        let mut end = Vec::with_capacity(id.len() + 8);
        encode::id(&mut end, id);
        encode::end(&mut end);
        if !fields.is_empty() {
            self.push(fields);
        }
        self.push(end.into());
    }

    pub(super) fn finish(self) -> Pieces {
        self.pieces
    }
}
