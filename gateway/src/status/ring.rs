//! The last ten minutes, a point every five seconds: what a page that opens shows of the time before it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

/// Between two points.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Points that are kept: ten minutes.
pub(super) const POINTS: usize = 120;

/// What there was within one step, or at its end. What nobody knows is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Point {
    /// Open connections of this node.
    pub(super) own: Option<u64>,
    /// Of all nodes.
    pub(super) all: Option<u64>,
    /// Events a second that came from the broker.
    pub(super) received: Option<f64>,
    /// Events a second that were written to streams.
    pub(super) delivered: Option<f64>,
    /// From publish to socket, milliseconds; `None` also where nothing was measured.
    pub(super) p50: Option<f64>,
    /// The same, for 99 of 100.
    pub(super) p99: Option<f64>,
}

/// Bounded by [`POINTS`]. Written by `gather` alone.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<Point>);

/// Its columns, the oldest first.
#[derive(Debug, Serialize)]
pub(super) struct Columns {
    /// Seconds between two points.
    step: u64,
    own: Vec<Option<u64>>,
    all: Vec<Option<u64>>,
    received: Vec<Option<f64>>,
    delivered: Vec<Option<f64>>,
    p50: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
}

impl Ring {
    /// One more point, behind `missed` steps of which nothing is known, as when the machine slept.
    pub(super) fn push(&mut self, missed: usize, point: Point) {
        for _ in 0..missed.min(POINTS) {
            self.add(Point::default());
        }
        self.add(point);
    }

    fn add(&mut self, point: Point) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    pub(super) fn columns(&self) -> Columns {
        Columns {
            step: STEP.as_secs(),
            own: self.column(|point| point.own),
            all: self.column(|point| point.all),
            received: self.column(|point| point.received.map(tenths)),
            delivered: self.column(|point| point.delivered.map(tenths)),
            p50: self.column(|point| point.p50.map(tenths)),
            p99: self.column(|point| point.p99.map(tenths)),
        }
    }

    fn column<T>(&self, of: impl Fn(&Point) -> Option<T>) -> Vec<Option<T>> {
        self.0.iter().map(of).collect()
    }
}

/// As exact as anybody sees, and short.
pub(super) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(own: u64) -> Point {
        Point { own: Some(own), ..Point::default() }
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut ring = Ring::default();
        for own in 0..POINTS as u64 + 3 {
            ring.push(0, point(own));
        }
        let own = ring.columns().own;
        assert_eq!((own.len(), own[0], own[POINTS - 1]), (POINTS, Some(3), Some(POINTS as u64 + 2)));
    }

    #[test]
    fn steps_that_were_missed_are_holes() {
        let mut ring = Ring::default();
        ring.push(0, point(1));
        ring.push(2, point(2));
        assert_eq!(ring.columns().own, [Some(1), None, None, Some(2)]);
        ring.push(1_000_000, point(3));
        let own = ring.columns().own;
        assert_eq!((own.len(), own[POINTS - 2], own[POINTS - 1]), (POINTS, None, Some(3)));
    }

    #[test]
    fn columns_are_short() {
        let mut ring = Ring::default();
        let point = Point { received: Some(1.0 / 3.0), p50: Some(0.349), p99: None, ..point(7) };
        ring.push(0, point);
        let text = serde_json::to_string(&ring.columns()).unwrap();
        let expected =
            r#"{"step":5,"own":[7],"all":[null],"received":[0.3],"delivered":[null],"p50":[0.3],"p99":[null]}"#;
        assert_eq!(text, expected);
    }
}
