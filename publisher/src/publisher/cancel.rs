//! Cancelling over Redis: a mark and a message by `sse_cancel`, waited for by way of [`listening`](super::listening).

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use shared::channel::Channel;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::tries::call;
use super::{Inner, Publisher};
use crate::{Cancel, PublishError};

impl Publisher {
    /// Asks whoever produces the channel's events to stop; see [`Cancel::cancel`]. Returns how many processes were listening
    /// at that instant, those in which the last one who waited has gone seconds ago included.
    ///
    /// Takes as long as a publish does at most, and is tried again as that is: to cancel twice does no harm.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] and [`PublishError::Rejected`].
    pub async fn cancel(&self, channel: &Channel) -> Result<u64, PublishError> {
        let (inner, partition) = (&*self.inner, self.inner.keys.partition(channel));
        call(inner, partition, |deadline| cancel_once(inner, channel, partition, deadline)).await
    }

    /// Is done as soon as the channel is cancelled: at once where it was within the last hour
    /// ([`CANCEL_TTL`](crate::CANCEL_TTL)) already. Waits through whatever happens to Redis, for ever if need be; the log
    /// tells when listening is interrupted.
    ///
    /// ```
    /// # use publisher::{Event, Publisher};
    /// # use shared::channel::Channel;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = testkit::RedisServer::start().await;
    /// # let publisher = Publisher::connect(&shared::redis::Settings::new(&server.url())).await?;
    /// # async fn next_step() { std::future::pending().await }
    /// let job = Channel::parse("job:7")?;
    /// // Somebody presses Stop; anywhere, also before this job has begun.
    /// publisher.cancel(&job).await?;
    ///
    /// let cancelled = publisher.cancelled(&job);
    /// tokio::pin!(cancelled);
    /// loop {
    ///     tokio::select! {
    ///         () = &mut cancelled => break,
    ///         () = next_step() => { /* publish how far it is */ }
    ///     }
    /// }
    /// publisher.publish(&job, Event::text("stopped").named("cancelled").ended()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Where `redis.partitions` is more than 1, it is a second later: marks are read every second then, on connections there are.
    ///
    /// Else all who wait in this process, by any clone, share one more connection to Redis. It is there while somebody waits and
    /// some seconds longer, and dropping the future is all it takes to wait no more. The future needs no publisher: it goes
    /// on where the last clone has been dropped. Poll it within a Tokio runtime.
    ///
    /// A channel that is used for one thing after the other stays cancelled for that hour: give each its own.
    pub fn cancelled(&self, channel: &Channel) -> impl Future<Output = ()> + Send + 'static + use<> {
        Arc::clone(&self.inner.listening).cancelled(channel.clone())
    }
}

impl Cancel for Publisher {
    fn cancel<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<u64, PublishError>> {
        self.cancel(channel).boxed()
    }

    fn cancelled(&self, channel: &Channel) -> BoxFuture<'static, ()> {
        self.cancelled(channel).boxed()
    }
}

async fn cancel_once(inner: &Inner, channel: &Channel, partition: u16, deadline: Instant) -> Result<u64, Failure> {
    let primary = inner.primaries.of(partition, deadline).await?;
    let mut link = primary.lend(deadline).await?;
    let loaded = primary.functions();
    let cancel = loaded.functions.cancel(&inner.keys.channel(channel));
    let failure = match timeout_at(deadline, cancel.query_async(link.connection())).await {
        Ok(Ok(receivers)) => return Ok(receivers),
        Ok(Err(error)) => Failure::of(&error),
        Err(_) => Failure::late(),
    };
    link.end(&failure);
    if failure.no_functions {
        primary.load_again(&loaded, &inner.keys, deadline).await?;
    }
    Err(failure)
}
