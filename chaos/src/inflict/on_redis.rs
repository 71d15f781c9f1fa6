//! Faults of Redis itself. Each holds the store while it changes it, so that two of them come one after the other.

use std::time::Duration;

use super::{Outcome, between, wait};
use crate::world::World;

/// How far a clock is wrong: beyond what any gateway takes for a small error.
const TWO_HOURS: Duration = Duration::from_secs(2 * 3_600);

/// A server that comes back has another replication id, so its data begin another life even though nothing is missing.
pub(super) async fn restart_durable(world: &World, rng: &mut fastrand::Rng) -> Outcome {
    let mut store = world.store.lock().await;
    let (gentle, pause) = (rng.bool(), between(rng, 0, 1_500));
    // A replica may take its place meanwhile, which has not heard all of it.
    let loses = store.sentinels().is_some();
    world.breaking(loses, store.restart(gentle, pause)).await;
    Ok(())
}

pub(super) async fn restart_empty(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let mut store = world.store.lock().await;
    world.breaking(true, store.restart_empty(between(rng, 0, 1_500))).await?;
    Ok(Ok(()))
}

/// The replica stops hearing its primary, whose clock jumps ahead where the replica's is to be behind; much is published
/// and heard that only the primary knows; then it dies.
pub(super) async fn failover(world: &World, rng: &mut fastrand::Rng, behind: bool) -> Result<Outcome, String> {
    let mut store = world.store.lock().await;
    store.lag().await;
    if behind {
        store.move_clock(TWO_HOURS).await;
    }
    world.note("the replica hears nothing more");
    wait(rng, 600, 1_500).await;
    let lacked = world
        .breaking(true, async {
            let lacked = store.promote().await?;
            world.follow(&store);
            Ok::<_, String>(lacked)
        })
        .await?;
    Ok(if lacked { Ok(()) } else { Err("the replica had heard everything".to_owned()) })
}

pub(super) async fn replace(world: &World) -> Result<Outcome, String> {
    let mut store = world.store.lock().await;
    world.breaking(true, store.replace()).await?;
    Ok(Ok(()))
}

pub(super) async fn kill_pubsub(world: &World) -> Outcome {
    let store = world.store.lock().await;
    let killed = store.primary().cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    if killed == "0" { Err("there was no Pub/Sub connection".to_owned()) } else { Ok(()) }
}

pub(super) async fn pause(world: &World, rng: &mut fastrand::Rng) -> Outcome {
    let mut store = world.store.lock().await;
    let pause = store.pause(between(rng, 800, 3_500));
    // Sentinels may put another one in its place.
    if world.is_watched {
        world.breaking(true, pause).await;
    } else {
        pause.await;
    }
    Ok(())
}

/// As it is after the machine's clock was set back by two hours: positions never go back.
pub(super) async fn clock_ahead(world: &World) -> Outcome {
    let store = world.store.lock().await;
    store.move_clock(TWO_HOURS).await;
    Ok(())
}

pub(super) async fn flush(world: &World) -> Outcome {
    let store = world.store.lock().await;
    let answer = world.breaking(true, store.primary().cli(&["FLUSHALL"])).await;
    if answer == "OK" { Ok(()) } else { Err(answer) }
}
