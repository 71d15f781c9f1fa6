//! On what it was measured: a figure without that says nothing.

use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;

/// The machine, and what ran on it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Load of the last minute, before anything was measured: others share the machine where it is not near zero.
    pub(crate) load: String,
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
            load: first_word(&file("/proc/loadavg")),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: commit(),
            redis: output("redis-server", &["--version"]).unwrap_or_else(unknown),
            rust: output("rustc", &["--version"]).unwrap_or_else(unknown),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
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
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("model\t: 1\nmodel name\t: A CPU: fast\n", "model name"), Some("A CPU: fast".to_owned()));
        assert_eq!(field("model\t: 1\n", "model name"), None);
        assert_eq!(kib("MemTotal:       24682376 kB\nMemFree: 1 kB\n", "MemTotal"), Some(24_682_376));
        assert_eq!(kib("MemTotal: much\n", "MemTotal"), None);
    }
}
