//! The seam by which it is asked who is there ([`Census`]): nodes, and their connections on a channel or of a user.
//!
//! Nodes are asked when somebody wants to know, and have until [`ANSWER_WITHIN`]: there is no counter over the nodes that could drift.
//! The other side of it is in [`Hear`](crate::orders::Hear).

use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::census::{Beat, Of};

use crate::PublishError;

/// How long nodes have to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How often a node says that it is there.
pub const BEAT_EVERY: Duration = Duration::from_secs(3);
/// How long that counts: one that was killed is gone after it.
pub const BEAT_TTL: Duration = Duration::from_secs(10);

/// A node's word for what it is, and the name of its present life, which no other life of any node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Myself {
    /// 1 to 64 of `A-Z a-z 0-9 _ . -`.
    pub incarnation: String,
    /// What it says.
    pub beat: Beat,
}

/// A node that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub node: Myself,
    /// Since it said so.
    pub age: Duration,
}

/// Connections over all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    /// Of those nodes that answered.
    pub connections: u64,
    /// Nodes that have any of them.
    pub nodes: usize,
    /// Nodes that are there and did not answer in time, by name: they may have more.
    pub silent: Vec<String>,
}

/// Asks all nodes. Implemented by every broker.
///
/// Errors are [`PublishError::Unavailable`] and [`PublishError::Rejected`]. To ask changes nothing.
pub trait Census: Send + Sync + 'static {
    /// Connections of `of`, on all nodes.
    fn count<'a>(&'a self, of: &'a Of) -> BoxFuture<'a, Result<Count, PublishError>>;

    /// All nodes that are there, by name.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Seen>, PublishError>>;
}
