//! One session after the other, of each partition, until the node stops.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::RedisBroker;
use super::backoff::Backoff;
use super::ended::Ended;
use super::session::{Before, Session};
use super::telling::Say;
use super::wanted::Wanted;
use crate::broker::{Interest, InterestQueue, Lost, Partition, Sink};

impl RedisBroker {
    /// Holds sessions of all partitions until `stop`.
    pub(super) async fn sessions(&self, interest: InterestQueue, sink: Arc<dyn Sink>, stop: CancellationToken) {
        if self.keys.partitions() == 1 {
            return self.sessions_of(0, interest, sink, stop).await;
        }
        let mut queues = Vec::new();
        let sessions: FuturesUnordered<_> = (0..self.keys.partitions())
            .map(|partition| {
                #[allow(clippy::disallowed_methods)] // as the one whose items it takes: see `InterestQueue`
                let (queue, interest) = mpsc::unbounded_channel();
                queues.push(queue);
                self.sessions_of(partition, interest, sink.clone(), stop.clone())
            })
            .collect();
        let sessions = sessions.collect::<()>();
        tokio::select! {
            () = self.distribute(interest, &queues) => {}
            () = sessions => {}
        }
    }

    /// Passes on what is wanted of each partition, until nobody wants anything any more.
    async fn distribute(&self, mut interest: InterestQueue, queues: &[mpsc::UnboundedSender<Interest>]) {
        while let Some(item) = interest.recv().await {
            let (Interest::Subscribe { channel, .. } | Interest::Unsubscribe { channel }) = &item;
            if let Some(queue) = queues.get(usize::from(self.keys.partition(channel))) {
                // Its other end lives as long as this one.
                let _ = queue.send(item);
            }
        }
    }

    /// Holds one session of `partition` after the other until `stop`.
    async fn sessions_of(
        &self,
        partition: Partition,
        mut interest: InterestQueue,
        sink: Arc<dyn Sink>,
        stop: CancellationToken,
    ) {
        let mut wanted = Wanted::default();
        let mut backoff = Backoff::default();
        let mut before: Option<Before> = None;
        loop {
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = Session::open(self, partition, before.as_ref(), sink.clone()) => opened,
            };
            let (ended, rest) = match opened {
                Ok(session) => {
                    self.told_unreadable.store(false, Ordering::Relaxed);
                    self.set_current(partition, Some(session.current()));
                    let (reader, rest) = (session.reader(), session.rest());
                    let ended = tokio::select! {
                        () = stop.cancelled() => Ended::Stopped,
                        ended = session.run(&mut wanted, &mut interest, &mut backoff) => ended,
                    };
                    self.set_current(partition, None);
                    before = Some(Before::new(&reader, &ended));
                    (ended, Some(rest))
                }
                Err(ended) => (ended, None),
            };
            self.metrics.up.set(0.0);
            if ended == Ended::Stopped {
                return;
            }
            sink.lost(partition, if ended == Ended::Deaf { Lost::Deaf } else { Lost::Away });
            // Only now: whoever sees it counted finds that the hub knows of it.
            self.metrics.session_ended(ended.reason());
            self.is_away(partition, &ended, wanted.len());
            if let Some(rest) = rest {
                rest.clear(self, &ended).await;
            }
            if !self.wait(partition, backoff.next(), &mut wanted, &mut interest, &stop).await {
                return;
            }
        }
    }

    /// The log speaks when a session is lost, and later of other reasons than that one.
    fn is_away(&self, partition: Partition, ended: &Ended, channels: usize) {
        let (address, node) = (self.client.address(), &*self.node);
        let say = self.telling().ended(partition, &ended.to_string(), Instant::now());
        match say {
            Say::Lost => {
                tracing::warn!(
                    address,
                    node,
                    channels,
                    reason = %ended,
                    "lost the session with Redis; streams stay open, trying again"
                );
            }
            Say::Still => {
                tracing::warn!(address, node, reason = %ended, "still no session with Redis, now for another reason");
            }
            Say::Nothing => tracing::debug!(address, partition, reason = %ended, "no session with Redis"),
        }
    }

    /// A session is established.
    pub(super) fn is_back(&self, partition: Partition, channels: usize) {
        let (after, up) = {
            let mut telling = self.telling();
            (telling.established(partition, Instant::now()), telling.up())
        };
        if up == usize::from(self.keys.partitions()) {
            self.metrics.up.set(1.0);
        }
        self.metrics.sessions.increment(1);
        let (address, node) = (self.client.address(), &*self.node);
        match after {
            Some(after) => tracing::info!(address, node, channels, ?after, "Redis is back"),
            None => tracing::debug!(address, node, partition, channels, "a session with Redis"),
        }
    }

    /// Waits before the next try, no longer than until another server is named, taking note of what the hub wants meanwhile. `false`:
    /// stop.
    async fn wait(
        &self,
        partition: Partition,
        pause: Duration,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        stop: &CancellationToken,
    ) -> bool {
        let until = Instant::now() + pause;
        let mut turns = pin!(self.client.turns(partition));
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep_until(until) => return true,
                () = &mut turns => return true,
                item = interest.recv() => match item {
                    Some(item) => wanted.note(item),
                    None => return false,
                },
            }
        }
    }
}
