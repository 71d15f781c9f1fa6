//! The run from its first connection to its report: connect, idle, publish, drain. It must not read sockets itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::counters::{Counters, get, unix_ns};
use crate::endpoint::{self, Endpoint};
use crate::fleet::{Fleet, FleetAccount, FleetPlan};
use crate::process::{self, Usage};
use crate::progress::Progress;
use crate::publish::{MAX_LANES, PublishAccount, PublishCounters, PublishPlan, publish};
use crate::report::{Client, Connections, Events, Latency, Publishing, Readings, Report, Server, Throughput, passes};
use crate::verify::Published;

/// How often a phase looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Draining ends when nothing arrived for this long,
const QUIET: Duration = Duration::from_secs(5);
/// and whatever still arrives, after this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Once all was delivered: time for a duplicate to show.
const SURPLUS_WAIT: Duration = Duration::from_millis(500);
/// Open files beside those of the connections: runtimes, standard streams, probes.
const SPARE_FILES: u64 = 64;

/// Why there is no report.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The flags ask for what cannot be had here: exit code 2.
    Flags(String),
    /// Something outside failed: exit code 1.
    Outside(String),
}

/// Ctrl-C, once and twice.
struct Interrupts {
    /// Stop connecting and publishing.
    stop: CancellationToken,
    /// Stop draining as well.
    hurry: CancellationToken,
    _watch: JoinSet<()>,
}

impl Interrupts {
    fn watch() -> Self {
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let mut watch = JoinSet::new();
        let tokens = [stop.clone(), hurry.clone()];
        watch.spawn(async move {
            for token in tokens {
                if tokio::signal::ctrl_c().await.is_err() {
                    // Then the system ends the process at the signal, as it would any other.
                    return;
                }
                token.cancel();
            }
        });
        Self { stop, hurry, _watch: watch }
    }
}

/// The state of things when measuring begins.
struct MeasureStart {
    at: Instant,
    at_ns: u64,
    delivered: u64,
    usage: Result<Usage, String>,
    own_cpu: Option<Duration>,
}

/// Runs everything. `readers` is the runtime that the connections live on; publishing stays on the caller's.
pub(crate) async fn run(args: &Args, readers: &Handle) -> Result<Report, Failure> {
    let before = process::usage(&args.server_pids).map_err(Failure::Flags)?;
    let (fleet_plan, publish_plan) = prepare(args).await?;
    let mut fleet = Fleet::new(fleet_plan);
    let run = Run { args, counters: fleet.counters(), interrupts: Interrupts::watch(), progress: Progress::new() };

    run.connect(&mut fleet, readers).await;
    run.pause("idle", args.idle, &run.interrupts.stop).await;
    let idle = process::usage(&args.server_pids);
    let (published, measure_start) = run.publish(Arc::new(publish_plan)).await;
    run.drain(&published.channels).await;
    let end = process::usage(&args.server_pids);
    let delivered = get(&run.counters.delivered);
    let client = measure_start.as_ref().and_then(|start| {
        let cpu = process::own_cpu()?.saturating_sub(start.own_cpu?);
        Client::new(cpu, start.at.elapsed(), args.threads)
    });
    run.pause("looking for duplicates", SURPLUS_WAIT, &run.interrupts.hurry).await;
    let account = fleet.finish(&published.channels).await;

    let measured = measure_start.as_ref().map_or(0, |start| delivered - start.delivered);
    let measured_time =
        measure_start.as_ref().map_or(0, |start| get(&run.counters.last_arrival_ns).saturating_sub(start.at_ns));
    let throughput = Throughput::new(measured, Duration::from_nanos(measured_time));
    let mut report = run.report(account, published, throughput);
    report.client = client;
    if args.server_pids.is_empty() {
        return Ok(report);
    }
    // A server that died in between is no reason to keep the rest of the report back.
    match (idle, measure_start.map(|start| start.usage).transpose(), end) {
        (Ok(idle), Ok(measure_start), Ok(end)) => {
            let readings = Readings { before, idle, measure_start, end };
            report.server = Some(Server::new(&readings, report.connections.opened, measured));
        }
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => report.reasons.add(error, 1),
    }
    Ok(report)
}

/// Finds the servers and checks that the connections fit on this machine.
async fn prepare(args: &Args) -> Result<(FleetPlan, PublishPlan), Failure> {
    let connections = args.connections as usize;
    let size = args.size as usize;
    let cannot_fit = |error| Failure::Flags(format!("--connections {connections} cannot fit: {error}"));
    process::raise_open_files(u64::from(args.connections) + MAX_LANES as u64 + SPARE_FILES).map_err(cannot_fit)?;
    let mut endpoints = Vec::new();
    for target in &args.urls {
        endpoints.push(Endpoint::find(target).await.map_err(Failure::Outside)?);
    }
    endpoint::check_ports(&endpoints, connections).map_err(cannot_fit)?;
    let target = args.publish_target().ok_or_else(|| Failure::Flags("--url is missing".to_owned()))?;
    let endpoint = Endpoint::find(target).await.map_err(Failure::Outside)?;
    let channels: Vec<String> = (0..args.channels).map(|key| format!("{}-{key}", args.channel_prefix)).collect();
    let publish_plan = PublishPlan {
        endpoint,
        channels: channels.clone(),
        rate: args.rate,
        size,
        duration: args.warmup + args.duration,
    };
    Ok((FleetPlan { endpoints, channels, connections, connect_rate: args.connect_rate, size }, publish_plan))
}

/// What every phase needs.
struct Run<'a> {
    args: &'a Args,
    counters: Arc<Counters>,
    interrupts: Interrupts,
    progress: Progress,
}

impl Run<'_> {
    /// Opens all connections and waits until each is open or has failed, which their time limits bound.
    async fn connect(&self, fleet: &mut Fleet, readers: &Handle) {
        let wanted = u64::from(self.args.connections);
        let counters = &self.counters;
        let connecting = async {
            fleet.connect_all(readers).await;
            until(|| get(&counters.opened) + get(&counters.failed) >= wanted).await;
        };
        let connecting = async {
            tokio::select! {
                () = connecting => {}
                () = self.interrupts.stop.cancelled() => {}
            }
        };
        let status = || format!("connecting: {}/{wanted}, {} failed", get(&counters.opened), get(&counters.failed));
        self.progress.during(connecting, status).await;
    }

    /// Lets time pass, unless told to go on.
    async fn pause(&self, what: &str, time: Duration, go_on: &CancellationToken) {
        let pausing = async {
            tokio::select! {
                () = sleep(time) => {}
                () = go_on.cancelled() => {}
            }
        };
        let status = || format!("{what}: {} open", get(&self.counters.opened) - get(&self.counters.closed_early));
        self.progress.during(pausing, status).await;
    }

    /// Publishes, and begins to measure when the warm-up is over. Nothing is published if nobody is there to receive it.
    async fn publish(&self, plan: Arc<PublishPlan>) -> (PublishAccount, Option<MeasureStart>) {
        let stop = &self.interrupts.stop;
        if get(&self.counters.opened) == 0 || stop.is_cancelled() {
            return (PublishAccount::nothing(plan.channels.len()), None);
        }
        let start = Instant::now();
        let sent = Arc::new(PublishCounters::default());
        let publishing = publish(Arc::clone(&plan), Arc::clone(&sent), stop.clone());
        let measuring = async {
            tokio::select! {
                () = sleep(self.args.warmup) => Some(self.begin_measuring()),
                () = stop.cancelled() => None,
            }
        };
        let status = || {
            let (acknowledged, errors) = (get(&sent.acknowledged), get(&sent.errors));
            let behind = plan.due(start.elapsed()).saturating_sub(acknowledged + errors);
            let delivered = get(&self.counters.delivered);
            format!("publishing: {acknowledged} published, {errors} errors, {behind} behind, {delivered} delivered")
        };
        let both = async { tokio::join!(publishing, measuring) };
        self.progress.during(both, status).await
    }

    fn begin_measuring(&self) -> MeasureStart {
        let usage = process::usage(&self.args.server_pids);
        let at_ns = unix_ns();
        self.counters.measure_from_ns.store(at_ns, Ordering::Relaxed);
        let delivered = get(&self.counters.delivered);
        MeasureStart { at: Instant::now(), at_ns, delivered, usage, own_cpu: process::own_cpu() }
    }

    /// Waits until everything was delivered, or nothing more arrives.
    async fn drain(&self, published: &[Published]) {
        let counters = &self.counters;
        let began = Instant::now();
        let began_ns = unix_ns();
        let owed = self.owed(published);
        let over = || {
            let all_there = owed.is_some_and(|owed| get(&counters.delivered) >= owed);
            let nobody_left = get(&counters.closed_early) == get(&counters.opened);
            let quiet_ns = unix_ns().saturating_sub(get(&counters.last_arrival_ns).max(began_ns));
            all_there || nobody_left || Duration::from_nanos(quiet_ns) >= QUIET || began.elapsed() >= DRAIN_LIMIT
        };
        let draining = async {
            tokio::select! {
                () = until(over) => {}
                () = self.interrupts.hurry.cancelled() => {}
            }
        };
        let of = owed.map_or_else(String::new, |owed| format!(" of {owed}"));
        let status = || format!("draining: {}{of} delivered", get(&counters.delivered));
        self.progress.during(draining, status).await;
    }

    /// Deliveries to wait for; `None` where they cannot be told, since some connections are missing or some publishes may
    /// have worked all the same.
    fn owed(&self, published: &[Published]) -> Option<u64> {
        let connections = u64::from(self.args.connections);
        if published.iter().all(|channel| channel.attempted == 0) {
            return Some(0);
        }
        let sure = published.iter().all(|channel| channel.unsure.is_empty());
        if !sure || get(&self.counters.opened) != connections {
            return None;
        }
        let channels = published.len() as u64;
        // Connection i reads channel i modulo the channels: the first ones have one more where it does not divide.
        let readers = |key: u64| connections / channels + u64::from(key < connections % channels);
        Some((0..channels).zip(published).map(|(key, channel)| readers(key) * channel.attempted).sum())
    }

    /// Everything but the CPU time and memory of the processes.
    fn report(&self, account: FleetAccount, published: PublishAccount, throughput: Option<Throughput>) -> Report {
        let wanted = u64::from(self.args.connections);
        let connections = Connections {
            wanted,
            channels: u64::from(self.args.channels),
            opened: account.opened,
            failed: wanted - account.opened,
            closed_early: account.closed_early,
        };
        let attempted: u64 = published.channels.iter().map(|channel| channel.attempted).sum();
        let acknowledged = published.channels.iter().map(Published::acknowledged).sum();
        let publishing = Publishing {
            due: published.due.max(attempted),
            acknowledged,
            errors: attempted - acknowledged,
            not_sent: published.due.saturating_sub(attempted),
        };
        let events = Events::new(&account.verdict, account.foreign, account.gaps);
        let mut reasons = account.reasons;
        reasons.merge(published.reasons);
        Report {
            passed: passes(&connections, &publishing, &events),
            interrupted: self.interrupts.stop.is_cancelled(),
            connections,
            publishing,
            events,
            latency_ms: Latency::of(&self.counters.latency),
            throughput,
            client: None,
            server: None,
            reasons,
        }
    }
}

/// Looks every now and then: the counters are written millions of times a second, and waking someone each time would cost
/// more than all else.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(LOOK_EVERY).await;
    }
}
