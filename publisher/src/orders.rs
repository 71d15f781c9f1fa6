//! The seam by which nodes are told what to do with streams and tokens ([`Orders`]), and by which they hear it ([`Hear`]).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::census::Of;
use shared::order::{Order, Revocation};
use tokio_util::sync::CancellationToken;

use crate::PublishError;
use crate::census::Myself;

/// Revocations that are remembered at a time; beyond it more are refused.
pub const MAX_REVOCATIONS: usize = 100_000;
/// Longest that a ticket may be good.
pub const MAX_TICKET_TTL: Duration = Duration::from_secs(300);

/// Hears what nodes are told. Calls are short and never wait.
pub trait Hear: Send + Sync + 'static {
    /// To be carried out now. May come twice.
    fn order(&self, order: Order);

    /// All revocations that there are, from time to time; at the start, before any order.
    fn revocations(&self, all: Vec<Revocation>);

    /// What this node says of itself to those who ask who is there; `None`: it is no node that holds connections.
    fn myself(&self) -> Option<Myself> {
        None
    }

    /// Connections of `of` on this node; `None` as in [`myself`](Self::myself).
    fn asked(&self, _of: &Of) -> Option<u64> {
        None
    }
}

/// Tells all nodes, and keeps what tickets stand for. Implemented by every broker.
pub trait Orders: Send + Sync + 'static {
    /// Has every node carry out `order`: those that are there within a second, and of revocations those too that start later,
    /// until the tokens have expired.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`], also where [`MAX_REVOCATIONS`] are remembered, and [`PublishError::Rejected`]. To try
    /// again does no harm.
    fn give<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Keeps what the ticket with this digest stands for, once, for `ttl` (at most [`MAX_TICKET_TTL`]).
    ///
    /// # Errors
    /// As [`give`](Self::give).
    fn keep_ticket<'a>(
        &'a self,
        digest: &'a str,
        stands_for: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// What the ticket stands for, the first time, on whichever node.
    ///
    /// # Errors
    /// As [`give`](Self::give).
    fn take_ticket<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<String>, PublishError>>;

    /// Passes on what all nodes are told, until `stop`. Waits through whatever happens to the broker.
    fn hear(self: Arc<Self>, hear: Arc<dyn Hear>, stop: CancellationToken) -> BoxFuture<'static, ()>;
}
