//! What it took, as a table. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use crate::load::Report;

/// # Errors
/// The report lacks a figure.
pub(super) fn text(report: &Report, nodes: u32, started: Duration) -> Result<String, String> {
    let opened = report.number("/connections/opened")?;
    let wanted = report.number("/connections/wanted")?;
    let mut text = String::new();
    if opened < wanted {
        let _ = writeln!(text, "{opened:.0} of {wanted:.0} connections: the machine holds no more within the limit.");
    } else {
        let _ = writeln!(text, "{opened:.0} connections, all that were wanted.");
    }
    let delivered = report.number("/deliveries/delivered")?;
    let _ = writeln!(text, "{delivered:.0} of {opened:.0} got their event.\n");

    let _ = writeln!(text, "{:<34}{:>10}", "step", "s");
    let mut step = |name: &str, seconds: f64| {
        let _ = writeln!(text, "{name:<34}{seconds:>10.1}");
    };
    step(&format!("Redis and {nodes} nodes"), started.as_secs_f64());
    step("connections opened", report.number("/connections/seconds")?);
    step("an event on every channel", report.number("/events/seconds")?);

    let _ = writeln!(text, "\n{:<34}{:>10}{:>18}", "memory", "MiB", "KiB a connection");
    let mut line = |name: &str, kib: f64| {
        let _ = writeln!(text, "{name:<34}{:>10.0}{:>18.2}", kib / 1024.0, kib / opened.max(1.0));
    };
    line("nodes", report.number("/server/rss_open_kib")?);
    line("nodes, growth", report.number("/server/rss_open_kib")? - report.number("/server/rss_before_kib")?);
    line("Redis", report.number("/watched/redis/rss_open_kib")?);
    line("Redis, an event in each channel", report.number("/watched/redis/rss_end_kib")?);
    line("clients", report.number("/client/rss_kib")?);
    line("kernel, TCP buffers", report.number("/system/kernel_tcp_kib")?);
    line("kernel, slab grown by", report.number("/system/slab_kib")? - report.number("/system/slab_before_kib")?);
    let taken = report.number("/system/mem_available_before_kib")? - report.number("/system/mem_available_open_kib")?;
    line("all of it (less memory available)", taken);
    let _ = writeln!(
        text,
        "\nlatency p50 {:.1} ms, p99 {:.1} ms",
        report.number("/latency_ms/p50")?,
        report.number("/latency_ms/p99")?
    );
    for wrong in report.wrong() {
        let _ = writeln!(text, "wrong: {wrong}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_that_holds_no_more_says_how_many_it_held() {
        let report = Report(json!({
            "passed": false, "reasons": ["1 lost"],
            "connections": { "wanted": 2000, "opened": 1024, "seconds": 2.04 },
            "events": { "seconds": 1.0 }, "deliveries": { "delivered": 1023 },
            "latency_ms": { "p50": 0.5, "p99": 12.0 },
            "server": { "rss_before_kib": 1024, "rss_open_kib": 3072 },
            "watched": { "redis": { "rss_open_kib": 1024, "rss_end_kib": 2048 } },
            "client": { "rss_kib": 512 },
            "system": { "kernel_tcp_kib": 0, "slab_before_kib": 1024, "slab_kib": 4096, "mem_available_before_kib": 20480, "mem_available_open_kib": 10240 },
        }));
        let text = text(&report, 3, Duration::from_millis(250)).unwrap();
        for line in [
            "1024 of 2000 connections: the machine holds no more within the limit.",
            "1023 of 1024 got their event.",
            "Redis and 3 nodes                        0.2",
            "nodes                                      3              3.00",
            "nodes, growth                              2              2.00",
            "Redis, an event in each channel            2              2.00",
            "kernel, slab grown by                      3              3.00",
            "all of it (less memory available)         10             10.00",
            "wrong: 1 lost",
        ] {
            assert!(text.lines().any(|have| have == line), "{line:?} is not in\n{text}");
        }
        assert!(super::text(&Report(json!({})), 3, Duration::ZERO).is_err());
    }
}
