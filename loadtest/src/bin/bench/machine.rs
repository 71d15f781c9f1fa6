//! On what it was measured: a figure without that says nothing.

use std::process::Command;
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// The machine, and what ran on it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// UTC.
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) redis: String,
    pub(crate) rust: String,
    /// Of the crates measured.
    pub(crate) version: &'static str,
}

impl Machine {
    /// What this machine says of itself; "unknown" where it does not.
    pub(crate) fn look() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: kib(&file("/proc/meminfo"), "MemTotal").unwrap_or(0) / 1024,
            kernel: first_word(&file("/proc/sys/kernel/osrelease")),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: commit(),
            redis: output("redis-server", &["--version"]).unwrap_or_else(unknown),
            rust: output("rustc", &["--version"]).unwrap_or_else(unknown),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Long enough for a percent to mean something.
const LOOKED_AT_FOR: Duration = Duration::from_secs(1);

/// Per cent of all cores that others take, looked at for a second while we do nothing; 0 where the system does not say.
pub(crate) async fn busy_percent() -> f64 {
    let look = || std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let before = look();
    tokio::time::sleep(LOOKED_AT_FOR).await;
    busy_between(&before, &look()).unwrap_or(0.0)
}

fn busy_between(before: &str, after: &str) -> Option<f64> {
    let ([idle, all], [idle_after, all_after]) = (times(before)?, times(after)?);
    let (idle, all) = (idle_after.checked_sub(idle)?, all_after.checked_sub(all)?);
    (all > 0).then(|| all.saturating_sub(idle) as f64 / all as f64 * 100.0)
}

/// Of `/proc/stat`'s first line, what nobody took and the sum, in ticks of all cores.
fn times(stat: &str) -> Option<[u64; 2]> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, waiting for the disk, interrupts, soft ones, stolen; guests are counted within user.
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    Some([times.get(3)? + times.get(4)?, times.iter().sum()])
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().map_or_else(unknown, str::to_owned)
}

/// Of `name : value` lines, the first value with that name.
fn field(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// A number of KiB by its name, as `/proc/meminfo` has them.
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.trim_end_matches(" kB").parse().ok()
}

fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short", "HEAD"]) else { return unknown() };
    match output("git", &["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{commit}, with changes that are not committed"),
        _ => commit,
    }
}

/// First line of what a program prints; nothing where it fails.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_is_all_but_idle() {
        let (before, after) = ("cpu  100 0 100 700 100 0 0 0 9 9\ncpu0 1 1\n", "cpu  110 0 105 760 120 2 2 1 99 9\n");
        assert_eq!(busy_between(before, after), Some(20.0));
        assert_eq!(busy_between(before, before), None);
        assert_eq!(busy_between("", after), None);
        assert_eq!(times("cpu 1 2 3\n"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("model\t: 1\nmodel name\t: A CPU: fast\n", "model name"), Some("A CPU: fast".to_owned()));
        assert_eq!(field("model\t: 1\n", "model name"), None);
        assert_eq!(kib("MemTotal:       24682376 kB\nMemFree: 1 kB\n", "MemTotal"), Some(24_682_376));
        assert_eq!(kib("MemTotal: much\n", "MemTotal"), None);
    }
}
