//! What it costs to take a connection on, from accept to the head of the answer.

use crate::bench::{Bench, Figure, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::{Naive, Ours};

use super::Row;

pub(super) const ROW: Row = Row {
    name: "connect",
    what: "10,000 connections opened at 2,000/s, on one channel and on a channel each: server CPU per connection",
    seconds: (240, 45),
    measure: |bench| Box::pin(measure(bench)),
};

const CONNECTIONS: u32 = 10_000;
const CPU_PER_CONNECT: Figure =
    Figure { what: "server CPU per connection", unit: "µs", of: |report| report.number("/server/cpu_us_per_connect") };

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let mut measures = Vec::new();
    for (channels, of, bar) in [(1, "one channel", Bar::Ratio(0.6)), (CONNECTIONS, "a channel each", Bar::None)] {
        let load = Load::new("idle").flag("--connections", CONNECTIONS).flag("--channels", channels);
        let load = load.flag("--connect-rate", 2_000).seconds("--idle", 0).seconds("--duration", 1);
        let jobs = [Ours, Naive].map(|subject| Job::new(subject, &load));
        let rounds = if bar == Bar::None { bench.either(3, 1) } else { bench.either(5, 2) };
        let series = bench.interleaved(rounds, &jobs, CPU_PER_CONNECT).await?;
        let [ours, naive] = &series[..] else { return Err("a series is missing".to_owned()) };
        let mut measure = ours.beside(naive, CPU_PER_CONNECT)?.at_most(bar);
        measure.what = format!("{of}: {}", CPU_PER_CONNECT.what);
        measures.push(measure);
    }
    Ok(measures)
}
