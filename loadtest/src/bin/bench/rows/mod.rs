//! The table: a row a file. Adding one is a file here and its line in [`ROWS`].

mod broadcast;
mod churn;
mod connect;
mod fanout;
mod idle;
mod latency;
mod memory;
mod publish;
mod slowloris;
mod storm;
mod stuck;
mod unicast;

use futures_util::future::LocalBoxFuture;

use crate::bench::{Bench, Figure};
use crate::measure::Measure;

/// Something that is measured.
pub(crate) struct Row {
    /// By which `--rows` asks for it.
    pub(crate) name: &'static str,
    /// A sentence: under what load, what figure, against whom.
    pub(crate) what: &'static str,
    /// About how long it takes, in seconds: all of it, and quick.
    pub(crate) seconds: (u64, u64),
    pub(crate) measure: Measuring,
}

type Measuring = for<'a> fn(&'a Bench) -> LocalBoxFuture<'a, Result<Vec<Measure>, String>>;

/// In the order in which they are measured and reported.
pub(crate) const ROWS: [&Row; 12] = [
    &broadcast::ROW,
    &unicast::ROW,
    &fanout::ROW,
    &memory::ROW,
    &connect::ROW,
    &idle::ROW,
    &latency::ROW,
    &stuck::ROW,
    &slowloris::ROW,
    &churn::ROW,
    &storm::ROW,
    &publish::ROW,
];

/// New connections a second where the figure is not about opening them. Two cores that client and server share take on so
/// many; the queue of those to be accepted overflows with more, and who is dropped there waits seconds before it tries again.
const CONNECT_RATE: u32 = 3_000;

const CPU_PER_DELIVERY: Figure =
    Figure { what: "server CPU per delivery", unit: "µs", of: |report| report.number("/server/cpu_us_per_delivery") };
const P99: Figure = Figure { what: "p99 latency", unit: "ms", of: |report| report.number("/latency_ms/p99") };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_quick_is_quicker() {
        for (place, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..place].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!(row.seconds.1 <= row.seconds.0, "{}", row.name);
            assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase()), "{}", row.name);
        }
        let quick: u64 = ROWS.iter().map(|row| row.seconds.1).sum();
        assert!(quick < 600, "a quick run is to take less than ten minutes, not {quick} s");
    }
}
