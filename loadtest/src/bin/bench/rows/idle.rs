//! Connections on which nothing happens but keep-alives.

use crate::bench::{Bench, Figure, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::{Naive, Ours};

use super::{CONNECT_RATE, Row};

pub(super) const ROW: Row = Row {
    name: "idle",
    what: "15,000 idle connections, a keep-alive each 20 s: CPU, of one core",
    seconds: (270, 60),
    measure: |bench| Box::pin(measure(bench)),
};

const CPU: Figure = Figure { what: "CPU", unit: "%", of: |report| report.number("/server/idle_cpu_percent") };

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    // At least one keep-alive of every connection.
    let load = Load::new("idle").flag("--connections", 15_000).flag("--channels", 1);
    let load =
        load.flag("--connect-rate", CONNECT_RATE).seconds("--idle", 2).seconds("--duration", bench.either(60, 25));
    let jobs = [Ours, Naive].map(|subject| Job::new(subject, &load));
    let series = bench.interleaved(bench.either(2, 1), &jobs, CPU).await?;
    let [ours, naive] = &series[..] else { return Err("a series is missing".to_owned()) };
    let measure = ours.beside(naive, CPU)?.at_most(Bar::Absolute(1.0));
    Ok(vec![measure.note("naive speaks every 15 s, as axum's Sse does by default".to_owned())])
}
