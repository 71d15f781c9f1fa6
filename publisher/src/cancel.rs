//! The seam by which a producer is told to stop ([`Cancel`]), and who waits for it ([`Waiters`]).
//!
//! Whoever reads a channel may want no more of it: a person presses Stop. The channel's producer may be anywhere, may not
//! have begun, or may be between two connections. So a cancellation is remembered by the broker, and the message that
//! tells of it only makes it quick.

mod waiters;

use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::channel::Channel;

pub use self::waiters::{Waiter, Waiters};
use crate::PublishError;

/// How long a cancellation is remembered: the `CANCEL_TTL` of `sse.lua`.
pub const CANCEL_TTL: Duration = Duration::from_secs(3_600);

/// Tells producers to stop. Implemented by every broker.
pub trait Cancel: Send + Sync + 'static {
    /// Asks whoever produces the channel's events to stop, now or, for [`CANCEL_TTL`], once it looks. Returns how many
    /// processes (not producers) were listening at that instant; 0 is no error.
    ///
    /// Nothing is published on the channel, and it stays open: what the producer says last is its own affair.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] and [`PublishError::Rejected`]. To cancel again does no harm.
    fn cancel<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<u64, PublishError>>;

    /// Is done as soon as the channel is cancelled: at once where it was within [`CANCEL_TTL`] already. Waits through
    /// whatever happens to the broker, for ever if need be.
    ///
    /// A channel that is used for one thing after the other stays cancelled for that hour: give each its own.
    fn cancelled(&self, channel: &Channel) -> BoxFuture<'static, ()>;
}
