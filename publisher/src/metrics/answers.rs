//! What answers that stream in count.

use metrics::{Counter, Gauge};
use shared::metrics::{Kind, Label, Metric};

pub(super) const ANSWERS: Metric = Metric {
    name: "sse_publisher_answers",
    kind: Kind::Gauge,
    labels: &[],
    help: "Answers under way",
    watch: "Near `chat.max_answers`: more are refused. [Answers](answers.md)",
};
pub(super) const ANSWERS_ENDED: Metric = Metric {
    name: "sse_publisher_answers_ended_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "result",
        values: &[
            ("done", "Its source said that this was all"),
            ("cancelled", "Somebody wanted no more of it"),
            ("upstream", "Its source failed; the log says how"),
            ("too_long", "It had too many bytes"),
            ("too_slow", "It took too long"),
            ("stopped", "The process stopped"),
            ("publishing", "It could not be published; perhaps its end could not either"),
        ],
    }],
    help: "Answers that ended",
    watch: "`upstream`, any `publishing`: those may lack their end",
};

/// How an answer ended; the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEnd {
    /// Its source said that this was all.
    Done,
    /// Somebody wanted no more of it.
    Cancelled,
    /// Its source failed.
    Upstream,
    /// It had too many bytes.
    TooLong,
    /// It took too long.
    TooSlow,
    /// The process stopped.
    Stopped,
    /// It could not be published; perhaps its end could not either.
    Publishing,
}

impl AnswerEnd {
    const ALL: [Self; 7] =
        [Self::Done, Self::Cancelled, Self::Upstream, Self::TooLong, Self::TooSlow, Self::Stopped, Self::Publishing];

    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Upstream => "upstream",
            Self::TooLong => "too_long",
            Self::TooSlow => "too_slow",
            Self::Stopped => "stopped",
            Self::Publishing => "publishing",
        }
    }
}

/// Answers that stream in.
pub struct AnswerMetrics {
    open: Gauge,
    ended: [Counter; 7],
}

impl AnswerMetrics {
    /// Describes and registers all of them. Install the recorder before.
    #[must_use]
    pub fn new() -> Self {
        ANSWERS.describe();
        ANSWERS_ENDED.describe();
        let ended = AnswerEnd::ALL.map(|end| ANSWERS_ENDED.counter(&[("result", end.label())]));
        let open = ANSWERS.gauge(&[]);
        Self { open, ended }
    }

    /// One more is under way, until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> OpenAnswer {
        self.open.increment(1.0);
        OpenAnswer(self.open.clone())
    }

    /// Counts one that has ended.
    pub fn count(&self, end: AnswerEnd) {
        // `AnswerEnd::ALL` is in the order of declaration.
        self.ended[end as usize].increment(1);
    }
}

impl Default for AnswerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// See [`AnswerMetrics::begin`].
pub struct OpenAnswer(Gauge);

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_all_is_the_order_of_declaration() {
        for (i, end) in AnswerEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, i);
        }
    }
}
