//! The machine's limits: which of them are in the way, and what to change. It changes nothing by itself.

use rlimit::Resource;

/// What the kernel allows; None where it does not say.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// Open files of one process, at most: the hard limit.
    pub(super) files: Option<u64>,
    /// Open files of all processes.
    pub(super) all_files: Option<u64>,
    /// Connections that wait to be accepted, of one port.
    pub(super) backlog: Option<u64>,
    /// Pages of all TCP buffers, beyond which the kernel drops what arrives.
    pub(super) tcp_pages: Option<u64>,
    /// First and last port of outgoing connections.
    pub(super) ports: Option<(u64, u64)>,
    /// Connections that the firewall keeps track of; None where it does not.
    pub(super) tracked: Option<u64>,
}

/// What is to be opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) connections: u64,
    /// Open files of one process.
    pub(super) per_process: u64,
}

/// A busy second of new connections, of one port.
const BACKLOG: u64 = 4_096;
/// Outgoing ports that a source address needs toward one node.
const PORTS: u64 = 25_000;
/// What of all connections may have something in a buffer at a time, one page each: a quarter.
const BUFFERED: u64 = 4;

impl Limits {
    /// Those of this machine.
    pub(super) fn look() -> Self {
        let numbers = |path: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
            Some(text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>())
        };
        let number = |path: &str, place: usize| numbers(path)?.get(place).copied();
        let ports = numbers("net/ipv4/ip_local_port_range");
        Self {
            files: rlimit::getrlimit(Resource::NOFILE).ok().map(|(_, hard)| hard),
            all_files: number("fs/file-max", 0),
            backlog: number("net/core/somaxconn", 0),
            tcp_pages: number("net/ipv4/tcp_mem", 2),
            ports: ports.and_then(|ports| Some((*ports.first()?, *ports.get(1)?))),
            // Where none is tracked now, none will be: Redis and others are connected to all the time.
            tracked: number("net/netfilter/nf_conntrack_count", 0)
                .filter(|count| *count > 0)
                .and_then(|_| number("net/netfilter/nf_conntrack_max", 0)),
        }
    }
}

/// # Errors
/// A node could not hold its share. With what to change.
pub(super) fn enough_files(limits: &Limits, wanted: &Wanted) -> Result<(), String> {
    match limits.files {
        Some(files) if files < wanted.per_process => Err(format!(
            "a process may have {files} open files, and a node needs {}: give a smaller --per-node, or raise the limit \
             (`ulimit -Hn {}` as root, LimitNOFILE= of the service)",
            wanted.per_process, wanted.per_process
        )),
        _ => Ok(()),
    }
}

/// What to change, in plain words; nothing where all is well.
pub(super) fn advice(limits: &Limits, wanted: &Wanted) -> Vec<String> {
    let mut advice = Vec::new();
    let mut low = |value: Option<u64>, least: u64, name: &str, why: &str| {
        if let Some(value) = value.filter(|value| *value < least) {
            advice.push(format!("{name} is {value}: {why}. `sysctl -w {name}={least}`"));
        }
    };
    // Both ends of every connection are on this machine.
    let ends = wanted.connections * 2;
    low(limits.all_files, ends + ends / 10, "fs.file-max", "both ends of every connection are files");
    low(
        limits.backlog,
        BACKLOG,
        "net.core.somaxconn",
        "new connections wait to be accepted, and are dropped beyond it",
    );
    low(
        limits.tracked,
        wanted.connections + wanted.connections / 10,
        "net.netfilter.nf_conntrack_max",
        "the firewall keeps track of every connection",
    );
    if let Some(pages) = limits.tcp_pages.filter(|pages| *pages < wanted.connections / BUFFERED) {
        let least = wanted.connections / BUFFERED;
        let three = format!("{} {} {least}", least / 2, least / 4 * 3);
        advice.push(format!("net.ipv4.tcp_mem allows {pages} pages: what is on its way may need {least}. `sysctl -w net.ipv4.tcp_mem=\"{three}\"`"));
    }
    if let Some((first, last)) = limits.ports.filter(|(first, last)| last.saturating_sub(*first) < PORTS) {
        advice.push(format!(
            "net.ipv4.ip_local_port_range is {first} to {last}: a source address needs {PORTS} ports toward a node. \
             `sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"`"
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLION: Wanted = Wanted { connections: 1_000_000, per_process: 18_500 };

    #[test]
    fn what_is_large_enough_or_not_there_is_not_mentioned() {
        let limits = Limits {
            files: Some(18_500),
            all_files: Some(2_200_000),
            backlog: Some(4_096),
            tcp_pages: Some(250_000),
            ports: Some((32_768, 60_999)),
            tracked: Some(1_100_000),
        };
        assert_eq!(advice(&limits, &MILLION), [""; 0]);
        assert_eq!(enough_files(&limits, &MILLION), Ok(()));
        assert_eq!(advice(&Limits::default(), &MILLION), [""; 0]);
        assert_eq!(enough_files(&Limits::default(), &MILLION), Ok(()));
    }

    #[test]
    fn each_limit_that_is_too_low_is_named_with_what_to_do() {
        let limits = Limits {
            files: Some(18_499),
            all_files: Some(2_199_999),
            backlog: Some(4_095),
            tcp_pages: Some(249_999),
            ports: Some((32_768, 57_767)),
            tracked: Some(1_099_999),
        };
        let all = advice(&limits, &MILLION);
        let named = [
            "fs.file-max=2200000",
            "somaxconn=4096",
            "nf_conntrack_max=1100000",
            "tcp_mem=\"125000 187500 250000\"",
            "port_range=",
        ];
        assert_eq!(all.len(), named.len(), "{all:?}");
        for (advice, name) in all.iter().zip(named) {
            assert!(advice.contains(name), "{advice} lacks {name}");
        }
        let error = enough_files(&limits, &MILLION).unwrap_err();
        assert!(error.contains("18499 open files, and a node needs 18500"), "{error}");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let limits = Limits::look();
        assert!(limits.files.is_some() && limits.backlog.is_some() && limits.tcp_pages.is_some(), "{limits:?}");
    }
}
