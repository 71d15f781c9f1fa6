//! CPU time and memory at the moments of a run, and what lies between them. It must not decide what a run does.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::args::Args;
use crate::clock::unix_ns;
use crate::report::{Client, Server, System, Watched, per};
use crate::system::memory::{Memory, memory};
use crate::system::process::{Usage, usage};
use crate::worker::message::Stats;

/// A look at all processes at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    /// The same in ns since 1970.
    pub(super) at_ns: u64,
    /// The servers; an error once one is gone.
    server: Result<Usage, String>,
    watched: Vec<Option<Usage>>,
    client: Option<Usage>,
    memory: Memory,
}

/// The moments of a run, as they come.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// Before the first connection.
    pub(super) before: Option<Reading>,
    /// All connections are open,
    pub(super) opened: Option<Reading>,
    /// and this is how many they are.
    pub(super) open: u64,
    /// After a pause; connections open, and nothing published yet.
    pub(super) idle: Option<Reading>,
    /// The end of the warm-up.
    pub(super) measure: Option<Reading>,
    /// Everything has been delivered, and connections are still open.
    pub(super) end: Option<Reading>,
}

impl Reading {
    /// As it is now. `readers` are the processes that read.
    pub(super) fn now(args: &Args, readers: &[u32]) -> Self {
        let own: Vec<u32> = readers.iter().copied().chain([std::process::id()]).collect();
        Self {
            at: Instant::now(),
            at_ns: unix_ns(),
            server: usage(&args.server_pids),
            watched: args.watch.iter().map(|(_, pid)| usage(&[*pid]).ok()).collect(),
            client: usage(&own).ok(),
            memory: memory(),
        }
    }

    /// Why a server could not be read.
    pub(super) fn error(&self) -> Option<&str> {
        self.server.as_ref().err().map(String::as_str)
    }

    /// Resident memory of the servers.
    pub(super) fn rss_kib(&self) -> Option<u64> {
        self.server.as_ref().ok().map(|usage| usage.rss_kib)
    }
}

/// CPU time between two readings, in seconds.
fn cpu(of: impl Fn(&Reading) -> Option<Usage>, from: Option<&Reading>, to: Option<&Reading>) -> Option<f64> {
    let (from, to) = (of(from?)?, of(to?)?);
    Some(to.cpu.saturating_sub(from.cpu).as_secs_f64())
}

/// Time between two readings, in seconds.
fn wall(from: Option<&Reading>, to: Option<&Reading>) -> Option<f64> {
    Some((to?.at - from?.at).as_secs_f64())
}

impl Readings {
    /// The servers' part of the report; `None` where none were named.
    pub(super) fn server(&self, args: &Args, stats: &Stats) -> Option<Server> {
        if args.server_pids.is_empty() {
            return None;
        }
        let Self { before, opened, open, idle, measure, end } = self;
        let open = *open as f64;
        let of = |reading: &Reading| reading.server.as_ref().ok().copied();
        let cpu = |from: &Option<Reading>, to: &Option<Reading>| cpu(of, from.as_ref(), to.as_ref());
        let rss = |reading: &Option<Reading>| reading.as_ref().and_then(Reading::rss_kib);
        let measured = cpu(measure, end);
        let added = rss(idle).zip(rss(before)).map(|(now, before)| now as f64 - before as f64);
        // Without a warm-up there is nothing else that is idle.
        let (from, to) = if stats.delivered == 0 && measure.is_some() { (measure, end) } else { (opened, idle) };
        let idle_share = cpu(from, to).zip(wall(from.as_ref(), to.as_ref()));
        Some(Server {
            pids: args.server_pids.clone(),
            cpu_seconds: measured,
            cpu_us_per_delivery: measured.and_then(|cpu| per(cpu * 1e6, stats.measured as f64)),
            cpu_us_per_connect: cpu(before, opened).and_then(|cpu| per(cpu * 1e6, open)),
            idle_cpu_percent: idle_share.and_then(|(cpu, wall)| per(cpu * 100.0, wall)),
            rss_before_kib: rss(before),
            rss_open_kib: rss(idle),
            rss_end_kib: rss(end),
            rss_kib_per_connection: added.and_then(|kib| per(kib, open)),
        })
    }

    /// What `--watch-pid` named.
    pub(super) fn watched(&self, args: &Args) -> BTreeMap<String, Watched> {
        let rss = |reading: &Option<Reading>, index: usize| {
            let usage = reading.as_ref()?.watched.get(index).copied()??;
            Some(usage.rss_kib)
        };
        let watched = |index| Watched {
            rss_before_kib: rss(&self.before, index),
            rss_open_kib: rss(&self.idle, index),
            rss_end_kib: rss(&self.end, index),
        };
        args.watch.iter().enumerate().map(|(index, (name, _))| (name.clone(), watched(index))).collect()
    }

    /// The machine's memory.
    pub(super) fn system(&self) -> System {
        let memory = |reading: &Option<Reading>| reading.as_ref().map(|reading| reading.memory).unwrap_or_default();
        System::of(&memory(&self.before), &memory(&self.idle))
    }

    /// This program's own part.
    pub(super) fn client(&self, processes: u64, stats: &Stats) -> Client {
        let (from, to) = (self.measure.as_ref(), self.end.as_ref());
        let cpu = cpu(|reading| reading.client, from, to);
        Client {
            processes,
            cpu_percent: cpu.zip(wall(from, to)).and_then(|(cpu, wall)| per(cpu * 100.0, wall)),
            cpu_us_per_delivery: cpu.and_then(|cpu| per(cpu * 1e6, stats.measured as f64)),
            rss_kib: self.idle.as_ref().and_then(|reading| reading.client).map(|usage| usage.rss_kib),
        }
    }
}
