//! Faults of one gateway's link to Redis. Those that set how the link works have it for themselves meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Outcome, between, wait};
use crate::node::Node;
use crate::publishing::channel_name;
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

pub(super) async fn output_buffer(world: &World, node: &Node) -> Outcome {
    let _alone = node.spoil.lock().await;
    let (before, channels) = {
        let store = world.store.lock().await;
        store.primary().cli(&["CONFIG", "SET", "client-output-buffer-limit", LITTLE]).await;
        (overcome(&store.primary().log()), busiest(world, store.primary()).await)
    };
    world
        .note(node.complaint(&format!("reads nothing more from Redis, and events on channels {channels:?} are large")));
    node.link.stall();
    channels.iter().for_each(|channel| world.ledger.pad(*channel, LARGE));
    let deadline = Instant::now() + TRIES;
    let killed = loop {
        sleep(LOOK).await;
        let killed = overcome(&world.store.lock().await.primary().log()) > before;
        if killed || Instant::now() > deadline {
            break killed;
        }
    };
    channels.iter().for_each(|channel| world.ledger.pad(*channel, 0));
    node.link.pass();
    world.store.lock().await.primary().cli(&["CONFIG", "SET", "client-output-buffer-limit", DEFAULT]).await;
    if killed { Ok(()) } else { Err("no connection left too much unread".to_owned()) }
}

fn overcome(log: &str) -> usize {
    log.matches(OVERCOME).count()
}

/// The channels that most nodes listen to, most first.
async fn busiest(world: &World, primary: &testkit::RedisServer) -> Vec<usize> {
    let mut channels: Vec<usize> = (0..world.ledger.channels()).collect();
    let names: Vec<String> = channels.iter().map(|channel| format!("sse:{}", channel_name(*channel))).collect();
    let mut command = vec!["PUBSUB", "NUMSUB"];
    command.extend(names.iter().map(String::as_str));
    let answer = primary.cli(&command).await;
    // A name and a number by turns.
    let counts: Vec<u32> = answer.lines().skip(1).step_by(2).map(|count| count.parse().unwrap_or_default()).collect();
    channels.sort_by_key(|channel| std::cmp::Reverse(counts.get(*channel).copied().unwrap_or_default()));
    channels.truncate(LARGE_CHANNELS);
    channels
}
