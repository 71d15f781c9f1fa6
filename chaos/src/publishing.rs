//! The publishers: one a channel, numbering its events, and sure of the outcome of each before it goes on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use publisher::{Event, Once, PublishError, Publisher};
use serde::{Deserialize, Serialize};
use shared::channel::Channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::oracle::Published;

/// Between two calls for the same event.
const RETRY: Duration = Duration::from_millis(60);

/// What an event carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Its channel.
    pub channel: String,
    /// Its number on it, from 1.
    pub n: u64,
    /// Nothing, to make it larger.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub padding: String,
}

/// What all publishers have in common.
#[derive(Debug)]
pub struct Ledger {
    began: Instant,
    /// Of each channel, what was acknowledged, in order.
    published: Vec<Mutex<Vec<Published>>>,
    /// Of each channel, bytes of padding.
    padding: Vec<AtomicUsize>,
    /// Answers that no fault explains.
    refusals: Mutex<Vec<String>>,
}

/// One channel's publisher.
pub struct ChannelPublisher {
    publisher: Publisher,
    channel: Channel,
    index: usize,
    ledger: Arc<Ledger>,
}

/// The name of a channel by its number.
#[must_use]
pub fn channel_name(index: usize) -> String {
    format!("chaos:{index}")
}

impl Ledger {
    /// For so many channels, of a round that began at this time.
    #[must_use]
    pub fn new(channels: usize, began: Instant) -> Self {
        Self {
            began,
            published: std::iter::repeat_with(Mutex::default).take(channels).collect(),
            padding: std::iter::repeat_with(AtomicUsize::default).take(channels).collect(),
            refusals: Mutex::default(),
        }
    }

    /// What was acknowledged on a channel, in order.
    pub fn published(&self, channel: usize) -> MutexGuard<'_, Vec<Published>> {
        lock(&self.published[channel])
    }

    /// The number of the channel's last event.
    #[must_use]
    pub fn last(&self, channel: usize) -> u64 {
        self.published(channel).len() as u64
    }

    /// How many channels there are.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.published.len()
    }

    /// Events on all channels.
    #[must_use]
    pub fn events(&self) -> u64 {
        (0..self.published.len()).map(|channel| self.last(channel)).sum()
    }

    /// From now on events of this channel are so much larger.
    pub fn pad(&self, channel: usize, bytes: usize) {
        self.padding[channel].store(bytes, Ordering::Relaxed);
    }

    /// Answers that no fault explains.
    pub fn refusals(&self) -> Vec<String> {
        lock(&self.refusals).clone()
    }

    /// Since the round began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl ChannelPublisher {
    /// For channel number `index`.
    ///
    /// # Errors
    /// A name that is none; ours never are.
    pub fn new(publisher: &Publisher, index: usize, ledger: &Arc<Ledger>) -> Result<Self, String> {
        let channel = Channel::parse(&channel_name(index)).map_err(|error| error.to_string())?;
        Ok(Self { publisher: publisher.clone(), channel, index, ledger: ledger.clone() })
    }

    /// Publishes the next event, again and again until it is acknowledged.
    ///
    /// # Errors
    /// An event that cannot be made.
    pub async fn next(&mut self) -> Result<(), String> {
        let n = self.ledger.last(self.index) + 1;
        let once = Once::parse(&format!("{n}")).map_err(|error| error.to_string())?;
        let padding = "x".repeat(self.ledger.padding[self.index].load(Ordering::Relaxed));
        let data = Numbered { channel: self.channel.as_str().to_owned(), n, padding };
        let event = Event::json(&data).map_err(|error| error.to_string())?.once(once);
        let tried = self.ledger.now();
        let mut calls = 0;
        loop {
            calls += 1;
            match self.publisher.publish(&self.channel, event.clone()).await {
                Ok(receipt) => {
                    let acked = self.ledger.now();
                    let published = Published { tried, acked, calls, cursor: receipt.cursor };
                    self.ledger.published(self.index).push(published);
                    return Ok(());
                }
                Err(PublishError::Unavailable { .. }) => {}
                Err(error) => {
                    let mut refusals = lock(&self.ledger.refusals);
                    // All channels are told the same.
                    if refusals.len() < 10 {
                        refusals.push(format!("publishing number {n} on {}: {error}", self.channel.as_str()));
                    }
                }
            }
            sleep(RETRY).await;
        }
    }
}

/// Publishers at work.
pub struct Publishing {
    tasks: JoinSet<Result<ChannelPublisher, String>>,
    stop: CancellationToken,
}

impl Publishing {
    /// Lets them all go on, an event a `pause` each, not all at the same moment.
    #[must_use]
    pub fn start(publishers: Vec<ChannelPublisher>, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for mut publisher in publishers {
            let stop = stop.clone();
            tasks.spawn(async move {
                sleep(pause.mul_f64(fastrand::f64())).await;
                while !stop.is_cancelled() {
                    publisher.next().await?;
                    let _ = timeout(pause, stop.cancelled()).await;
                }
                Ok(publisher)
            });
        }
        Self { tasks, stop }
    }

    /// Stops them, once the outcome of each last event is known, and gives them back.
    ///
    /// # Errors
    /// One has no outcome within `patience`.
    pub async fn stop(mut self, patience: Duration) -> Result<Vec<ChannelPublisher>, String> {
        self.stop.cancel();
        join(&mut self.tasks, patience).await
    }
}

/// One event more on each channel that `wanted` names, all at once.
///
/// # Errors
/// One has no outcome within `patience`.
pub async fn once_each(
    publishers: Vec<ChannelPublisher>,
    wanted: impl Fn(usize) -> bool,
    patience: Duration,
) -> Result<Vec<ChannelPublisher>, String> {
    let (active, idle): (Vec<_>, Vec<_>) = publishers.into_iter().partition(|publisher| wanted(publisher.index));
    let mut tasks = JoinSet::new();
    for mut publisher in active {
        tasks.spawn(async move {
            publisher.next().await?;
            Ok(publisher)
        });
    }
    let mut all = join(&mut tasks, patience).await?;
    all.extend(idle);
    Ok(all)
}

async fn join(
    tasks: &mut JoinSet<Result<ChannelPublisher, String>>,
    patience: Duration,
) -> Result<Vec<ChannelPublisher>, String> {
    let late = |_| format!("an event was not acknowledged within {patience:?}, with everything healed");
    let mut publishers = Vec::new();
    let joined = async {
        while let Some(joined) = tasks.join_next().await {
            publishers.push(joined.map_err(|error| format!("a publisher ended: {error}"))??);
        }
        Ok::<_, String>(())
    };
    timeout(patience, joined).await.map_err(late)??;
    Ok(publishers)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
