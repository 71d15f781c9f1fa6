//! Figures, and whether they meet a bar. Pure.

use serde::Serialize;

/// What a figure may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// Median of the pairs' ratios, ours by the other's.
    Ratio(f64),
    /// Median of ours, in the measure's unit.
    Absolute(f64),
    /// It is reported, and nothing hangs on it.
    None,
}

/// One figure of ours, beside that of somebody else where there is one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measure {
    /// What the figure is of: "CPU per delivery".
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// Who "ours" is, such as "ours, durable", and its figure in each pair.
    pub(crate) ours: Figures,
    /// Who it is held against; as many figures as ours.
    pub(crate) other: Option<Figures>,
    pub(crate) bar: Bar,
    /// What no figure makes good, such as lost events.
    pub(crate) wrong: Vec<String>,
    /// What has to be known to read the figure.
    pub(crate) notes: Vec<String>,
}

/// Somebody's figures, one a pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

impl Figures {
    pub(crate) fn new(name: &str, values: Vec<f64>) -> Self {
        Self { name: name.to_owned(), values }
    }

    /// None where nothing was measured.
    pub(crate) fn median(&self) -> Option<f64> {
        median(&self.values)
    }
}

impl Measure {
    /// A figure of ours alone, with no bar.
    pub(crate) fn new(what: &str, unit: &'static str, ours: Figures) -> Self {
        let (other, bar, wrong, notes) = (None, Bar::None, Vec::new(), Vec::new());
        Self { what: what.to_owned(), unit, ours, other, bar, wrong, notes }
    }

    pub(crate) fn beside(mut self, other: Figures) -> Self {
        self.other = Some(other);
        self
    }

    pub(crate) fn at_most(mut self, bar: Bar) -> Self {
        self.bar = bar;
        self
    }

    pub(crate) fn wrong(mut self, wrong: impl IntoIterator<Item = String>) -> Self {
        self.wrong.extend(wrong);
        self
    }

    pub(crate) fn note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// Ours by the other's, in each pair in which the other's is above zero.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let Some(other) = &self.other else { return Vec::new() };
        let pairs = self.ours.values.iter().zip(&other.values);
        pairs.filter(|(_, other)| **other > 0.0).map(|(ours, other)| ours / other).collect()
    }

    /// Whether the bar is met; None without one. What was not measured meets nothing.
    pub(crate) fn met(&self) -> Option<bool> {
        let (figure, limit) = match self.bar {
            Bar::None => return if self.wrong.is_empty() { None } else { Some(false) },
            Bar::Ratio(limit) => (median(&self.ratios()), limit),
            Bar::Absolute(limit) => (self.ours.median(), limit),
        };
        Some(self.wrong.is_empty() && figure.is_some_and(|figure| figure <= limit))
    }
}

/// The middle one, or the mean of the two in the middle. None of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

/// Least and greatest. None of nothing.
pub(crate) fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let greatest = values.iter().copied().max_by(f64::total_cmp)?;
    Some((least, greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(ours: &[f64], other: &[f64], bar: Bar) -> Measure {
        let measure = Measure::new("CPU", "µs", Figures::new("ours", ours.to_vec())).at_most(bar);
        if other.is_empty() { measure } else { measure.beside(Figures::new("floor", other.to_vec())) }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_and_not_of_the_medians() {
        // The machine was three times slower during the second pair, for both.
        let measure = measure(&[6.0, 21.0, 6.6], &[5.0, 15.0, 6.0], Bar::Ratio(1.2));
        assert_eq!(measure.ratios(), [1.2, 1.4, 6.6 / 6.0]);
        assert_eq!(measure.met(), Some(true));
        assert_eq!(Measure { bar: Bar::Ratio(1.19), ..measure }.met(), Some(false));
    }

    #[test]
    fn an_absolute_bar_looks_at_ours_alone() {
        assert_eq!(measure(&[1.0, 0.9], &[5.0, 5.0], Bar::Absolute(1.0)).met(), Some(true));
        assert_eq!(measure(&[1.1, 1.0], &[5.0, 5.0], Bar::Absolute(1.0)).met(), Some(false));
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        assert_eq!(measure(&[], &[], Bar::Absolute(1.0)).met(), Some(false));
        assert_eq!(measure(&[1.0], &[0.0], Bar::Ratio(1.0)).met(), Some(false));
        assert_eq!(measure(&[1.0], &[], Bar::Ratio(1.0)).met(), Some(false));
    }

    #[test]
    fn what_is_wrong_is_a_failure_with_any_figure_and_without_a_bar() {
        let fast = measure(&[1.0], &[2.0], Bar::Ratio(1.0)).wrong(["3 events lost".to_owned()]);
        assert_eq!(fast.met(), Some(false));
        assert_eq!(measure(&[1.0], &[], Bar::None).met(), None);
        assert_eq!(measure(&[1.0], &[], Bar::None).wrong(["x".to_owned()]).met(), Some(false));
    }
}
