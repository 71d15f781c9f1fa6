//! Memory comes back when connections go.

use crate::bench::{Bench, Figure, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::Ours;

use super::{CONNECT_RATE, Row};

pub(super) const ROW: Row = Row {
    name: "churn",
    what: "15,000 connections opened and closed, five times: resident memory 30 s later, against before",
    seconds: (200, 60),
    measure: |bench| Box::pin(measure(bench)),
};

const SETTLED: Figure = Figure {
    what: "resident memory afterwards",
    unit: "MiB",
    of: |report| Ok(report.number("/churn/rss_settled_kib")? / 1024.0),
};
const BEFORE: Figure =
    Figure { what: "before", unit: "MiB", of: |report| Ok(report.number("/server/rss_before_kib")? / 1024.0) };

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let load = Load::new("churn").flag("--connections", 15_000).flag("--channels", 1).flag("--rounds", 5);
    let job = Job::new(Ours, &load.flag("--connect-rate", CONNECT_RATE));
    let series = bench.interleaved(bench.either(3, 1), &[job], SETTLED).await?;
    let [ours] = &series[..] else { return Err("a series is missing".to_owned()) };
    let mut before = ours.figures(BEFORE)?;
    before.name = "before".to_owned();
    let measure = Measure::new(SETTLED.what, SETTLED.unit, ours.figures(SETTLED)?).beside(before);
    Ok(vec![measure.wrong(ours.wrong()).at_most(Bar::Ratio(1.2))])
}
