//! What a session and its hearing tell each other.

use shared::channel::Channel;
use shared::position::Position;

use crate::broker::{Join, Snapshot};

/// What is wrong with a durable message. Anybody who may publish can write one by hand, so by itself it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// It is of another epoch.
    Epoch,
    /// Its position is not above the last.
    Order,
}

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) messages: u64,
    pub(crate) heard: Position,
    pub(crate) barrier: Position,
}

/// A channel whose last event was read while it was subscribed.
pub(crate) struct Compared {
    /// In Redis.
    pub(crate) name: Vec<u8>,
    pub(crate) generation: u64,
    pub(crate) last: Position,
}

/// A channel that was subscribed and then read.
pub(crate) struct Attached {
    /// In Redis.
    pub(crate) name: Vec<u8>,
    pub(crate) channel: Channel,
    pub(crate) generation: u64,
    pub(crate) snapshot: Snapshot,
    pub(crate) join: Join,
}
