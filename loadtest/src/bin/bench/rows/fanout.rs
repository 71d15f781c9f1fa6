//! A million deliveries a second: more than one write for each would allow.

use crate::bench::{Bench, Figure, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure, median};
use crate::subject::Subject::{Naive, Ours};

use super::{CONNECT_RATE, CPU_PER_DELIVERY, Row};

pub(super) const ROW: Row = Row {
    name: "fanout",
    what: "1,000 connections on one channel, 1,000 events/s of 256 B: server CPU per delivery, and nothing lost by ours",
    seconds: (240, 45),
    measure: |bench| Box::pin(measure(bench)),
};

const LOST: Figure = Figure {
    what: "lost",
    unit: "%",
    of: |report| Ok(report.number("/deliveries/lost")? / report.number("/deliveries/expected")?.max(1.0) * 100.0),
};

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let load = Load::new("broadcast").flag("--connections", 1_000).flag("--connect-rate", CONNECT_RATE);
    let load = load.flag("--rate", 1_000).flag("--size", 256).seconds("--idle", 0);
    let load = load.seconds("--warmup", bench.either(2, 1)).seconds("--duration", bench.either(15, 5));
    let jobs = [Ours, Naive].map(|subject| Job::new(subject, &load));
    let series = bench.interleaved(bench.either(5, 3), &jobs, CPU_PER_DELIVERY).await?;
    let [ours, naive] = &series[..] else { return Err("a series is missing".to_owned()) };
    let lost = median(&naive.figures(LOST)?.values).unwrap_or_default();
    let measure = ours.beside(naive, CPU_PER_DELIVERY)?.at_most(Bar::Ratio(0.6));
    Ok(vec![measure.note(format!("naive lost {lost:.1} % of its deliveries (median)"))])
}
