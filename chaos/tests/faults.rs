//! One short round of each fault against the gateway as it is: nothing lost, repeated or out of order, no gap without a
//! reason, and the fault did what it is for.

#![cfg(test)]

use std::path::Path;

use chaos::fault::Fault;
use chaos::lanes::Lanes;
use chaos::plan::{Plan, Scale};
use chaos::round::{Report, Setting, run};
use chaos::store::Redis;

/// Any will do; this one stays, so that a round that fails can be had again.
const SEED: u64 = 42;

async fn round_of(faults: &[Fault]) -> Report {
    round_on(Redis::Single, faults).await
}

async fn round_on(redis: Redis, faults: &[Fault]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let scale = Scale::small();
    let plan = Plan::draw(SEED, faults, Some(faults.len()), &scale);
    let gateway = testkit::binary("gateway", "sse-gateway");
    let report = run(
        &Setting { gateway, redis, scale, direct: Lanes::Mixed.direct(1), folder: folder.path().to_owned() },
        &plan,
    )
    .await
    .unwrap();
    let (told, timeline) = (report.wrongs.join("\n"), read(folder.path(), "timeline.txt"));
    assert!(report.wrongs.is_empty() && report.tally.passed(), "{told}\n\n{timeline}");
    assert_eq!(report.idle, [], "{timeline}");
    let tally = &report.tally;
    assert!(tally.events > 6 && tally.deliveries > 12, "somebody has to have heard something: {tally:?}");
    report
}

fn read(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap_or_default()
}

/// A round of a fault by which no gap is right.
async fn unharmed_by(fault: Fault) {
    let report = round_of(&[fault]).await;
    assert_eq!(report.tally.gaps, 0);
}

/// A round of a fault after which clients have to be told.
async fn told_of(fault: Fault) {
    let report = round_of(&[fault]).await;
    assert!(report.tally.gaps > 0, "the data began another life: {:?}", report.tally);
}

#[tokio::test]
async fn no_fault_at_all() {
    let report = round_of(&[]).await;
    assert_eq!(report.tally.gaps, 0);
}

#[tokio::test]
async fn a_gateway_is_killed() {
    unharmed_by(Fault::GatewayKill).await;
}

#[tokio::test]
async fn a_gateway_stops() {
    unharmed_by(Fault::GatewayTerm).await;
}

#[tokio::test]
async fn redis_is_restarted_with_everything() {
    told_of(Fault::RestartDurable).await;
}

#[tokio::test]
async fn redis_is_restarted_empty() {
    told_of(Fault::RestartEmpty).await;
}

#[tokio::test]
async fn a_replica_that_lagged_takes_over() {
    told_of(Fault::FailoverLagging).await;
}

#[tokio::test]
async fn a_replica_whose_clock_is_behind_takes_over() {
    told_of(Fault::FailoverBehind).await;
}

#[tokio::test]
async fn pubsub_connections_are_killed() {
    unharmed_by(Fault::PubsubKill).await;
}

#[tokio::test]
async fn redis_stands_still() {
    unharmed_by(Fault::RedisPause).await;
}

#[tokio::test]
async fn a_gateway_does_not_read() {
    unharmed_by(Fault::OutputBuffer).await;
}

#[tokio::test]
async fn a_link_swallows_everything() {
    unharmed_by(Fault::Blackhole).await;
}

#[tokio::test]
async fn a_link_is_reset() {
    unharmed_by(Fault::Reset).await;
}

#[tokio::test]
async fn a_link_is_slow() {
    unharmed_by(Fault::Delay).await;
}

#[tokio::test]
async fn the_clock_is_two_hours_ahead() {
    unharmed_by(Fault::ClockAhead).await;
}

#[tokio::test]
async fn everything_is_flushed() {
    told_of(Fault::Flushall).await;
}

/// Takes as long as a gateway may take to find out.
#[tokio::test]
async fn a_subscriber_goes_deaf() {
    unharmed_by(Fault::Deaf).await;
}

/// Sentinels see to it that there is a primary, and each process goes where they lead.
#[tokio::test]
async fn a_replica_that_lagged_takes_over_as_sentinels_have_it() {
    let report = round_on(Redis::Sentinel, &[Fault::FailoverLagging]).await;
    assert!(report.tally.gaps > 0, "the data began another life: {:?}", report.tally);
}

#[tokio::test]
async fn a_primary_that_is_well_is_replaced() {
    let report = round_on(Redis::Sentinel, &[Fault::FailoverAsked]).await;
    assert!(report.tally.gaps > 0, "the data began another life: {:?}", report.tally);
}

/// The channels of one primary are told, and no others; its replica takes over with the clocks of all of its partitions.
#[tokio::test]
async fn a_replica_that_lagged_takes_over_in_a_cluster() {
    let report = round_on(Redis::Cluster, &[Fault::FailoverLagging]).await;
    assert!(report.tally.gaps > 0, "the data began another life: {:?}", report.tally);
}

/// A slot moves step by step, and others go to a primary that had none.
#[tokio::test]
async fn slots_go_to_other_primaries() {
    let report = round_on(Redis::Cluster, &[Fault::SlotMoved, Fault::PrimaryAdded]).await;
    assert!(report.tally.gaps > 0, "the data began another life: {:?}", report.tally);
}
