//! One round: a cluster starts, all is well, things go wrong, all is well again, and what everybody heard is judged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use publisher::Publisher;
use shared::redis::Settings as RedisSettings;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::client::{EventSource, lock};
use crate::evidence;
use crate::fault::Fault;
use crate::inflict::inflict;
use crate::oracle::{Break, Start, Verdict, Wrong, judge};
use crate::plan::{Plan, Scale};
use crate::publishing::{ChannelPublisher, Ledger, Publishing, once_each};
use crate::record::Record;
use crate::store::Redis;
use crate::tally::Tally;
use crate::world::{LOOK, NODES, World};

/// How long a last event may take before another one is published: one may lie within a gap that is about to be told.
const WAVE: Duration = Duration::from_secs(2);

/// What a round needs to know beside its plan.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// What they have for Redis.
    pub redis: Redis,
    /// How large and how fast.
    pub scale: Scale,
    /// Which of the nodes serve event streams by the direct lane.
    pub direct: [bool; NODES],
    /// Where its logs go; it exists.
    pub folder: PathBuf,
}

/// What came of a round.
#[derive(Debug)]
pub struct Report {
    /// Its numbers.
    pub tally: Tally,
    /// Everything that is wrong, each with its evidence; empty: the round passed.
    pub wrongs: Vec<String>,
    /// Faults that had no effect, and why.
    pub idle: Vec<(Fault, String)>,
}

type Records = Vec<Arc<Mutex<Record>>>;

/// Runs one. What is wrong with the cluster is in the report.
///
/// # Errors
/// The harness itself failed, and the round says nothing.
pub async fn run(setting: &Setting, plan: &Plan) -> Result<Report, String> {
    let world = World::start(setting, plan).await?;
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    let lived = live(setting, plan, &world, &stop, &mut clients).await;
    stop.cancel();
    clients.join_all().await;
    world.stop(&setting.folder).await;
    evidence::keep_timeline(&setting.folder, &world.timeline());
    let (records, idle) = lived?;
    let mut report = judge_all(&world, &records, idle);
    for what in world.troubles().into_iter().chain(world.ledger.refusals()) {
        report.tally.other += 1;
        report.wrongs.insert(0, what);
    }
    evidence::keep(&setting.folder, &records, &report.wrongs);
    Ok(report)
}

async fn live(
    setting: &Setting,
    plan: &Plan,
    world: &World,
    stop: &CancellationToken,
    clients: &mut JoinSet<()>,
) -> Result<(Records, Vec<(Fault, String)>), String> {
    let Scale { calm, pause, patience, .. } = setting.scale;
    let publishers = publishers(world, setting.scale.channels).await?;
    // A channel that nothing was ever published on has no last position, which is a case of its own.
    let publishers = once_each(publishers, |_| true, patience).await?;
    let mut records: Records = Vec::new();
    for visitor in &plan.clients {
        let client = EventSource::new(&world.http, &world.public_ports(), visitor, &world.partitions, world.began);
        records.push(client.record());
        let (comes, stop) = (visitor.comes, stop.clone());
        clients.spawn(async move {
            if stop.run_until_cancelled(sleep(comes)).await.is_some() {
                client.run(stop).await;
            }
        });
    }
    let publishing = Publishing::start(publishers, pause);
    let early = || plan.clients.iter().zip(&records).filter(|(visitor, _)| visitor.comes.is_zero());
    let open = || early().all(|(_, record)| lock(record).start.is_some() || !lock(record).fatal.is_empty());
    if !comes_true(patience, open).await {
        return Err(format!("not every client has a stream after {patience:?}, before anything went wrong"));
    }
    sleep(calm).await;
    let idle = go_wrong(plan, world).await?;
    sleep(calm).await;
    let healed = world.heal(patience).await;
    world.note("everything is healed");
    let publishers = publishing.stop(patience).await?;
    last_events(world, publishers, &records, patience).await?;
    if let Err(trouble) = healed {
        world.trouble(trouble);
    }
    // One that was never let in is owed no event, but that it was not.
    for (client, channel) in waiting(&world.ledger, &records) {
        world.trouble(format!("client {} lacks the last event on channel {channel} after {patience:?}", client + 1));
    }
    Ok((records, idle))
}

async fn publishers(world: &World, channels: usize) -> Result<Vec<ChannelPublisher>, String> {
    let settings = RedisSettings {
        command_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        partitions: world.partitions.count(),
        ..RedisSettings::new(world.publish_link.url())
    };
    let publisher = Publisher::connect(&settings).await.map_err(|error| error.to_string())?;
    (0..channels).map(|index| ChannelPublisher::new(&publisher, index, &world.ledger)).collect()
}

/// All faults of the plan, each at its time. Returns those that had no effect.
async fn go_wrong(plan: &Plan, world: &World) -> Result<Vec<(Fault, String)>, String> {
    let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0xC4A0_5C4A_05C4_A05C);
    let faults = plan.faults.iter().map(|(fault, at)| {
        let mut rng = rng.fork();
        async move {
            sleep(*at).await;
            (*fault, inflict(*fault, world, &mut rng).await)
        }
    });
    let mut idle = Vec::new();
    for (fault, outcome) in join_all(faults).await {
        if let Err(reason) = outcome? {
            idle.push((fault, reason));
        }
    }
    Ok(idle)
}

/// Publishes a last event on each channel, and another where it does not come to everybody, until everybody has the newest
/// or `patience` is at its end.
async fn last_events(
    world: &World,
    mut publishers: Vec<ChannelPublisher>,
    records: &Records,
    patience: Duration,
) -> Result<(), String> {
    let ledger = &world.ledger;
    let deadline = Instant::now() + patience;
    publishers = once_each(publishers, |_| true, patience).await?;
    loop {
        let arrived = comes_true(WAVE, || waiting(ledger, records).is_empty()).await;
        if arrived || Instant::now() > deadline {
            return Ok(());
        }
        let lacking: Vec<usize> = waiting(ledger, records).into_iter().map(|(_, channel)| channel).collect();
        publishers = once_each(publishers, |channel| lacking.contains(&channel), patience).await?;
    }
}

/// Clients that still listen, by place, and the channels whose newest event they have not heard.
fn waiting(ledger: &Ledger, records: &Records) -> Vec<(usize, usize)> {
    let mut waiting = Vec::new();
    for (client, record) in records.iter().enumerate() {
        let record = lock(record);
        if record.fatal.is_empty() {
            let late = record.channels.iter().filter(|channel| record.newest(**channel) < ledger.last(**channel));
            waiting.extend(late.map(|channel| (client, *channel)));
        }
    }
    waiting
}

async fn comes_true(patience: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

fn judge_all(world: &World, records: &Records, idle: Vec<(Fault, String)>) -> Report {
    let mut tally = Tally { rounds: 1, events: world.ledger.events(), ..Tally::default() };
    let mut wrongs = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let record = lock(record);
        tally.reconnects += record.reconnects();
        tally.other += record.fatal.len() as u64;
        wrongs.extend(record.fatal.iter().map(|fatal| format!("client {}: {fatal}", index + 1)));
        for channel in &record.channels {
            let partition = world.partitions.of(*channel);
            let breaks = world.breaks(partition);
            let verdict = verdict(&world.ledger, &record, *channel, record.start_on(partition), &breaks);
            tally.add_verdict(&verdict);
            if !verdict.violations.is_empty() {
                let published = world.ledger.published(*channel);
                wrongs.push(evidence::describe(index + 1, *channel, &record, &published, &breaks, &verdict));
            }
        }
    }
    Report { tally, wrongs, idle }
}

/// One that had to give up is not owed what came after: that it had to is what is wrong.
fn verdict(ledger: &Ledger, record: &Record, channel: usize, start: Option<Start>, breaks: &[Break]) -> Verdict {
    let mut verdict = judge(&ledger.published(channel), start, &record.heard_on(channel), breaks);
    if !record.fatal.is_empty() {
        verdict.violations.retain(|violation| violation.wrong != Wrong::Lost);
    }
    verdict
}

/// The folder of a round, made.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))
}
