//! What the operating system says: the servers' CPU time and memory, and how many files we may open. It must not start or
//! stop processes.

use std::time::Duration;

/// Open files of a process beside those of its connections: standard streams, polling, probes.
pub(crate) const SPARE_FILES: u64 = 64;

/// CPU time and resident memory of some processes, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time since each process began.
    pub(crate) cpu: Duration,
    /// `VmRSS`, in KiB. Socket buffers live in the kernel and are not part of it.
    pub(crate) rss_kib: u64,
}

/// Reads `/proc/PID` of each server; all zero when there is none. Errors name the process and the file.
#[cfg(target_os = "linux")]
pub(crate) fn usage(pids: &[u32]) -> Result<Usage, String> {
    let mut total = Usage::default();
    for pid in pids {
        total.cpu += read(*pid, "stat", cpu_time)?;
        total.rss_kib += read(*pid, "status", rss_kib)?;
    }
    Ok(total)
}

/// There is no `/proc` to read here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn usage(pids: &[u32]) -> Result<Usage, String> {
    if pids.is_empty() {
        return Ok(Usage::default());
    }
    Err("server-pid: reads /proc, which only Linux has; leave the flag out here".to_owned())
}

#[cfg(target_os = "linux")]
fn read<T>(pid: u32, file: &str, parse: fn(&str) -> Option<T>) -> Result<T, String> {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("server-pid: cannot read {path}: {error}"))?;
    parse(&text).ok_or_else(|| format!("server-pid: {path} lacks a number (has the process just ended?)"))
}

/// `utime` and `stime` of `/proc/PID/stat` (proc_pid_stat(5), fields 14 and 15).
#[cfg(any(target_os = "linux", test))]
fn cpu_time(stat: &str) -> Option<Duration> {
    // The unit is USER_HZ, which Linux keeps at 100 towards programs whatever the kernel's own tick.
    const MS_PER_TICK: u64 = 10;
    // The name in field 2 may itself hold spaces and parentheses: the last one closes it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(MS_PER_TICK)?))
}

/// `VmRSS:` of `/proc/PID/status`, in KiB.
#[cfg(any(target_os = "linux", test))]
fn rss_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// The most open files that this process, and those it starts, can have.
#[cfg(unix)]
pub(crate) fn most_open_files() -> u64 {
    rlimit::Resource::NOFILE.get_hard().unwrap_or(u64::MAX)
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(crate) fn most_open_files() -> u64 {
    u64::MAX
}

/// Makes room for `wanted` open files, raising the hard limit as well where the system lets us. The error says what the
/// limit is and how to raise it.
#[cfg(unix)]
pub(crate) fn raise_open_files(wanted: u64) -> Result<(), String> {
    use rlimit::Resource;
    let now = Resource::NOFILE.get().map_err(|error| format!("cannot read the limit of open files: {error}"))?;
    let (soft, hard) = now;
    if soft >= wanted {
        return Ok(());
    }
    let raised = Resource::NOFILE.set(wanted, hard.max(wanted));
    raised.map_err(|error| {
        format!("they need {wanted} open files, the limit is {hard} and cannot be raised ({error}); raise it where it is set, for example `ulimit -n`")
    })
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_open_files(_wanted: u64) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_full_of_traps() {
        let stat = "42 (a) 9 (b c) S 1 42 42 0 -1 4194560 900 0 0 0 123 77 5 6 20 0 3 0 100 200 300";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(2_000)));
        assert_eq!(cpu_time("42 (a) S 1 2"), None);
        assert_eq!(cpu_time(""), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(rss_kib("Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\n"), Some(812));
        assert_eq!(rss_kib("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_named() {
        assert!(usage(&[std::process::id()]).unwrap().rss_kib > 100);
        // Linux hands out pids below 2^22.
        let error = usage(&[4_200_000_000]).unwrap_err();
        assert!(error.contains("/proc/4200000000/stat"), "{error}");
    }
}
