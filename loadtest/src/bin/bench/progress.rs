//! What is said while it runs: which row, which run of it, the figure, and about how long the rest takes.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Duration;

use tokio::time::Instant;

/// Told by the runner and by the rows, of one task.
#[derive(Debug)]
pub(crate) struct Progress {
    /// How many rows there are.
    rows: usize,
    /// What all rows that have not begun take, as the table of rows has it.
    after: Cell<Duration>,
    /// What the present one takes.
    takes: Cell<Duration>,
    began: Cell<Instant>,
    row: Cell<(usize, &'static str)>,
}

impl Progress {
    /// `all`: what all rows take.
    pub(crate) fn new(rows: usize, all: Duration) -> Self {
        let (takes, began) = (Cell::new(Duration::ZERO), Cell::new(Instant::now()));
        Self { rows, after: Cell::new(all), takes, began, row: Cell::new((0, "")) }
    }

    /// The next row begins.
    pub(crate) fn row(&self, name: &'static str, takes: Duration) {
        self.row.set((self.row.get().0 + 1, name));
        self.after.set(self.after.get().saturating_sub(takes));
        self.takes.set(takes);
        self.began.set(Instant::now());
    }

    /// Something of the present row is done.
    pub(crate) fn step(&self, what: &str) {
        let (number, name) = self.row.get();
        let left = self.takes.get().saturating_sub(self.began.get().elapsed()) + self.after.get();
        say(&format!("[{number}/{} {name}] {what}; about {} left", self.rows, minutes(left)));
    }
}

/// A line for whoever watches. Nobody there to read it is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// As people say it: 40 s, 12 min.
fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(minutes(Duration::from_millis(89_900)), "89 s");
        assert_eq!(minutes(Duration::from_secs(90)), "2 min");
        assert_eq!(minutes(Duration::from_secs(601)), "11 min");
    }
}
