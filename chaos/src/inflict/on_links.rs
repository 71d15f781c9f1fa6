//! Faults of one gateway's link to Redis. Those that set how the link works have it for themselves meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Outcome, between, wait};
use crate::node::Node;
use crate::store::{Aim, Store};
use crate::world::{LOOK, World};

/// What a Pub/Sub connection may leave unread in Redis while the fault lasts, and what it may by default.
const LITTLE: &str = "pubsub 64kb 0 0";
const DEFAULT: &str = "pubsub 32mb 8mb 60";
/// In Redis' log when a connection left more.
const OVERCOME: &str = "output buffer limits";
/// Of an event, so that a few fill what Redis and the system hold back, and a gateway's log has room for seconds of them.
const LARGE: usize = 24 << 10;
/// How many channels have large events meanwhile: one alone fills the buffers of a system that gives much in more seconds
/// than the fault has, and the node may be one that nobody asked for it.
const LARGE_CHANNELS: usize = 6;
/// How long a fault is tried for.
const TRIES: Duration = Duration::from_secs(10);

pub(super) async fn blackhole(world: &World, node: &Node, rng: &mut fastrand::Rng) -> Outcome {
    let _alone = node.spoil.lock().await;
    world.note(node.complaint("sends into a blackhole"));
    let before = node.link.swallowed();
    node.link.blackhole();
    wait(rng, 1_000, 4_000).await;
    node.link.pass();
    if node.link.swallowed() == before { Err("nothing was on the link".to_owned()) } else { Ok(()) }
}

pub(super) async fn reset(world: &World, node: &Node, rng: &mut fastrand::Rng) -> Outcome {
    let mut cut = 0;
    for _ in 0..rng.u8(1..=3) {
        cut += node.link.reset();
        world.note(node.complaint("is cut off"));
        wait(rng, 50, 600).await;
    }
    if cut == 0 { Err("there was no connection".to_owned()) } else { Ok(()) }
}

pub(super) async fn delay(world: &World, node: &Node, rng: &mut fastrand::Rng) -> Outcome {
    let _alone = node.spoil.lock().await;
    let by = between(rng, 200, 500);
    world.note(node.complaint(&format!("hears Redis {by:?} late, and the other way")));
    node.link.delay(by);
    wait(rng, 1_500, 4_000).await;
    node.link.pass();
    Ok(())
}

/// It may just have no session: then it is tried again.
pub(super) async fn deafen(world: &World, node: &Node) -> Outcome {
    let deadline = Instant::now() + TRIES;
    while node.link.deafen_subscribers() == 0 {
        if Instant::now() > deadline {
            return Err("it had no Pub/Sub connection".to_owned());
        }
        sleep(LOOK).await;
    }
    world.note(node.complaint("is deaf"));
    Ok(())
}

pub(super) async fn output_buffer(world: &World, node: &Node, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let _alone = node.spoil.lock().await;
    let (aim, before, channels) = {
        let store = world.store.lock().await;
        let aim = store.aim(rng, false)?;
        store.primary(aim).cli(&["CONFIG", "SET", "client-output-buffer-limit", LITTLE]).await;
        (aim, overcome(&store.primary(aim).log()), busiest(world, &store, aim).await)
    };
    world
        .note(node.complaint(&format!("reads nothing more from Redis, and events on channels {channels:?} are large")));
    node.link.stall();
    channels.iter().for_each(|channel| world.ledger.pad(*channel, LARGE));
    let deadline = Instant::now() + TRIES;
    let killed = loop {
        sleep(LOOK).await;
        let killed = overcome(&world.store.lock().await.primary(aim).log()) > before;
        if killed || Instant::now() > deadline {
            break killed;
        }
    };
    channels.iter().for_each(|channel| world.ledger.pad(*channel, 0));
    node.link.pass();
    world.store.lock().await.primary(aim).cli(&["CONFIG", "SET", "client-output-buffer-limit", DEFAULT]).await;
    Ok(if killed { Ok(()) } else { Err("no connection left too much unread".to_owned()) })
}

fn overcome(log: &str) -> usize {
    log.matches(OVERCOME).count()
}

/// The channels of the primary that most nodes listen to, most first.
async fn busiest(world: &World, store: &Store, aim: Aim) -> Vec<usize> {
    let channels = world.partitions.channels(&store.hit(aim));
    // Those of a cluster are heard where their partition is.
    let command = if world.partitions.count() > 1 { "SHARDNUMSUB" } else { "NUMSUB" };
    let mut command = vec!["PUBSUB", command];
    command.extend(channels.iter().map(|(_, name)| name.as_str()));
    let answer = store.primary(aim).cli(&command).await;
    // A name and a number by turns.
    let counts = answer.lines().skip(1).step_by(2).map(|count| count.parse::<u32>().unwrap_or_default());
    let mut busy: Vec<(usize, u32)> = channels.iter().map(|(channel, _)| *channel).zip(counts).collect();
    busy.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    busy.truncate(LARGE_CHANNELS);
    busy.into_iter().map(|(channel, _)| channel).collect()
}
