//! What the process that publishes and those that read say to each other: JSON, a line a message, over pipes.

use std::net::SocketAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::latency::Counted;
use crate::layout::Layout;
use crate::reasons::Reasons;
use crate::target::UrlTemplate;
use crate::verify::{Published, Verdict};

/// What a process is to do: its first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Over all processes.
    pub(crate) layout: Layout,
    /// This process' connections.
    pub(crate) range: Range<u32>,
    /// Where streams are opened.
    pub(crate) servers: Vec<Server>,
    /// Bytes of data in each event.
    pub(crate) size: usize,
    /// New connections per second, of this process.
    pub(crate) connect_rate: f64,
    /// Events of one stream, in `tokens`.
    pub(crate) tokens: u64,
}

/// A server that answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    /// The address of it that accepted a connection.
    pub(crate) address: SocketAddr,
    /// Host header, and where streams are.
    pub(crate) url: UrlTemplate,
}

/// To a process that reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Begin all connections that were not begun.
    Open,
    /// Begin no more.
    StopOpening,
    /// Events sent from this time on, in ns since 1970, are measured.
    Measure(u64),
    /// This share of the connections drops, and comes back.
    Drop(f64),
    /// All connections close, and count as not begun.
    CloseAll,
    /// A stream that ends is followed by no other.
    LastStreams,
    /// What was published on the channels of [`Layout::keys_of`] the process' range; answered by its account.
    Finish(Vec<Published>),
}

/// From a process that reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// How far it is.
    Stats(Stats),
    /// In `tokens`: connections whose stream of this round is open.
    Ready(Vec<(u32, u32)>),
    /// The end.
    Account(Box<Account>),
    /// It cannot go on.
    Failed(String),
}

/// Counted while it runs; all but `begun` and `waiting` only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// 1 once it knows what to measure.
    pub(crate) measuring: u32,
    /// How many connections of the range were begun, from its first on.
    pub(crate) begun: u32,
    /// Answers that began an event stream; for stuck readers, requests sent.
    pub(crate) opened: u64,
    /// Connections that came to nothing.
    pub(crate) failed: u64,
    /// Streams that servers ended.
    pub(crate) dropped: u64,
    /// Connections that were dropped to come back.
    pub(crate) left: u64,
    /// Those that were opened again.
    pub(crate) reopened: u64,
    /// Those that have not caught up yet, now.
    pub(crate) waiting: u64,
    /// Streams that ended as they should, in `tokens`.
    pub(crate) completed: u64,
    /// Events that arrived, duplicates left out.
    pub(crate) delivered: u64,
    /// Those of them that are measured.
    pub(crate) measured: u64,
    /// Unix time in ns of the last arrival of any event,
    pub(crate) last_arrival_ns: u64,
    /// of the last connection that left to come back,
    pub(crate) last_left_ns: u64,
    /// of the last stream opened,
    pub(crate) last_opened_ns: u64,
    /// and of the last connection that came back, and that caught up.
    pub(crate) last_reopened_ns: u64,
    /// See `last_reopened_ns`.
    pub(crate) last_caught_up_ns: u64,
}

/// What a process found out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Losses, duplicates and the rest, over its connections.
    pub(crate) verdict: Verdict,
    /// Events without a marker of one of the connection's channels.
    pub(crate) foreign: u64,
    /// `sse.gap` events: losses that a gateway told of.
    pub(crate) gaps: u64,
    /// Why connections failed or ended, and how many did.
    pub(crate) reasons: Reasons,
    /// Sent to received, of what is measured.
    pub(crate) latency: Counted,
    /// Begin of connecting to the head of the answer.
    pub(crate) connect: Counted,
    /// Connections that read nothing.
    pub(crate) stuck: u64,
    /// Those of them that the server closed.
    pub(crate) stuck_closed: u64,
}

impl Stats {
    /// Adds those of another process: sums, and the latest of times.
    pub(crate) fn add(&mut self, other: &Self) {
        self.measuring += other.measuring;
        self.begun += other.begun;
        self.opened += other.opened;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.left += other.left;
        self.reopened += other.reopened;
        self.waiting += other.waiting;
        self.completed += other.completed;
        self.delivered += other.delivered;
        self.measured += other.measured;
        self.last_arrival_ns = self.last_arrival_ns.max(other.last_arrival_ns);
        self.last_left_ns = self.last_left_ns.max(other.last_left_ns);
        self.last_opened_ns = self.last_opened_ns.max(other.last_opened_ns);
        self.last_reopened_ns = self.last_reopened_ns.max(other.last_reopened_ns);
        self.last_caught_up_ns = self.last_caught_up_ns.max(other.last_caught_up_ns);
    }
}
