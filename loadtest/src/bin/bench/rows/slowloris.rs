//! Connections that never say what they want are nobody else's business.

use crate::bench::{Bench, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::Ours;

use super::{CONNECT_RATE, P99, Row};

/// A byte of each every 5 s. The head's deadline, 75 s, is further away than the end of a run.
const SLOW: usize = 5_000;

pub(super) const ROW: Row = Row {
    name: "slowloris",
    what: "2,000 connections, 20 events/s, beside 5,000 that send a byte of their head every 5 s: p99, against none of those",
    seconds: (290, 35),
    measure: |bench| Box::pin(measure(bench)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let load = Load::new("broadcast").flag("--connections", 2_000).flag("--channels", 1);
    let load = load.flag("--connect-rate", CONNECT_RATE).flag("--rate", 20).seconds("--idle", 0);
    let load = load.seconds("--warmup", bench.either(5, 2)).seconds("--duration", bench.either(15, 5));
    let none = Job { label: "none slow".to_owned(), ..Job::new(Ours, &load) };
    let slow = Job { label: "beside 5,000 slow".to_owned(), slow_heads: SLOW, ..none.clone() };
    let series = bench.interleaved(bench.either(5, 2), &[slow, none], P99).await?;
    let [slow, none] = &series[..] else { return Err("a series is missing".to_owned()) };
    Ok(vec![slow.beside(none, P99)?.at_most(Bar::Ratio(1.5))])
}
