//! Faults of Redis itself. Each holds the store while it changes it, so that two of them come one after the other. Where there are
//! several primaries, it is the one of some partition that has channels.

use std::time::Duration;

use tokio::sync::MutexGuard;

use super::{Outcome, between, wait};
use crate::store::{Aim, Store};
use crate::world::World;

/// How far a clock is wrong: beyond what any gateway takes for a small error.
const TWO_HOURS: Duration = Duration::from_secs(2 * 3_600);

/// A server that comes back has another replication id, so its data begin another life even though nothing is missing.
pub(super) async fn restart_durable(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (mut store, aim) = aimed(world, rng, false).await?;
    let (gentle, pause) = (rng.bool(), between(rng, 0, 1_500));
    // A replica may take its place meanwhile, which has not heard all of it.
    let (loses, hit) = (store.replaces_by_itself(), store.hit(aim));
    world.breaking(loses, hit, store.restart(aim, gentle, pause)).await;
    Ok(Ok(()))
}

pub(super) async fn restart_empty(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (mut store, aim) = aimed(world, rng, false).await?;
    let hit = store.hit(aim);
    world.breaking(true, hit, store.restart_empty(aim, between(rng, 0, 1_500))).await?;
    Ok(Ok(()))
}

/// The replica stops hearing its primary, whose clocks jump ahead where the replica's are to be behind; much is published
/// and heard that only the primary knows; then it dies.
pub(super) async fn failover(world: &World, rng: &mut fastrand::Rng, behind: bool) -> Result<Outcome, String> {
    let (mut store, aim) = aimed(world, rng, true).await?;
    let hit = store.hit(aim);
    store.lag(aim).await;
    if behind {
        for partition in world.partitions.used().into_iter().filter(|partition| hit.contains(partition)) {
            store.move_clock(aim, &world.partitions.clock(partition), TWO_HOURS).await;
        }
    }
    world.note("the replica hears nothing more");
    wait(rng, 600, 1_500).await;
    let lacked = world
        .breaking(true, hit, async {
            let lacked = store.promote(aim).await?;
            world.follow(&store);
            Ok::<_, String>(lacked)
        })
        .await?;
    Ok(if lacked { Ok(()) } else { Err("the replica had heard everything".to_owned()) })
}

/// The nodes of a cluster wait until the replica has heard everything; Sentinels do not.
pub(super) async fn replace(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (mut store, aim) = aimed(world, rng, true).await?;
    let (loses, hit) = (store.cluster().is_none(), store.hit(aim));
    world.breaking(loses, hit, store.replace(aim)).await?;
    Ok(Ok(()))
}

pub(super) async fn kill_pubsub(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (store, aim) = aimed(world, rng, false).await?;
    let killed = store.primary(aim).cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    Ok(if killed == "0" { Err("there was no Pub/Sub connection".to_owned()) } else { Ok(()) })
}

pub(super) async fn pause(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (mut store, aim) = aimed(world, rng, false).await?;
    let (replaced, hit) = (store.replaces_by_itself(), store.hit(aim));
    let pause = store.pause(aim, between(rng, 800, 3_500));
    if replaced {
        world.breaking(true, hit, pause).await;
    } else {
        pause.await;
    }
    Ok(Ok(()))
}

/// As it is after the machine's clock was set back by two hours: positions never go back.
pub(super) async fn clock_ahead(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (store, aim) = aimed(world, rng, false).await?;
    store.move_clock(aim, &world.partitions.clock(aim.0), TWO_HOURS).await;
    Ok(Ok(()))
}

pub(super) async fn flush(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let (store, aim) = aimed(world, rng, false).await?;
    let answer = world.breaking(true, store.hit(aim), store.primary(aim).cli(&["FLUSHALL"])).await;
    Ok(if answer == "OK" { Ok(()) } else { Err(answer) })
}

/// The store, and whose primary it is to be.
async fn aimed<'a>(
    world: &'a World,
    rng: &mut fastrand::Rng,
    replaceable: bool,
) -> Result<(MutexGuard<'a, Store>, Aim), String> {
    let store = world.store.lock().await;
    let aim = store.aim(rng, replaceable)?;
    if world.partitions.count() > 1 {
        world.note(format!("it is the primary of partitions {:?}, port {}", store.hit(aim), store.primary(aim).port()));
    }
    Ok((store, aim))
}
