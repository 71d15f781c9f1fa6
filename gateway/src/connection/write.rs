//! What a connection writes beside its events, and events put together into one write.

use bytes::Bytes;
use serde::Serialize;
use shared::channel::Channel;
use shared::continuity::Gap;
use shared::cursor::CursorPart;
use shared::event_stream::encode;

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

/// One write: the shared bytes of a single event as they are, or several in one piece.
#[derive(Default)]
pub(super) struct Write {
    first: Option<Bytes>,
    rest: Vec<u8>,
}

impl Write {
    pub(super) fn len(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len) + self.rest.len()
    }

    pub(super) fn push(&mut self, block: &Bytes) {
        match &self.first {
            None if self.rest.is_empty() => self.first = Some(block.clone()),
            _ => self.own(block.len()).extend_from_slice(block),
        }
    }

    pub(super) fn push_with_id(&mut self, fields: &[u8], id: &str) {
        let out = self.own(fields.len() + id.len() + 8);
        out.extend_from_slice(fields);
        encode::id(out, id);
        encode::end(out);
    }

    fn own(&mut self, more: usize) -> &mut Vec<u8> {
        if let Some(first) = self.first.take() {
            self.rest.reserve(first.len() + more);
            self.rest.extend_from_slice(&first);
        }
        &mut self.rest
    }

    pub(super) fn finish(self) -> Bytes {
        self.first.unwrap_or_else(|| self.rest.into())
    }
}
