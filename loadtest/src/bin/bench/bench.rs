//! What rows are measured with: fresh servers for every run, the load generator, and runs interleaved in pairs.

use std::cell::RefCell;

use serde::Serialize;
use serde_json::Value;

use crate::load::{Load, Report};
use crate::measure::{Figures, Measure};
use crate::pairs::interleaved;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::server::{Server, redis};
use crate::slow_heads::SlowHeads;
use crate::subject::{Place, Subject};

/// Handed to every row.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) quick: bool,
    pub(crate) progress: Progress,
    /// Every run of the present row: rows add to it, the runner takes it when the row is done.
    runs: RefCell<Vec<Run>>,
}

/// One run of the load generator, as it goes into the raw figures.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    label: String,
    /// How anybody has the same again, but for ports and process ids.
    pub(crate) by_hand: Vec<String>,
    report: Value,
}

/// A figure of a report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) of: fn(&Report) -> Result<f64, String>,
}

/// Somebody under some load.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) label: String,
    pub(crate) subject: Subject,
    pub(crate) load: Load,
    /// Connections beside it that never come to the end of a head.
    pub(crate) slow_heads: usize,
}

impl Job {
    /// Labelled by its subject.
    pub(crate) fn new(subject: Subject, load: &Load) -> Self {
        Self { label: subject.name().to_owned(), subject, load: load.clone(), slow_heads: 0 }
    }
}

/// The reports of one job, one a round.
#[derive(Debug)]
pub(crate) struct Series {
    label: String,
    subject: Subject,
    pub(crate) reports: Vec<Report>,
}

impl Series {
    /// # Errors
    /// A report lacks the figure.
    pub(crate) fn figures(&self, figure: Figure) -> Result<Figures, String> {
        let values: Result<_, _> = self.reports.iter().map(figure.of).collect();
        Ok(Figures::new(&self.label, values?))
    }

    /// What went wrong in any of its runs and must not.
    pub(crate) fn wrong(&self) -> Vec<String> {
        if !self.subject.must_keep_all() {
            return Vec::new();
        }
        self.reports.iter().flat_map(Report::wrong).map(|reason| format!("{}: {reason}", self.label)).collect()
    }

    /// This figure, beside that of `other`.
    ///
    /// # Errors
    /// A report lacks the figure.
    pub(crate) fn beside(&self, other: &Self, figure: Figure) -> Result<Measure, String> {
        let measure = Measure::new(figure.what, figure.unit, self.figures(figure)?).beside(other.figures(figure)?);
        Ok(measure.wrong(self.wrong()).wrong(other.wrong()))
    }
}

impl Bench {
    pub(crate) fn new(programs: Programs, quick: bool, progress: Progress) -> Self {
        Self { programs, quick, progress, runs: RefCell::default() }
    }

    /// `full`, or `quick` where less has to do.
    pub(crate) fn either<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// All runs since this was last asked.
    pub(crate) fn take_runs(&self) -> Vec<Run> {
        self.runs.take()
    }

    /// Runs all jobs `rounds` times, interleaved. `figure` is what is told of each while it goes on.
    ///
    /// # Errors
    /// Whatever keeps one of them from being run to its end.
    pub(crate) async fn interleaved(&self, rounds: usize, jobs: &[Job], figure: Figure) -> Result<Vec<Series>, String> {
        let empty = |job: &Job| Series { label: job.label.clone(), subject: job.subject, reports: Vec::new() };
        let mut series: Vec<_> = jobs.iter().map(empty).collect();
        for (round, job) in interleaved(rounds, jobs.len()) {
            let what = format!("round {} of {rounds}, {}", round + 1, jobs[job].label);
            let report = self.run(&jobs[job]).await.map_err(|error| format!("{what}: {error}"))?;
            let shown = (figure.of)(&report).map_or_else(|error| error, |value| format!("{value:.2} {}", figure.unit));
            self.progress.step(&format!("{what}: {} {shown}", figure.what));
            series[job].reports.push(report);
        }
        Ok(series)
    }

    /// Runs a job once, on servers that nobody used before.
    ///
    /// # Errors
    /// A server or the load generator does not start or does not come to its end.
    pub(crate) async fn run(&self, job: &Job) -> Result<Report, String> {
        let redis = redis().await;
        let mut server = Server::start(&self.programs, job.subject, &redis, 1).await?;
        let place = Place {
            ports: vec![server.port],
            pids: vec![server.pid()?.to_string()],
            redis_port: redis.port(),
            redis_pid: redis.pid().to_string(),
        };
        let slow = SlowHeads::open(server.port, job.slow_heads).await?;
        let report = job.load.run(&self.programs.loadtest, &job.subject.flags(&place)).await;
        // Why the server went is the better reason.
        if let Some(ended) = server.ended() {
            return Err(ended);
        }
        let report = report?;
        slow.close()?;
        let load = job.load.by_hand(&job.subject.flags(&job.subject.place_by_hand()));
        self.record(&job.label, vec![job.subject.started_by_hand().to_owned(), load], report.0.clone());
        Ok(report)
    }

    /// Puts something into the raw figures.
    pub(crate) fn record(&self, label: &str, by_hand: Vec<String>, report: Value) {
        self.runs.borrow_mut().push(Run { label: label.to_owned(), by_hand, report });
    }
}
