//! The publishing side: what is due is sent, in order and at its time, and whatever was not acknowledged is remembered. It must
//! not know who listens.
//!
//! The loop is open: the schedule does not wait for servers. An event that is late is sent all the same, carries the time at
//! which it was really sent, and how late that was is told.

mod http;
mod link;
mod redis;
mod resp;
pub(crate) mod schedule;
pub(crate) mod text;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command};
use crate::endpoint;
use crate::latency::Times;
use crate::reasons::Reasons;
use crate::target::{PublishTarget, UrlTemplate};
use crate::verify::Published;
use schedule::Schedule;
use text::Texts;

/// How much longer than planned may be taken to send what is due: a late timer is no server that cannot keep up.
const OVERRUN: Duration = Duration::from_millis(200);
/// How long one publish may take to be acknowledged.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failure, so that a dead server is not asked as fast as it refuses.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Where and what to publish.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    address: SocketAddr,
    way: Way,
    texts: Arc<Texts>,
    keys: u32,
}

#[derive(Debug, Clone)]
enum Way {
    Redis { db: u32, command: Command },
    Http { url: UrlTemplate, content_type: String },
}

/// Counted while publishing, for people who watch.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Events sent.
    pub(crate) sent: AtomicU64,
    /// Those that were refused, or not answered.
    pub(crate) unsure: AtomicU64,
}

/// What was published.
#[derive(Debug)]
pub(crate) struct Account {
    /// An entry a key; in `tokens` of the channel's present stream.
    pub(crate) published: Vec<Published>,
    /// Events sent, acknowledged or not.
    pub(crate) sent: u64,
    /// Events of which nobody knows whether they exist.
    pub(crate) unsure: u64,
    /// Events that were due and never sent.
    pub(crate) not_sent: u64,
    /// From the first event's time to the last one's.
    pub(crate) took: Duration,
    /// How late events were sent.
    pub(crate) late: Times,
    /// Why publishes failed, and how many did.
    pub(crate) reasons: Reasons,
}

impl Account {
    /// Nothing published, on `keys` channels.
    pub(crate) fn nothing(keys: u32) -> Self {
        Self {
            published: vec![Published::default(); keys as usize],
            sent: 0,
            unsure: 0,
            not_sent: 0,
            took: Duration::ZERO,
            late: Times::new(),
            reasons: Reasons::default(),
        }
    }

    /// Marks an event as not acknowledged.
    fn doubt(&mut self, key: u32, sequence: u64) {
        self.unsure += 1;
        if let Some(channel) = self.published.get_mut(key as usize) {
            let at = channel.unsure.partition_point(|&earlier| earlier < sequence);
            channel.unsure.insert(at, sequence);
        }
    }
}

/// When publishing ends, and who counts.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// Since when events are due.
    pub(crate) start: Instant,
    /// Ends it early.
    pub(crate) stop: CancellationToken,
    /// Counted as it goes.
    pub(crate) counters: Arc<Counters>,
}

impl Publisher {
    /// Finds the server, and puts the function library into a Redis that lacks it.
    pub(crate) async fn new(args: &Args, target: &PublishTarget, keys: u32) -> Result<Self, String> {
        let texts = Arc::new(Texts::new(args, target));
        let (address, way) = match target {
            PublishTarget::Redis { url, authority, db } => {
                let address = endpoint::find(authority).await?;
                if args.command == Command::Fcall {
                    redis::load_functions(url).await?;
                }
                (address, Way::Redis { db: *db, command: args.command })
            }
            PublishTarget::Http(url) => {
                let address = endpoint::find(&url.authority).await?;
                (address, Way::Http { url: url.clone(), content_type: args.content_type.clone() })
            }
        };
        Ok(Self { address, way, texts, keys })
    }

    /// Publishes what `schedule` says, to its end or until it is stopped; what is under way is waited for.
    pub(crate) async fn run(&self, schedule: Schedule, course: Course) -> Account {
        match &self.way {
            Way::Redis { db, command } => redis::run(self, *db, *command, schedule, course).await,
            Way::Http { url, content_type } => http::run(self, url, content_type, schedule, course).await,
        }
    }
}

/// Adds to a counter that is only looked at.
fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
