//! How late events are, at half the rate at which the naive server begins to lose them.

use crate::bench::{Bench, Job};
use crate::load::Load;
use crate::measure::{Bar, Measure};
use crate::subject::Subject::{Naive, Ours};

use super::{CONNECT_RATE, P99, Row};

pub(super) const ROW: Row = Row {
    name: "latency",
    what: "1,000 connections on one channel, at half the rate at which naive begins to lose: p99 from publish to read",
    seconds: (360, 75),
    measure: |bench| Box::pin(measure(bench)),
};

/// Events a second, at which nobody loses anything; and above which there is no server to be expected.
const RATES: (u32, u32) = (100, 12_800);

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let loses = first_loss(bench).await?;
    let rate = loses.unwrap_or(RATES.1) / 2;
    let load = load(bench.either(2, 1), bench.either(15, 6)).flag("--rate", rate);
    let jobs = [Ours, Naive].map(|subject| Job::new(subject, &load));
    let series = bench.interleaved(bench.either(5, 2), &jobs, P99).await?;
    let [ours, naive] = &series[..] else { return Err("a series is missing".to_owned()) };
    let found = match loses {
        Some(loses) => format!("naive begins to lose at about {loses} events/s; measured at {rate}"),
        None => format!("naive lost nothing up to {} events/s; measured at half of that", RATES.1),
    };
    Ok(vec![ours.beside(naive, P99)?.at_most(Bar::Ratio(0.5)).note(found)])
}

fn load(warmup: u64, duration: u64) -> Load {
    let load = Load::new("broadcast").flag("--connections", 1_000).flag("--connect-rate", CONNECT_RATE);
    load.flag("--size", 256).seconds("--idle", 0).seconds("--warmup", warmup).seconds("--duration", duration)
}

/// The rate at which the naive server begins to lose, by doubling, then by halving what is between. None: it never does.
async fn first_loss(bench: &Bench) -> Result<Option<u32>, String> {
    let mut search = Search::new(RATES, bench.either(4, 2));
    while let Some(rate) = search.next() {
        let load = load(0, bench.either(8, 4)).flag("--rate", rate);
        let report = bench.run(&Job { label: format!("naive at {rate}/s"), ..Job::new(Naive, &load) }).await?;
        let lost = report.number("/deliveries/lost")?;
        bench.progress.step(&format!("naive at {rate} events/s lost {lost}"));
        search.learn(rate, lost > 0.0);
    }
    Ok(search.loses)
}

/// Looks for the least rate at which something happens: doubles until it does, then cuts what is between in halves.
#[derive(Debug)]
struct Search {
    /// The highest rate known to be fine; none before the first.
    keeps: Option<u32>,
    /// The lowest rate known to lose.
    loses: Option<u32>,
    least: u32,
    most: u32,
    /// How often the range may still be cut.
    cuts: u32,
}

impl Search {
    fn new((least, most): (u32, u32), cuts: u32) -> Self {
        Self { keeps: None, loses: None, least, most, cuts }
    }

    /// What to try next; nothing when it is known well enough.
    fn next(&mut self) -> Option<u32> {
        match (self.keeps, self.loses) {
            (None, None) => Some(self.least),
            (Some(keeps), None) => keeps.checked_mul(2).filter(|rate| *rate <= self.most),
            (_, Some(loses)) => {
                let keeps = self.keeps.unwrap_or(0);
                self.cuts = self.cuts.checked_sub(1)?;
                let middle = keeps.midpoint(loses);
                (middle > keeps).then_some(middle)
            }
        }
    }

    fn learn(&mut self, rate: u32, lost: bool) {
        let known = if lost { &mut self.loses } else { &mut self.keeps };
        *known = Some(rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(limit: u32, cuts: u32) -> (Vec<u32>, Option<u32>) {
        let (mut search, mut tried) = (Search::new((100, 800), cuts), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.learn(rate, rate >= limit);
        }
        (tried, search.loses)
    }

    #[test]
    fn the_first_loss_is_found_by_doubling_and_halving() {
        assert_eq!(tried(330, 3), (vec![100, 200, 400, 300, 350, 325], Some(350)));
        assert_eq!(tried(330, 0), (vec![100, 200, 400], Some(400)));
    }

    #[test]
    fn it_ends_where_nothing_is_ever_lost_or_everything_always() {
        assert_eq!(tried(1_000, 3), (vec![100, 200, 400, 800], None));
        assert_eq!(tried(0, 40).1, Some(1));
    }
}
