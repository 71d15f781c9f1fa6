//! A channel for each connection: what one delivery costs when nothing is shared.

use crate::bench::{Bench, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::{Naive, Ours};

use super::{CONNECT_RATE, CPU_PER_DELIVERY, Row};

pub(super) const ROW: Row = Row {
    name: "unicast",
    what: "5,000 connections, each on a channel of its own, 5,000 events/s in all: server CPU per delivery",
    seconds: (240, 50),
    measure: |bench| Box::pin(measure(bench)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let load = Load::new("unicast").flag("--connections", 5_000).flag("--connect-rate", CONNECT_RATE);
    let load = load.flag("--rate", 5_000).flag("--size", 256).seconds("--idle", 0);
    let load = load.seconds("--warmup", bench.either(2, 1)).seconds("--duration", bench.either(15, 5));
    let jobs = [Ours, Naive].map(|subject| Job::new(subject, &load));
    let series = bench.interleaved(bench.either(5, 3), &jobs, CPU_PER_DELIVERY).await?;
    let [ours, naive] = &series[..] else { return Err("a series is missing".to_owned()) };
    Ok(vec![ours.beside(naive, CPU_PER_DELIVERY)?.at_most(Bar::Ratio(0.5))])
}
