//! Slots of a Redis Cluster that go to other primaries, with their keys. Nothing is lost by that, but the data of a partition begin
//! another life on another server, and those of no other partition do.

use super::{Outcome, between};
use crate::store::Aim;
use crate::world::World;

/// Most slots that move in a row.
const MOST: usize = 4;

/// A few keys at a time: meanwhile a part of what events need is here, and a part there.
pub(super) async fn move_slowly(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let mut store = world.store.lock().await;
    let aim = store.aim(rng, false)?;
    let cluster = store.cluster().ok_or("there is no cluster")?;
    let Some(to) = cluster.elsewhere(aim, rng) else { return Ok(Err("there is one primary".to_owned())) };
    world.note(format!("the slot of partition {} moves to server {}", aim.0, to + 1));
    let pause = between(rng, 0, 150);
    world.breaking(false, vec![aim.0], cluster.move_slot(aim, to, Some(pause))).await;
    Ok(Ok(()))
}

/// To wherever it is, for each of them.
pub(super) async fn move_some(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let mut store = world.store.lock().await;
    for aim in some(world, rng, 2) {
        let cluster = store.cluster().ok_or("there is no cluster")?;
        let Some(to) = cluster.elsewhere(aim, rng) else { return Ok(Err("there is one primary".to_owned())) };
        world.note(format!("the slot of partition {} moves to server {}", aim.0, to + 1));
        world.breaking(false, vec![aim.0], cluster.move_slot(aim, to, None)).await;
    }
    Ok(Ok(()))
}

/// To a primary that never had a channel, and so nothing of what we keep in a server.
pub(super) async fn add_primary(world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    let mut store = world.store.lock().await;
    let cluster = store.cluster().ok_or("there is no cluster")?;
    let Some(to) = cluster.spare() else { return Ok(Err("no primary is without slots".to_owned())) };
    for aim in some(world, rng, 1) {
        world.note(format!("the slot of partition {} moves to server {}, which was added", aim.0, to + 1));
        world.breaking(false, vec![aim.0], cluster.move_slot(aim, to, None)).await;
    }
    Ok(Ok(()))
}

/// At least so many partitions that have channels, each once.
fn some(world: &World, rng: &mut fastrand::Rng, least: usize) -> Vec<Aim> {
    let mut used = world.partitions.used();
    rng.shuffle(&mut used);
    used.truncate(rng.usize(least..=MOST));
    used.into_iter().map(Aim).collect()
}
