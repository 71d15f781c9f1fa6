//! From joining its channels to following them: a connection settles when all that it was promised of the past is written.

use std::time::Duration;

use shared::position::Position;
use tokio::time::Instant;

use super::{Connection, Parts, join};

/// How long a connection may take to join its channels while the broker is there. It holds their past meanwhile.
pub(super) const JOIN_DEADLINE: Duration = Duration::from_secs(60);

impl Connection {
    /// Closes the joins that are done. Whether there is something to say of that.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let was_joining = is_joining(&self.parts);
        let moved = self.close_joins();
        if was_joining && !is_joining(&self.parts) {
            let since = self.joining_since.unwrap_or(now);
            self.guard.metrics().replayed(now.saturating_duration_since(since));
        }
        moved
    }

    /// Parts whose channels have been joined, and of which all that was promised is written: the cursor covers the gaps too.
    /// Whether there is something to say of that.
    fn close_joins(&mut self) -> bool {
        let mut moved = false;
        for (index, part) in self.parts.iter_mut().enumerate() {
            if !part.joining || part.held {
                continue;
            }
            let Some(promised) = join::promised(index, part.at.position, &self.readers) else { continue };
            if promised <= part.watermark {
                (part.joining, part.awaits) = (false, Position::ZERO);
                moved |= part.raise_to_watermark();
            } else if part.awaits != promised {
                part.awaits = promised;
                self.hub.wake_at(part.partition, promised, &self.wakeup);
            }
        }
        moved
    }

    /// Raises the cursor to the watermarks, up to which nothing is left to write. Returns whether it moved.
    pub(super) fn move_cursor(&mut self) -> bool {
        let mut moved = false;
        for part in self.parts.iter_mut().filter(|part| !part.held && !part.joining) {
            moved |= part.raise_to_watermark();
        }
        moved
    }

    /// Whether it has not come to its channels for too long, as the last look found. Without a session there is nothing it
    /// could do.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let mut waiting = self.parts.iter().filter(|part| part.held || part.joining);
        if !waiting.any(|part| self.hub.is_up(part.partition)) {
            self.joining_since = None;
            return false;
        }
        let since = *self.joining_since.get_or_insert(now);
        now.saturating_duration_since(since) >= JOIN_DEADLINE
    }
}

fn is_joining(parts: &Parts) -> bool {
    parts.iter().any(|part| part.joining)
}
