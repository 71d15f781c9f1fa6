//! Where a connection begins: what the client sent, compared with what there is.

use shared::cursor::{Cursor, CursorPart};
use shared::position::Position;

use crate::broker::Partition;
use crate::hub::{Hub, Life, Subscription};

/// Where a client wants to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Resume {
    /// At the present.
    #[default]
    Now,
    /// Right after what it has.
    After(Cursor),
    /// It sent something that is no cursor.
    Unknown,
    /// With all history that there is.
    Earliest,
    /// With so many events of each channel.
    Newest(usize),
}

impl Resume {
    /// What a client says that it has: a cursor, `earliest`, or nothing known.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "earliest" => Self::Earliest,
            _ => text.parse().map_or(Self::Unknown, Self::After),
        }
    }

    /// The client's cursor, where it sent one.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        match self {
            Self::After(cursor) => Some(cursor.to_string()),
            Self::Now | Self::Unknown | Self::Earliest | Self::Newest(_) => None,
        }
    }

    /// The part of the client's cursor that is of `partition`, where that is one of those that there are.
    pub(super) fn part(&self, hub: &Hub, partition: Partition) -> Option<CursorPart> {
        let Self::After(cursor) = self else { return None };
        // Tells how partitions are numbered here.
        let numbered = hub.life(partition)?.begin.partition;
        match cursor.parts() {
            [part] if numbered.is_none() && part.partition.is_none() => Some(*part),
            parts => parts.iter().find(|part| part.partition.is_some() && part.partition == numbered).copied(),
        }
    }
}

/// Whether a client has nothing to come for: all its channels, which are live, have ended at or before where it is, and
/// nothing before that is missing. The answer is 204 then.
#[must_use]
pub fn is_over(hub: &Hub, subscriptions: &[Subscription], resume: &Resume) -> bool {
    subscriptions.iter().all(|subscription| {
        let partition = subscription.partition();
        let Some(Life { number, begin }) = hub.life(partition) else { return false };
        let ended = match resume {
            Resume::Now => Position::MAX,
            Resume::After(_) => match resume.part(hub, partition) {
                // Beyond the watermark only Redis knows whether there was such a position.
                Some(part) if part.tag == begin.tag && part.position <= hub.watermark(partition) => part.position,
                _ => return false,
            },
            Resume::Unknown | Resume::Earliest | Resume::Newest(_) => return false,
        };
        // A last event at or before the cursor says that there is none after it.
        subscription.live().is_some_and(|live| live.life == number)
            && subscription.last().is_some_and(|last| last.ended && last.position <= ended)
    })
}
