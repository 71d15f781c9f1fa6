//! The numbers at the end, as a table or as JSON, and whether the run passed. It must not measure anything itself.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::process::Usage;
use crate::reasons::Reasons;
use crate::verify::Verdict;

/// Everything a run found out; field names carry their units.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing was wrong; the exit code.
    pub(crate) passed: bool,
    /// Ctrl-C ended it early.
    pub(crate) interrupted: bool,
    /// Event streams.
    pub(crate) connections: Connections,
    /// What was sent.
    pub(crate) publishing: Publishing,
    /// What arrived.
    pub(crate) events: Events,
    /// Publish to receive, after the warm-up; absent when nothing was measured.
    pub(crate) latency_ms: Option<Latency>,
    /// Deliveries after the warm-up; absent when nothing was measured.
    pub(crate) throughput: Option<Throughput>,
    /// The load generator itself after the warm-up; absent when nothing was measured or this is not Linux.
    pub(crate) client: Option<Client>,
    /// The server's CPU time and memory; absent without `--server-pid`.
    pub(crate) server: Option<Server>,
    /// Why connections or publishes failed, and how many did.
    pub(crate) reasons: Reasons,
}

/// Event streams.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Connections {
    /// Asked for.
    pub(crate) wanted: u64,
    /// Channels they are spread over.
    pub(crate) channels: u64,
    /// Opened, that is up to the `sse.open` event.
    pub(crate) opened: u64,
    /// Not opened: refused, timed out, or not begun before Ctrl-C.
    pub(crate) failed: u64,
    /// Opened, and ended by the server before the end of the run.
    pub(crate) closed_early: u64,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Publishing {
    /// Events due in the time that publishing took.
    pub(crate) due: u64,
    /// Acknowledged by the server.
    pub(crate) acknowledged: u64,
    /// Sent, and refused or not answered. Such an event may exist or not; it is left out of what is expected.
    pub(crate) errors: u64,
    /// Due and never sent, because the server did not answer fast enough.
    pub(crate) not_sent: u64,
}

/// What arrived, over all connections.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Events {
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
    /// Damaged, of another channel, or never published here.
    pub(crate) foreign: u64,
    /// `sse.gap` events: losses that the gateway told about.
    pub(crate) gaps_told: u64,
}

impl Events {
    /// From the verdict, with the events that carried no number of this channel.
    pub(crate) fn new(verdict: &Verdict, foreign: u64, gaps_told: u64) -> Self {
        Self {
            expected: verdict.expected,
            delivered: verdict.delivered,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            out_of_order: verdict.out_of_order,
            foreign: foreign + verdict.unknown,
            gaps_told,
        }
    }
}

/// Publish to receive, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    /// Half of the deliveries took at most this.
    pub(crate) p50: f64,
    /// 99 % of the deliveries took at most this.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
    /// Deliveries measured.
    pub(crate) count: u64,
}

impl Latency {
    /// `None` for an empty histogram.
    pub(crate) fn of(histogram: &Histogram) -> Option<Self> {
        let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
        Some(Self {
            p50: ms(histogram.quantile(0.5)?),
            p99: ms(histogram.quantile(0.99)?),
            max: ms(histogram.max()?),
            count: histogram.count(),
        })
    }
}

/// Deliveries after the warm-up.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Throughput {
    /// Their number, from the end of the warm-up to the last of them.
    pub(crate) deliveries: u64,
    /// That time.
    pub(crate) seconds: f64,
    /// One by the other.
    pub(crate) deliveries_per_second: f64,
}

impl Throughput {
    /// `None` when nothing was delivered in no time.
    pub(crate) fn new(deliveries: u64, time: Duration) -> Option<Self> {
        let seconds = time.as_secs_f64();
        (deliveries > 0 && seconds > 0.0).then(|| Self {
            deliveries,
            seconds,
            deliveries_per_second: deliveries as f64 / seconds,
        })
    }
}

/// The load generator itself: where it has no CPU time left, the latencies are its own and the server can do better.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Client {
    /// CPU time by wall time: 1.0 is one core, all of the time.
    pub(crate) cpu_cores: f64,
    /// Whether that is about all that its reading threads could use.
    pub(crate) saturated: bool,
}

impl Client {
    /// Share of its threads from which on a client counts as saturated.
    const SATURATED: f64 = 0.9;

    /// `None` when no time passed. `threads` are those that read.
    pub(crate) fn new(cpu: Duration, wall: Duration, threads: u32) -> Option<Self> {
        if wall.is_zero() {
            return None;
        }
        let cpu_cores = cpu.as_secs_f64() / wall.as_secs_f64();
        Some(Self { cpu_cores, saturated: cpu_cores >= Self::SATURATED * f64::from(threads) })
    }
}

/// The server processes, added up.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Server {
    /// CPU time after the warm-up; absent when nothing was measured.
    pub(crate) cpu_seconds: Option<f64>,
    /// The same for each delivery; absent when there was none.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Resident memory before the first connection.
    pub(crate) rss_kib_before: u64,
    /// Resident memory with all connections open and nothing published yet.
    pub(crate) rss_kib_idle: u64,
    /// Resident memory at the end, the connections still open.
    pub(crate) rss_kib_end: u64,
    /// What an idle connection added; absent when none opened.
    pub(crate) kib_per_idle_connection: Option<f64>,
    /// What a connection had added at the end; absent when none opened.
    pub(crate) kib_per_connection_at_end: Option<f64>,
}

/// Readings of the server in the course of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readings {
    /// Before the first connection.
    pub(crate) before: Usage,
    /// All connections open, nothing published.
    pub(crate) idle: Usage,
    /// At the end of the warm-up, if it was reached.
    pub(crate) measure_start: Option<Usage>,
    /// Everything delivered, the connections still open.
    pub(crate) end: Usage,
}

impl Server {
    /// `deliveries` are those after the warm-up.
    pub(crate) fn new(readings: &Readings, opened: u64, deliveries: u64) -> Self {
        let each =
            |now: Usage| (opened > 0).then(|| (now.rss_kib as f64 - readings.before.rss_kib as f64) / opened as f64);
        let cpu = readings.measure_start.map(|start| readings.end.cpu.saturating_sub(start.cpu).as_secs_f64());
        Self {
            cpu_seconds: cpu,
            cpu_us_per_delivery: cpu.filter(|_| deliveries > 0).map(|cpu| cpu * 1e6 / deliveries as f64),
            rss_kib_before: readings.before.rss_kib,
            rss_kib_idle: readings.idle.rss_kib,
            rss_kib_end: readings.end.rss_kib,
            kib_per_idle_connection: each(readings.idle),
            kib_per_connection_at_end: each(readings.end),
        }
    }
}

/// Whether the run proves what it should: all open, all stayed open, nothing lost, doubled, late or foreign. Failed
/// publishes alone are no failure of delivery, but publishing without a single success proves nothing.
pub(crate) fn passes(connections: &Connections, publishing: &Publishing, events: &Events) -> bool {
    let all_open = connections.opened == connections.wanted && connections.closed_early == 0;
    let all_right = events.lost == 0 && events.duplicated == 0 && events.out_of_order == 0 && events.foreign == 0;
    let proves_nothing = publishing.due > 0 && publishing.acknowledged == 0;
    all_open && all_right && !proves_nothing
}

impl Report {
    /// As JSON, on several lines.
    pub(crate) fn json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|error| format!("cannot write the report as JSON: {error}"))
    }

    /// As a table for people.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![("connections", self.connections_row()), ("published", self.published_row())];
        let Events { expected, delivered, lost, duplicated, out_of_order, foreign, gaps_told } = self.events;
        rows.push(("events", format!("{expected} expected, {delivered} delivered")));
        rows.push(("", format!("{lost} lost, {duplicated} duplicated, {out_of_order} out of order, {foreign} foreign, {gaps_told} gaps told")));
        if let Some(Latency { p50, p99, max, count }) = self.latency_ms {
            rows.push((
                "latency",
                format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({count} deliveries after the warm-up)"),
            ));
        }
        if let Some(throughput) = &self.throughput {
            let Throughput { deliveries_per_second, seconds, .. } = throughput;
            rows.push(("throughput", format!("{deliveries_per_second:.0} deliveries/s over {seconds:.1} s")));
        }
        if let Some(Client { cpu_cores, saturated }) = self.client {
            let note = if saturated { ", its limit: latencies are its own (see --threads)" } else { "" };
            rows.push(("client CPU", format!("{cpu_cores:.2} cores{note}")));
        }
        if let Some(server) = &self.server {
            rows.push(("server CPU", server.cpu_row()));
            rows.push(("server memory", server.memory_row()));
        }
        for (reason, times) in self.reasons.iter() {
            rows.push(("reason", format!("{times} x {reason}")));
        }
        let interrupted = if self.interrupted { " (interrupted: a part of what was asked for)" } else { "" };
        rows.push(("result", format!("{}{interrupted}", if self.passed { "passed" } else { "FAILED" })));
        let mut table = String::new();
        for (name, value) in rows {
            // Writing into a String cannot fail.
            let _ = writeln!(table, "{name:<14} {value}");
        }
        table
    }

    fn connections_row(&self) -> String {
        let Connections { wanted, channels, opened, failed, closed_early } = self.connections;
        format!("{opened} of {wanted} opened on {channels} channels, {failed} failed, {closed_early} closed early")
    }

    fn published_row(&self) -> String {
        let Publishing { due, acknowledged, errors, not_sent } = self.publishing;
        format!("{acknowledged} of {due} due, {errors} errors, {not_sent} not sent in time")
    }
}

impl Server {
    fn cpu_row(&self) -> String {
        let Some(seconds) = self.cpu_seconds else { return "not measured".to_owned() };
        match self.cpu_us_per_delivery {
            Some(each) => format!("{each:.2} us per delivery ({seconds:.2} s)"),
            None => format!("{seconds:.2} s"),
        }
    }

    fn memory_row(&self) -> String {
        let each = |kib: Option<f64>| kib.map_or_else(|| "-".to_owned(), |kib| format!("{kib:.2}"));
        format!(
            "{} KiB per idle connection, {} at the end (resident: {} KiB before, {} idle, {} end)",
            each(self.kib_per_idle_connection),
            each(self.kib_per_connection_at_end),
            self.rss_kib_before,
            self.rss_kib_idle,
            self.rss_kib_end
        )
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
