//! Resident memory of connections on which nothing happens, the state of their channels included. What the kernel holds for
//! their sockets is the same whoever opens them, and not in it.

use crate::bench::{Bench, Figure, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::{Naive, Ours};

use super::{CONNECT_RATE, Row};

pub(super) const ROW: Row = Row {
    name: "memory",
    what: "15,000 idle connections, on one channel and on a channel each: resident memory per connection",
    seconds: (200, 35),
    measure: |bench| Box::pin(measure(bench)),
};

const CONNECTIONS: u32 = 15_000;
const GROWTH: Figure =
    Figure { what: "growth per connection", unit: "KiB", of: |report| report.number("/server/rss_kib_per_connection") };
const WHOLE: Figure = Figure {
    what: "whole process per connection",
    unit: "KiB",
    of: |report| Ok(report.number("/server/rss_open_kib")? / report.number("/connections/opened")?.max(1.0)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let mut measures = Vec::new();
    // KiB of a connection, and of one together with a channel of its own.
    for (channels, of, limit) in [(1, "one channel", 1.0), (CONNECTIONS, "a channel each", 2.0)] {
        let load = Load::new("idle").flag("--connections", CONNECTIONS).flag("--channels", channels);
        let load =
            load.flag("--connect-rate", CONNECT_RATE).seconds("--idle", bench.either(5, 3)).seconds("--duration", 1);
        let jobs = [Ours, Naive].map(|subject| Job::new(subject, &load));
        let series = bench.interleaved(bench.either(3, 1), &jobs, GROWTH).await?;
        let [ours, naive] = &series[..] else { return Err("a series is missing".to_owned()) };
        for figure in [GROWTH, WHOLE] {
            let mut measure = ours.beside(naive, figure)?.at_most(Bar::Absolute(limit));
            measure.what = format!("{of}: {}", figure.what);
            measures.push(measure);
        }
    }
    Ok(measures)
}
