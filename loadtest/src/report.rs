//! The numbers at the end, as JSON, and whether the run passed. It must not measure anything itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::Scenario;
use crate::latency::Times;
use crate::system::memory::Memory;
use crate::worker::message::{Account, Stats};

/// Everything a run found out; field names carry their units, and what was not measured is null.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was done.
    pub(crate) scenario: Scenario,
    /// Whether nothing was wrong; the exit code.
    pub(crate) passed: bool,
    /// What was wrong, and why connections or publishes failed.
    pub(crate) reasons: Vec<String>,
    /// Event streams.
    pub(crate) connections: Connections,
    /// What was sent; null where nothing was to be.
    pub(crate) events: Option<Events>,
    /// What arrived; null where nothing was to be.
    pub(crate) deliveries: Option<Deliveries>,
    /// Publish to receive, of what was sent after the warm-up.
    pub(crate) latency_ms: Option<Latency>,
    /// Null without `--server-pid`.
    pub(crate) server: Option<Server>,
    /// What `--watch-pid` named.
    pub(crate) watched: BTreeMap<String, Watched>,
    /// The machine.
    pub(crate) system: System,
    /// The load generator itself.
    pub(crate) client: Client,
    /// Of `storm` alone.
    pub(crate) storm: Option<Storm>,
    /// Of `churn` alone.
    pub(crate) churn: Option<Churn>,
    /// Of `slow` alone.
    pub(crate) slow: Option<Slow>,
    /// Of `tokens` alone.
    pub(crate) tokens: Option<Tokens>,
}

/// Event streams. In `churn` and `tokens` those of all rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Connections {
    /// Asked for.
    pub(crate) wanted: u64,
    /// Opened, that is up to the answer's head.
    pub(crate) opened: u64,
    /// That came to nothing.
    pub(crate) failed: u64,
    /// Opened, and ended by the server before the end of the run.
    pub(crate) dropped: u64,
    /// From the first to the last that opened.
    pub(crate) seconds: Option<f64>,
    /// One by the other.
    pub(crate) per_second: Option<f64>,
    /// From the beginning of connecting to the answer's head.
    pub(crate) connect_ms: Option<Connect>,
}

/// Times of connecting, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Connect {
    /// Half of them.
    pub(crate) p50: f64,
    /// All but one in a hundred.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// What was sent.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Events {
    /// Acknowledged.
    pub(crate) published: u64,
    /// Sent, and refused or not answered: such an event may exist or not, and is left out of what is expected.
    pub(crate) unsure: u64,
    /// Due and never sent.
    pub(crate) not_sent: u64,
    /// From the first to the last.
    pub(crate) seconds: f64,
    /// Sent, by that time.
    pub(crate) per_second: Option<f64>,
    /// How long after its time an event was sent.
    pub(crate) late_ms: Option<Connect>,
}

/// What arrived, over all connections.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Deliveries {
    /// Acknowledged events times the connections that had to receive them.
    pub(crate) expected: u64,
    /// Those that arrived.
    pub(crate) delivered: u64,
    /// Those that did not.
    pub(crate) lost: u64,
    /// Arrivals of what had arrived already.
    pub(crate) duplicated: u64,
    /// Arrivals after a later event.
    pub(crate) out_of_order: u64,
    /// Without a marker, damaged, of another channel, or never published here.
    pub(crate) foreign: u64,
    /// `sse.gap` events: losses that the gateway told of.
    pub(crate) gaps: u64,
    /// Of what was sent after the warm-up, up to its last arrival.
    pub(crate) per_second: Option<f64>,
}

/// Publish to receive, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    /// Deliveries measured.
    pub(crate) count: u64,
    /// Half of them took at most this,
    pub(crate) p50: f64,
    /// 90 %,
    pub(crate) p90: f64,
    /// 99 %,
    pub(crate) p99: f64,
    /// 99.9 %,
    pub(crate) p999: f64,
    /// and all of them.
    pub(crate) max: f64,
}

/// The server processes, added up.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Server {
    /// Which.
    pub(crate) pids: Vec<u32>,
    /// CPU time from the end of the warm-up to the last delivery.
    pub(crate) cpu_seconds: Option<f64>,
    /// The same for each delivery.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// CPU time while connections opened, for each.
    pub(crate) cpu_us_per_connect: Option<f64>,
    /// Of one core, over the pause with all connections open (in `idle` over the duration).
    pub(crate) idle_cpu_percent: Option<f64>,
    /// Resident memory before the first connection,
    pub(crate) rss_before_kib: Option<u64>,
    /// with all open and nothing published yet,
    pub(crate) rss_open_kib: Option<u64>,
    /// and at the end.
    pub(crate) rss_end_kib: Option<u64>,
    /// What an open connection added.
    pub(crate) rss_kib_per_connection: Option<f64>,
}

/// Resident memory of a process that is watched.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Watched {
    /// Before the first connection,
    pub(crate) rss_before_kib: Option<u64>,
    /// with all open,
    pub(crate) rss_open_kib: Option<u64>,
    /// and at the end.
    pub(crate) rss_end_kib: Option<u64>,
}

/// The machine's memory, with all connections open where nothing else is said.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct System {
    /// Socket buffers of TCP.
    pub(crate) kernel_tcp_kib: Option<u64>,
    /// Objects of the kernel.
    pub(crate) slab_kib: Option<u64>,
    /// The same before the first connection.
    pub(crate) slab_before_kib: Option<u64>,
    /// What could be had before the first connection,
    pub(crate) mem_available_before_kib: Option<u64>,
    /// and then.
    pub(crate) mem_available_open_kib: Option<u64>,
}

/// The load generator itself.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Client {
    /// That read.
    pub(crate) processes: u64,
    /// Of one core, of all of its processes, from the end of the warm-up to the last delivery.
    pub(crate) cpu_percent: Option<f64>,
    /// The same for each delivery.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Resident memory of all of its processes, with all connections open.
    pub(crate) rss_kib: Option<u64>,
}

/// What came of dropping connections.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Storm {
    /// One after the other.
    pub(crate) rounds: Vec<Round>,
}

/// Connections that dropped at once, and came back.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Round {
    /// How many dropped,
    pub(crate) dropped: u64,
    /// and were opened again; more where some were dropped twice.
    pub(crate) reopened: u64,
    /// From the drop until the last one had everything up to the present; null if not all had.
    pub(crate) caught_up_seconds: Option<f64>,
    /// From the drop until the last one was open.
    pub(crate) seconds: Option<f64>,
}

/// Memory over connections that come and go.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Churn {
    /// How often all were opened and closed.
    pub(crate) rounds: u32,
    /// Resident memory of the servers after each.
    pub(crate) rss_after_kib: Vec<u64>,
    /// The same 30 s after the last.
    pub(crate) rss_settled_kib: Option<u64>,
}

/// Connections that read nothing.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Slow {
    /// How many.
    pub(crate) stuck: u64,
    /// Those that the server closed.
    pub(crate) closed_by_server: u64,
}

/// Short streams.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Tokens {
    /// That had all their events, and their end.
    pub(crate) streams: u64,
}

impl Connect {
    /// `None` when nothing was recorded.
    pub(crate) fn of(times: &Times) -> Option<Self> {
        Some(Self { p50: times.quantile_ms(0.5)?, p99: times.quantile_ms(0.99)?, max: times.max_ms()? })
    }
}

impl Latency {
    /// `None` when nothing was recorded.
    pub(crate) fn of(times: &Times) -> Option<Self> {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| times.quantile_ms(quantile));
        Some(Self { count: times.count(), p50: p50?, p90: p90?, p99: p99?, p999: p999?, max: times.max_ms()? })
    }
}

impl Deliveries {
    /// From what the processes found.
    pub(crate) fn of(account: &Account, per_second: Option<f64>) -> Self {
        let verdict = account.verdict;
        Self {
            expected: verdict.expected,
            delivered: verdict.delivered,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            out_of_order: verdict.out_of_order,
            foreign: account.foreign + verdict.unknown,
            gaps: account.gaps,
            per_second,
        }
    }
}

impl System {
    /// From a look before, and one with all open.
    pub(crate) fn of(before: &Memory, open: &Memory) -> Self {
        Self {
            kernel_tcp_kib: open.tcp_kib,
            slab_kib: open.slab_kib,
            slab_before_kib: before.slab_kib,
            mem_available_before_kib: before.available_kib,
            mem_available_open_kib: open.available_kib,
        }
    }
}

/// One by the other; `None` where there is nothing to divide by.
pub(crate) fn per(value: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| value / by)
}

/// Sums up what all processes found.
pub(crate) fn sum_up(accounts: Vec<Account>) -> (Account, Times, Times) {
    let (mut sum, mut latency, mut connect) = (Account::default(), Times::new(), Times::new());
    for account in accounts {
        sum.verdict.add(&account.verdict);
        sum.foreign += account.foreign;
        sum.gaps += account.gaps;
        sum.stuck += account.stuck;
        sum.stuck_closed += account.stuck_closed;
        sum.reasons.merge(account.reasons);
        latency.add(&account.latency);
        connect.add(&account.connect);
    }
    (sum, latency, connect)
}

impl Report {
    /// Decides whether the run proves what it should, and says what stands against it. Publishes that failed are no failure
    /// of delivery, but publishing without a single success proves nothing. `stats` may count connections that were not to
    /// be opened any more, since memory was short.
    pub(crate) fn judge(&mut self, stats: &Stats, tolerate_loss: bool) {
        let mut wrong = Vec::new();
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                wrong.push(format!("{number} {what}"));
            }
        };
        count(self.connections.failed, "connections failed");
        count(self.connections.dropped, "connections were dropped");
        if let Some(deliveries) = &self.deliveries {
            if !tolerate_loss {
                count(deliveries.lost, "deliveries lost");
                count(deliveries.gaps, "gaps told");
            }
            count(deliveries.duplicated, "deliveries duplicated");
            count(deliveries.out_of_order, "deliveries out of order");
            count(deliveries.foreign, "foreign events");
        }
        if let Some(storm) = &self.storm {
            let missing = storm.rounds.iter().filter(|round| round.caught_up_seconds.is_none()).count();
            count(missing as u64, "rounds in which not every connection caught up");
        }
        if stats.opened == 0 {
            wrong.push("no connection opened".to_owned());
        }
        if self.events.as_ref().is_some_and(|events| events.published == 0) {
            wrong.push("no event was published".to_owned());
        }
        self.passed = wrong.is_empty();
        wrong.append(&mut self.reasons);
        self.reasons = wrong;
    }

    /// On one line.
    pub(crate) fn json(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| format!("cannot write the report as JSON: {error}"))
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
