//! What the system knows of this process, under the names that all Prometheus clients have for it: read when it is asked for.
//! On Linux; elsewhere there is none of it.

use crate::metrics::{Kind, Metric};

const CPU: Metric = Metric {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Time that processors spent in it, user and system",
    watch: "A rate near the number of cores: it has all it can get",
};
const RESIDENT: Metric = Metric {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    labels: &[],
    help: "Resident memory",
    watch: "Near what the container may have. [What takes how much](operations.md#memory)",
};
const OPEN_FILES: Metric = Metric {
    name: "process_open_fds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Open files and sockets",
    watch: "Near `process_max_fds`: further clients wait to be accepted",
};
const MAX_FILES: Metric = Metric {
    name: "process_max_fds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Open files and sockets that it may have (soft limit, raised to the hard one at the start); 0 is no limit",
    watch: "",
};
const THREADS: Metric = Metric { name: "process_threads", kind: Kind::Gauge, labels: &[], help: "Threads", watch: "" };
const START: Metric = Metric {
    name: "process_start_time_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "When it was started, Unix time",
    watch: "A change: it was restarted",
};

/// All of them.
pub const METRICS: &[&Metric] = &[&CPU, &RESIDENT, &OPEN_FILES, &MAX_FILES, &THREADS, &START];

/// Appends them to a Prometheus text. What the system does not tell is left out.
pub fn render(text: &mut String) {
    #[cfg(target_os = "linux")]
    linux::render(text);
    #[cfg(not(target_os = "linux"))]
    let _ = text;
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::{Display, Write as _};

    use procfs::process::{LimitValue, Process};
    use procfs::{WithCurrentSystemInfo as _, boot_time_secs, ticks_per_second};

    use super::{CPU, MAX_FILES, Metric, OPEN_FILES, RESIDENT, START, THREADS};

    /// They are rendered here and not kept by the recorder: its counters have no fractions.
    pub(super) fn render(text: &mut String) {
        let Ok(process) = Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            // Exact for centuries of processor time.
            #[allow(clippy::cast_precision_loss)]
            let seconds = |ticks: u64| ticks as f64 / ticks_per_second() as f64;
            write(text, &CPU, seconds(stat.utime + stat.stime));
            write(text, &RESIDENT, stat.rss_bytes().get());
            write(text, &THREADS, stat.num_threads);
            if let Ok(boot) = boot_time_secs() {
                // Below 2^53.
                #[allow(clippy::cast_precision_loss)]
                write(text, &START, boot as f64 + seconds(stat.starttime));
            }
        }
        if let Ok(open) = process.fd_count() {
            write(text, &OPEN_FILES, open);
        }
        if let Ok(limits) = process.limits() {
            let most = match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most,
                LimitValue::Unlimited => 0,
            };
            write(text, &MAX_FILES, most);
        }
    }

    fn write(text: &mut String, metric: &Metric, value: impl Display) {
        let Metric { name, kind, help, .. } = metric;
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {}\n{name} {value}\n\n", kind.as_str());
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn value(text: &str, metric: &Metric) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(metric.name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {} in\n{text}", metric.name)).parse().unwrap()
    }

    #[test]
    fn all_of_them_are_told_and_are_true() {
        let mut text = String::new();
        render(&mut text);
        for metric in METRICS {
            for line in [format!("# HELP {} ", metric.name), format!("# TYPE {} {}", metric.name, metric.kind.as_str())]
            {
                assert_eq!(text.lines().filter(|have| have.starts_with(&line)).count(), 1, "{line} in\n{text}");
            }
        }
        assert!(value(&text, &RESIDENT) > 500_000.0 && value(&text, &THREADS) >= 1.0, "{text}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value(&text, &START);
        // By the machine's clock at its start, which may have been set since.
        assert!((-60.0..3_600.0).contains(&age), "{age}");

        let open = value(&text, &OPEN_FILES);
        let files: Vec<_> = (0..10).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let mut text = String::new();
        render(&mut text);
        assert!(value(&text, &OPEN_FILES) >= open + 5.0, "{open}, then {text}");
        assert!(value(&text, &MAX_FILES) >= value(&text, &OPEN_FILES));
        drop(files);

        let before = value(&text, &CPU);
        let mut busy = 0_u64;
        let after = loop {
            // A tick of the system is ten milliseconds.
            (0..1_000_000_u64).for_each(|n| busy = std::hint::black_box(busy.wrapping_mul(31).wrapping_add(n)));
            let mut text = String::new();
            render(&mut text);
            if value(&text, &CPU) > before {
                break value(&text, &CPU);
            }
        };
        assert!(after - before < 60.0, "{before}, {after}");
    }
}
