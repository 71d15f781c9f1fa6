//! The usual case, and the only one that has to be quick: a connection that has come to all its channels and everything on
//! them. Nothing is new, which takes no lock; or its one channel has something, which is written as it lies in the log.

use super::write::Write;
use super::{CloseReason, Connection, Next, Pieces};
use crate::hub::encoded::Encoded;
use crate::hub::{Follow, Lagged, Look};
use tokio::time::Instant;

impl Connection {
    /// What there is to do for a connection that [`follows`](Connection::follows); `None`: it has to look properly.
    pub(super) fn follow(&mut self, now: Instant) -> Option<Next> {
        if self.readers.iter().all(|reader| reader.subscription.is_unchanged()) {
            return Some(Next::Wait(self.wait_until(now)));
        }
        let ([reader], [part]) = (&mut self.readers[..], &mut self.parts[..]) else { return None };
        // The watermark first, then the log: the other way round an event could hide between the two.
        part.watermark = self.hub.watermark(part.partition);
        let after = Some(part.at.position);
        let look = Look { after, watermark: part.watermark, life: part.life, limit: usize::MAX };
        let (mut out, mut delivered, mut oldest, format) = (Write::default(), 0, None, self.format);
        let ended = &mut reader.ended;
        let each = |event: &Encoded| {
            // One in a format that nobody had asked for before is encoded elsewhere, where no lock is held.
            let Some(block) = event.encoded(format).filter(|_| !out.is_full()) else { return false };
            out.push(block.clone());
            if let Some(at) = event.cursor() {
                (part.at, *ended) = (at, event.ends());
                oldest.get_or_insert(at.position);
            }
            delivered += 1;
            true
        };
        match reader.subscription.follow(look, each) {
            Err(Lagged) => return Some(self.end(CloseReason::Slow, Pieces::default())),
            Ok(Follow::Done | Follow::More) if delivered > 0 => {}
            Ok(_) => return None,
        }
        // The end of its only channel is one of its own.
        self.follows = !reader.ended;
        self.guard.metrics().delivered(delivered, oldest);
        self.put_off(now);
        Some(Next::Write(out.finish()))
    }

    /// Whether there is nothing left but to follow the logs, now that everything up to the watermarks is written.
    pub(super) fn comes_to_rest(&mut self) -> bool {
        let parts = &self.parts;
        let is_at_rest = |reader: &mut super::join::Reader| {
            let part = &parts[reader.part()];
            reader.follows(part.at.position) && reader.subscription.is_read(part.at.position, part.life)
        };
        parts.iter().all(|part| part.is_settled() && !part.held) && self.readers.iter_mut().all(is_at_rest)
    }
}
