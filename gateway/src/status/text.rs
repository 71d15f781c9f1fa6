//! All that is shown, as one JSON text. The page reads these names; docs/operations.md says what it shows.

use std::time::Duration;

use serde::Serialize;
use shared::census::Doing;

use super::changes::BrokerState;
use super::log::Entry;
use super::ring::Columns;
use super::sample::Counts;

/// The text. Times are Unix milliseconds by this node's clock, spans are seconds.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    pub(super) now: u64,
    pub(super) node: &'a str,
    pub(super) version: &'static str,
    pub(super) started: u64,
    /// For how long, whatever became of the clock meanwhile.
    pub(super) up: f64,
    /// `ready`, or why it is not, as `/readyz` says it.
    pub(super) state: &'static str,
    /// While it is stopping.
    pub(super) stopping: Option<Stopping>,
    pub(super) broker: Broker<'a>,
    pub(super) connections: usize,
    pub(super) max_connections: usize,
    pub(super) lanes: &'a Counts,
    pub(super) channels: usize,
    /// Of all nodes, where that is known.
    pub(super) all: Option<u64>,
    pub(super) rates: Rates,
    /// From publish to socket in the last seconds; `None` where nothing was measured.
    pub(super) latency: Latency,
    pub(super) nodes: Vec<Node<'a>>,
    /// Nodes that are left out of `nodes`.
    pub(super) more_nodes: usize,
    pub(super) census: Census<'a>,
    /// Channels of this node with the most connections, those first.
    pub(super) top: Vec<Channel<'a>>,
    pub(super) history: History,
    /// The newest first.
    pub(super) log: Vec<&'a Entry>,
}

#[derive(Debug, Serialize)]
pub(super) struct Stopping {
    #[serde(rename = "for")]
    pub(super) time: f64,
    /// From its beginning, after which what is open is cut.
    pub(super) deadline: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Broker<'a> {
    /// `redis` or `embedded`.
    pub(super) kind: &'static str,
    /// Without its password.
    pub(super) address: Option<&'a str>,
    pub(super) state: BrokerState,
    /// How long it has been so.
    #[serde(rename = "for")]
    pub(super) time: f64,
    /// Since the node last heard itself.
    pub(super) heard: Option<f64>,
}

/// A second.
#[derive(Debug, Serialize)]
pub(super) struct Rates {
    pub(super) received: f64,
    pub(super) delivered: f64,
    pub(super) opened: f64,
    pub(super) closed: f64,
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Node<'a> {
    /// Of its life, so that the page tells two of one name apart.
    pub(super) life: &'a str,
    pub(super) name: &'a str,
    /// It is the node that says this: what it says of itself is of now.
    pub(super) own: bool,
    pub(super) state: Doing,
    pub(super) connections: u64,
    pub(super) channels: u64,
    pub(super) version: &'a str,
    pub(super) started: u64,
    /// Since it said so; `None`: the broker does not know it.
    pub(super) age: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Census<'a> {
    /// Of the list of nodes; `None` before the first.
    pub(super) age: Option<f64>,
    /// Why there was none the last time that it was asked.
    pub(super) error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Channel<'a> {
    pub(super) channel: &'a str,
    pub(super) connections: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct History {
    /// Of its last point.
    pub(super) age: f64,
    #[serde(flatten)]
    pub(super) columns: Columns,
}

/// In tenths.
pub(super) fn seconds(time: Duration) -> f64 {
    super::ring::tenths(time.as_secs_f64())
}
