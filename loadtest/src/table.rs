//! The report as a table for people.

use std::fmt::Write as _;

use crate::report::{Connect, Deliveries, Events, Latency, Report, Server};

/// Rows of a name and what there is to say.
struct Table(Vec<(&'static str, String)>);

/// All of it, a line a row.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table(Vec::new());
    table.row("scenario", format!("{:?}", report.scenario).to_lowercase());
    table.connections(report);
    if let Some(events) = &report.events {
        table.events(events);
    }
    if let Some(deliveries) = &report.deliveries {
        table.deliveries(deliveries);
    }
    if let Some(Latency { count, p50, p90, p99, p999, max }) = report.latency_ms {
        table.row(
            "latency",
            format!(
                "p50 {p50:.2} ms, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2} ({count} after the warm-up)"
            ),
        );
    }
    if let Some(server) = &report.server {
        table.server(server);
    }
    for (name, watched) in &report.watched {
        let [before, open, end] = [watched.rss_before_kib, watched.rss_open_kib, watched.rss_end_kib].map(number);
        table.row("watched", format!("{name}: resident {before} KiB before, {open} open, {end} at the end"));
    }
    table.scenarios(report);
    let system = &report.system;
    let [tcp, slab] = [system.kernel_tcp_kib, system.slab_kib].map(number);
    table.row("kernel", format!("{tcp} KiB of socket buffers, {slab} KiB of slab, with all connections open"));
    let client = &report.client;
    let each = client.cpu_us_per_delivery.map_or_else(String::new, |us| format!(" ({us:.2} us per delivery)"));
    table.row(
        "client",
        format!(
            "{} processes, {} % of a core{each}, {} KiB",
            client.processes,
            decimal(client.cpu_percent),
            number(client.rss_kib)
        ),
    );
    for reason in &report.reasons {
        table.row("reason", reason.clone());
    }
    table.row("result", if report.passed { "passed" } else { "FAILED" }.to_owned());
    let mut text = String::new();
    for (name, value) in table.0 {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name:<14} {value}");
    }
    text
}

impl Table {
    fn row(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    fn connections(&mut self, report: &Report) {
        let all = &report.connections;
        self.row(
            "connections",
            format!("{} of {} opened, {} failed, {} dropped", all.opened, all.wanted, all.failed, all.dropped),
        );
        if let (Some(seconds), Some(Connect { p50, p99, max })) = (all.seconds, all.connect_ms) {
            let rate = decimal(all.per_second);
            self.row("connecting", format!("{seconds:.1} s, {rate}/s, p50 {p50:.2} ms, p99 {p99:.2}, max {max:.2}"));
        }
    }

    fn events(&mut self, events: &Events) {
        let Events { published, unsure, not_sent, seconds, per_second, late_ms } = events;
        let rate = decimal(*per_second);
        self.row(
            "published",
            format!("{published} in {seconds:.1} s ({rate}/s), {unsure} unsure, {not_sent} due and not sent"),
        );
        if let Some(Connect { p50, p99, max }) = late_ms {
            self.row("sent late", format!("p50 {p50:.2} ms, p99 {p99:.2}, max {max:.2}"));
        }
    }

    fn deliveries(&mut self, all: &Deliveries) {
        let rate = decimal(all.per_second);
        self.row("deliveries", format!("{} expected, {} delivered ({rate}/s)", all.expected, all.delivered));
        self.row(
            "",
            format!(
                "{} lost, {} duplicated, {} out of order, {} foreign, {} gaps told",
                all.lost, all.duplicated, all.out_of_order, all.foreign, all.gaps
            ),
        );
    }

    fn server(&mut self, server: &Server) {
        let each = server.cpu_us_per_delivery.map_or_else(|| "-".to_owned(), |us| format!("{us:.2}"));
        self.row(
            "server CPU",
            format!(
                "{each} us per delivery ({} s), {} us per connect, idle {} % of a core",
                decimal(server.cpu_seconds),
                decimal(server.cpu_us_per_connect),
                server.idle_cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2}"))
            ),
        );
        let [before, open, end] = [server.rss_before_kib, server.rss_open_kib, server.rss_end_kib].map(number);
        let each = server.rss_kib_per_connection.map_or_else(|| "-".to_owned(), |kib| format!("{kib:.2}"));
        self.row(
            "server memory",
            format!("{each} KiB per connection (resident: {before} KiB before, {open} open, {end} at the end)"),
        );
    }

    fn scenarios(&mut self, report: &Report) {
        for round in report.storm.iter().flat_map(|storm| &storm.rounds) {
            self.row(
                "storm",
                format!(
                    "{} dropped, {} reopened, all open after {} s, caught up after {} s",
                    round.dropped,
                    round.reopened,
                    decimal(round.seconds),
                    decimal(round.caught_up_seconds)
                ),
            );
        }
        if let Some(churn) = &report.churn {
            let after: Vec<String> = churn.rss_after_kib.iter().map(u64::to_string).collect();
            self.row(
                "churn",
                format!(
                    "{} rounds, resident {} KiB after each, {} settled",
                    churn.rounds,
                    after.join(" "),
                    number(churn.rss_settled_kib)
                ),
            );
        }
        if let Some(slow) = report.slow {
            self.row("slow", format!("{} stuck, {} of them closed by the server", slow.stuck, slow.closed_by_server));
        }
        if let Some(tokens) = report.tokens {
            self.row("tokens", format!("{} streams had all their events and their end", tokens.streams));
        }
    }
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}
