//! The run from its first connection to its report: connect, pause, publish, drain. It must not read event streams itself.

mod churn;
mod course;
mod interrupts;
mod prepare;
mod readings;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::args::{Args, Scenario};
use crate::clock::unix_ns;
use crate::fleet::{Fleet, View};
use crate::layout::Layout;
use crate::progress::Progress;
use crate::publish::{Account as Publishing, Publisher};
use crate::report::{
    Churn, Connect, Connections, Deliveries, Events, Latency, Report, Round, Slow, Storm, Tokens, per, sum_up,
};
use crate::system::memory::memory;
use crate::verify::Published;
use crate::worker::message::{Command, Stats};
use interrupts::Interrupts;
use readings::{Reading, Readings};

/// Draining ends when nothing arrived for this long,
const QUIET: Duration = Duration::from_secs(5);
/// and whatever still arrives, after this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Once all was delivered: time for a duplicate to show.
const SURPLUS_WAIT: Duration = Duration::from_millis(500);
/// How often memory is looked at while connections open.
const MEMORY_EVERY: Duration = Duration::from_millis(100);
/// How long processes take at most to tell what they have begun.
const SETTLE: Duration = Duration::from_millis(300);

/// Why there is no report.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The flags ask for what cannot be had here: exit code 2.
    Flags(String),
    /// Something outside failed: exit code 1.
    Outside(String),
}

/// What every phase needs.
struct Run<'a> {
    args: &'a Args,
    layout: Layout,
    publisher: Option<Publisher>,
    fleet: Fleet,
    processes: u64,
    interrupts: Interrupts,
    progress: Progress,
    readings: Readings,
    /// When connecting began, in ns since 1970.
    opening_ns: u64,
    /// How many connections read each channel.
    readers: Vec<u32>,
    rounds: Vec<Round>,
    churn: Option<Churn>,
}

/// Runs everything.
pub(crate) async fn run(args: &Args) -> Result<Report, Failure> {
    let before = Reading::now(args, &[]);
    if let Some(error) = before.error() {
        return Err(Failure::Flags(error.to_owned()));
    }
    let prepare::Prepared { layout, plans, publisher } = prepare::prepare(args).await?;
    let interrupts = Interrupts::watch();
    let processes = plans.len() as u64;
    let fleet = Fleet::start(plans).await.map_err(Failure::Outside)?;
    let run = Run {
        args,
        layout,
        publisher,
        fleet,
        processes,
        interrupts,
        progress: Progress::new(args.quiet),
        readings: Readings { before: Some(before), ..Readings::default() },
        opening_ns: unix_ns(),
        readers: Vec::new(),
        rounds: Vec::new(),
        churn: None,
    };
    run.phases().await.map_err(Failure::Outside)
}

impl Run<'_> {
    async fn phases(mut self) -> Result<Report, String> {
        if self.args.scenario == Scenario::Churn {
            self.churn().await?;
            let nothing = Publishing::nothing(self.layout.keys());
            return self.report(nothing).await;
        }
        self.connect().await?;
        self.pause("idle", self.args.idle).await?;
        self.readings.idle = Some(self.reading());
        self.readers = self.layout.readers(&self.fleet.begun());
        let published = self.publish().await?;
        self.drain(&published).await?;
        self.readings.end = Some(self.reading());
        if published.sent > 0 {
            // A second Ctrl-C does not wait for this either.
            let _ = timeout(SURPLUS_WAIT, self.interrupts.hurry.cancelled()).await;
        }
        self.report(published).await
    }

    fn reading(&self) -> Reading {
        Reading::now(self.args, &self.fleet.pids())
    }

    /// Opens all connections and waits until each is open or has failed, which their time limits bound. Stops early where
    /// memory is short, or at Ctrl-C.
    async fn connect(&mut self) -> Result<(), String> {
        let wanted = u64::from(self.args.connections);
        let before = self.fleet.stats();
        let settled = move |stats: &Stats| stats.opened + stats.failed - before.opened - before.failed;
        self.opening_ns = unix_ns();
        self.fleet.tell(&Command::Open).await?;
        let view = self.fleet.view();
        let status = || {
            let stats = view.stats();
            format!(
                "connecting: {}/{wanted}, {} failed",
                settled(&stats) - (stats.failed - before.failed),
                stats.failed
            )
        };
        let all = async {
            tokio::select! {
                all = view.until(|stats| settled(stats) >= wanted) => all.map(|()| true),
                () = self.interrupts.stop.cancelled() => Ok(false),
                short = memory_is_short(&view, self.args.memory_limit) => short.map(|()| false),
            }
        };
        let all = self.progress.during(all, &status).await?;
        if !all {
            self.fleet.tell(&Command::StopOpening).await?;
            sleep(SETTLE).await;
            let begun = view.until(|stats| settled(stats) >= u64::from(stats.begun));
            self.progress.during(begun, &status).await?;
        }
        if self.readings.opened.is_none() {
            // Of several rounds the first, before anything is warm or worn.
            self.readings.opened = Some(self.reading());
            self.readings.open = self.fleet.stats().opened;
        }
        if let Some(path) = &self.args.ready_file {
            let text = format!("{}\n", self.fleet.stats().opened);
            std::fs::write(path, text).map_err(|error| format!("--ready-file {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Lets time pass, unless told to go on. An error if a process is gone meanwhile.
    async fn pause(&self, what: &str, time: Duration) -> Result<(), String> {
        let view = self.fleet.view();
        let pausing = async {
            tokio::select! {
                () = sleep(time) => Ok(()),
                () = self.interrupts.stop.cancelled() => Ok(()),
                error = view.gone() => Err(error),
            }
        };
        let status = || {
            let stats = view.stats();
            format!("{what}: {} open", stats.opened.saturating_sub(stats.dropped))
        };
        self.progress.during(pausing, status).await
    }

    /// Waits until everything was delivered, or nothing more arrives.
    async fn drain(&self, published: &Publishing) -> Result<(), String> {
        if published.sent == 0 || self.args.scenario == Scenario::Tokens {
            return Ok(());
        }
        let view = self.fleet.view();
        let began_ns = unix_ns();
        let owed = self.owed(published);
        let over = move |stats: &Stats| {
            let all_there = owed.is_some_and(|owed| stats.delivered >= owed);
            let nobody_left = stats.dropped >= stats.opened && stats.waiting == 0;
            let quiet = unix_ns().saturating_sub(stats.last_arrival_ns.max(began_ns));
            all_there || nobody_left || Duration::from_nanos(quiet) >= QUIET
        };
        let draining = async {
            tokio::select! {
                drained = timeout(DRAIN_LIMIT, view.until(over)) => drained.unwrap_or(Ok(())),
                () = self.interrupts.hurry.cancelled() => Ok(()),
            }
        };
        let of = owed.map_or_else(String::new, |owed| format!(" of {owed}"));
        let status = || format!("draining: {}{of} delivered", view.stats().delivered);
        self.progress.during(draining, status).await
    }

    /// Deliveries to wait for; `None` where they cannot be told, since some connections are missing or some publishes may
    /// have worked all the same.
    fn owed(&self, published: &Publishing) -> Option<u64> {
        let sure = published.unsure == 0 && self.fleet.stats().failed == 0;
        let each = self.readers.iter().zip(&published.published);
        sure.then(|| each.map(|(readers, channel)| u64::from(*readers) * channel.attempted).sum())
    }

    /// Ends all, and says what came of it.
    async fn report(mut self, published: Publishing) -> Result<Report, String> {
        let nothing = Published::default();
        let entry = |key: u32| published.published.get(key as usize).unwrap_or(&nothing).clone();
        let layout = &self.layout;
        let (accounts, stats) = self
            .fleet
            .finish(|plan| Command::Finish(layout.keys_of(&plan.range).into_iter().map(entry).collect()))
            .await?;
        let (account, latency, connect) = sum_up(accounts);
        let reads = self.publisher.is_some();
        let measured_ns = self.readings.measure.as_ref().map_or(0, |reading| reading.at_ns);
        let receiving = stats.last_arrival_ns.saturating_sub(measured_ns) as f64 / 1e9;
        let opening = stats.last_opened_ns.saturating_sub(self.opening_ns) as f64 / 1e9;
        // Those that came back, or opened one stream after the other, say nothing about opening.
        let opens_once = !matches!(self.args.scenario, Scenario::Churn | Scenario::Tokens | Scenario::Storm);
        let opening = (opens_once && stats.opened > 0).then_some(opening);
        let scenario = self.args.scenario;
        let is = |this: Scenario| scenario == this;
        let mut reasons = account.reasons.clone();
        reasons.merge(published.reasons.clone());
        for reading in [&self.readings.opened, &self.readings.idle, &self.readings.end].into_iter().flatten() {
            if let Some(error) = reading.error() {
                reasons.add(error.to_owned(), 1);
            }
        }
        let mut report = Report {
            scenario,
            passed: false,
            reasons: reasons.iter().map(|(reason, times)| format!("{times} x {reason}")).collect(),
            connections: Connections {
                wanted: self.wanted(&stats),
                opened: stats.opened - stats.reopened,
                failed: stats.failed,
                dropped: if is(Scenario::Storm) { 0 } else { stats.dropped },
                seconds: opening,
                per_second: opening.and_then(|seconds| per(stats.opened as f64, seconds)),
                connect_ms: Connect::of(&connect),
            },
            events: reads.then(|| events_of(&published)),
            deliveries: reads.then(|| Deliveries::of(&account, per(stats.measured as f64, receiving))),
            latency_ms: Latency::of(&latency),
            server: self.readings.server(self.args, &stats),
            watched: self.readings.watched(self.args),
            system: self.readings.system(),
            client: self.readings.client(self.processes, &stats),
            storm: is(Scenario::Storm).then(|| Storm { rounds: std::mem::take(&mut self.rounds) }),
            churn: self.churn.take(),
            slow: is(Scenario::Slow).then_some(Slow { stuck: account.stuck, closed_by_server: account.stuck_closed }),
            tokens: is(Scenario::Tokens).then_some(Tokens { streams: stats.completed }),
        };
        report.judge(&stats, self.args.tolerate_loss);
        if self.interrupts.stop.is_cancelled() {
            report.reasons.push("interrupted: a part of what was asked for".to_owned());
        }
        Ok(report)
    }

    fn wanted(&self, stats: &Stats) -> u64 {
        let connections = u64::from(self.args.connections);
        match self.args.scenario {
            Scenario::Churn => connections * u64::from(self.args.rounds()),
            Scenario::Tokens => connections.max(stats.opened + stats.failed),
            _ => connections,
        }
    }
}

fn events_of(published: &Publishing) -> Events {
    let seconds = published.took.as_secs_f64();
    Events {
        published: published.sent - published.unsure,
        unsure: published.unsure,
        not_sent: published.not_sent,
        seconds,
        per_second: per(published.sent as f64, seconds),
        late_ms: Connect::of(&published.late),
    }
}

/// Returns once so much of the machine's memory is used, or never. A first connection there is in any case.
async fn memory_is_short(view: &View, limit: Option<u8>) -> Result<(), String> {
    let Some(limit) = limit else { return std::future::pending().await };
    let limit = f64::from(limit);
    view.until(|stats| stats.opened > 0).await?;
    while memory().used_percent().is_none_or(|used| used < limit) {
        sleep(MEMORY_EVERY).await;
    }
    Ok(())
}

/// The time that is left of `whole` since `start`.
fn left(start: Instant, whole: Duration) -> Duration {
    whole.saturating_sub(start.elapsed())
}
