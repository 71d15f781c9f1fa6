//! Memory of the machine and of its kernel, which is where sockets live. All of it is Linux's; elsewhere there is none to tell.

use std::fs;

use serde::Serialize;

/// A look at the machine's memory, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Socket buffers of TCP, in use and queued.
    pub(crate) tcp_kib: Option<u64>,
    /// Objects of the kernel: sockets, files, poll entries.
    pub(crate) slab_kib: Option<u64>,
    /// What could still be had.
    pub(crate) available_kib: Option<u64>,
    /// All there is.
    pub(crate) total_kib: Option<u64>,
}

/// Pages of the kernel's accounts are of this size on every machine that we know.
const PAGE_KIB: u64 = 4;

/// As it is now.
pub(crate) fn memory() -> Memory {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let meminfo = text("/proc/meminfo");
    Memory {
        tcp_kib: tcp_pages(&text("/proc/net/sockstat")).map(|pages| pages * PAGE_KIB),
        slab_kib: of(&meminfo, "Slab:"),
        available_kib: of(&meminfo, "MemAvailable:"),
        total_kib: of(&meminfo, "MemTotal:"),
    }
}

impl Memory {
    /// How much of the memory is used, in percent.
    pub(crate) fn used_percent(&self) -> Option<f64> {
        let (total, available) = (self.total_kib?, self.available_kib?);
        (total > 0).then(|| total.saturating_sub(available) as f64 * 100.0 / total as f64)
    }
}

/// A line of /proc/meminfo, in KiB.
fn of(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// `mem` of the line `TCP:` of /proc/net/sockstat.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let sockstat = "sockets: used 60\nTCP: inuse 5 orphan 0 tw 3 alloc 6 mem 12\nUDP: inuse 1 mem 7\n";
        assert_eq!((tcp_pages(sockstat), tcp_pages("UDP: mem 7")), (Some(12), None));
        let meminfo = "MemTotal:       1000 kB\nMemAvailable:    250 kB\nSlab:   77 kB\n";
        assert_eq!((of(meminfo, "Slab:"), of(meminfo, "SReclaimable:")), (Some(77), None));
        let memory = Memory { available_kib: Some(250), total_kib: Some(1_000), ..Memory::default() };
        assert_eq!(memory.used_percent(), Some(75.0));
        assert_eq!(Memory::default().used_percent(), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some() {
        let memory = memory();
        assert!(memory.total_kib > memory.available_kib && memory.available_kib > Some(0));
        assert!(memory.slab_kib > Some(0) && memory.tcp_kib.is_some());
    }
}
