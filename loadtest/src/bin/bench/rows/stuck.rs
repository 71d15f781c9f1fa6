//! Readers that read nothing are nobody else's business.

use crate::bench::{Bench, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::Ours;

use super::{CONNECT_RATE, P99, Row};

pub(super) const ROW: Row = Row {
    name: "stuck",
    what: "2,000 connections, 20 events/s of 4 KiB, a tenth of the readers stuck: p99 of the others, against none stuck",
    seconds: (270, 55),
    measure: |bench| Box::pin(measure(bench)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    // Large events, or the sockets of those who are stuck would not be full within the time.
    let load = |scenario| {
        let load = Load::new(scenario).flag("--connections", 2_000).flag("--channels", 1);
        let load = load.flag("--connect-rate", CONNECT_RATE).flag("--rate", 20).flag("--size", 4_096);
        load.seconds("--idle", 0).seconds("--warmup", bench.either(5, 3)).seconds("--duration", bench.either(15, 10))
    };
    let stuck = Job { label: "a tenth stuck".to_owned(), ..Job::new(Ours, &load("slow").flag("--share", 0.1)) };
    let none = Job { label: "none stuck".to_owned(), ..Job::new(Ours, &load("broadcast")) };
    let series = bench.interleaved(bench.either(5, 2), &[stuck, none], P99).await?;
    let [stuck, none] = &series[..] else { return Err("a series is missing".to_owned()) };
    Ok(vec![stuck.beside(none, P99)?.at_most(Bar::Ratio(1.5))])
}
