//! Many connections on one channel: what one delivery costs, beside the least that it can cost.

use crate::bench::{Bench, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure, median};
use crate::subject::Subject::{Floor, Ours, OursDurable};

use super::{CONNECT_RATE, CPU_PER_DELIVERY, P99, Row};

pub(super) const ROW: Row = Row {
    name: "broadcast",
    what: "5,000 connections on one channel, 20 events/s of 256 B: server CPU per delivery",
    seconds: (330, 75),
    measure: |bench| Box::pin(measure(bench)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let load = Load::new("broadcast").flag("--connections", 5_000).flag("--connect-rate", CONNECT_RATE);
    let load = load.flag("--rate", 20).flag("--size", 256).seconds("--idle", 0);
    let load = load.seconds("--warmup", bench.either(2, 1)).seconds("--duration", bench.either(15, 5));
    let jobs = [Ours, Floor, OursDurable].map(|subject| Job::new(subject, &load));
    let series = bench.interleaved(bench.either(5, 3), &jobs, CPU_PER_DELIVERY).await?;
    let [ours, floor, durable] = &series[..] else { return Err("a series is missing".to_owned()) };
    let p99 = median(&ours.figures(P99)?.values).unwrap_or_default();
    let together =
        format!("p99 latency of ours {p99:.1} ms; above 50, events were written together, which the floor never does");
    Ok(vec![
        ours.beside(floor, CPU_PER_DELIVERY)?.at_most(Bar::Ratio(1.15)).note(together),
        durable
            .beside(floor, CPU_PER_DELIVERY)?
            .note("durable: with positions and ids, which the floor has none of".to_owned()),
    ])
}
