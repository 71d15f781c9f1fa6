//! How each fault is done. Whoever does one undoes it too, as far as it can be undone, and says whether it took effect.

mod on_links;
mod on_redis;
mod on_slots;

use std::time::Duration;

use tokio::time::sleep;

use crate::fault::Fault;
use crate::node::Node;
use crate::world::World;

/// What became of a fault: it took effect, or why it did not.
pub type Outcome = Result<(), String>;

/// Does one.
///
/// # Errors
/// The harness itself failed. That the fault had no effect is no error, but the answer.
pub async fn inflict(fault: Fault, world: &World, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    world.note(format!("{fault} begins"));
    let node = &world.nodes[rng.usize(..world.nodes.len())];
    let outcome = match fault {
        Fault::GatewayKill => kill(world, node, rng).await?,
        Fault::GatewayTerm => terminate(world, node).await?,
        Fault::RestartDurable => on_redis::restart_durable(world, rng).await?,
        Fault::RestartEmpty => on_redis::restart_empty(world, rng).await?,
        Fault::FailoverLagging => on_redis::failover(world, rng, false).await?,
        Fault::FailoverBehind => on_redis::failover(world, rng, true).await?,
        Fault::FailoverAsked => on_redis::replace(world, rng).await?,
        Fault::PubsubKill => on_redis::kill_pubsub(world, rng).await?,
        Fault::RedisPause => on_redis::pause(world, rng).await?,
        Fault::ClockAhead => on_redis::clock_ahead(world, rng).await?,
        Fault::Flushall => on_redis::flush(world, rng).await?,
        Fault::OutputBuffer => on_links::output_buffer(world, node, rng).await?,
        Fault::Blackhole => on_links::blackhole(world, node, rng).await,
        Fault::Reset => on_links::reset(world, node, rng).await,
        Fault::Delay => on_links::delay(world, node, rng).await,
        Fault::Deaf => on_links::deafen(world, node).await,
        Fault::SlotMoved => on_slots::move_slowly(world, rng).await?,
        Fault::SlotsMoved => on_slots::move_some(world, rng).await?,
        Fault::PrimaryAdded => on_slots::add_primary(world, rng).await?,
    };
    match &outcome {
        Ok(()) => world.note(format!("{fault} is over")),
        Err(reason) => world.note(format!("{fault} had no effect: {reason}")),
    }
    Ok(outcome)
}

async fn kill(world: &World, node: &Node, rng: &mut fastrand::Rng) -> Result<Outcome, String> {
    world.note(node.complaint("is killed"));
    if let Some(wrong) = node.kill(between(rng, 100, 1_200)).await? {
        world.trouble(wrong);
    }
    Ok(Ok(()))
}

async fn terminate(world: &World, node: &Node) -> Result<Outcome, String> {
    world.note(node.complaint("is told to stop"));
    if let Some(wrong) = node.terminate().await? {
        world.trouble(wrong);
    }
    Ok(Ok(()))
}

/// Waits for a time between these, in milliseconds.
async fn wait(rng: &mut fastrand::Rng, least: u64, most: u64) {
    sleep(between(rng, least, most)).await;
}

fn between(rng: &mut fastrand::Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.u64(least..=most))
}
