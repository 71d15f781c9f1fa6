//! Why things failed, counted by their text. It must stay small however many fail.

use std::collections::BTreeMap;

/// Kinds of texts kept; further kinds share one line.
const MAX_KINDS: usize = 8;

/// Error texts and how often each was met.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    /// Counts `reason` as met `times` more times.
    pub(crate) fn add(&mut self, reason: String, times: u64) {
        let known = self.0.contains_key(&reason) || self.0.len() < MAX_KINDS;
        *self.0.entry(if known { reason } else { "other reasons".to_owned() }).or_default() += times;
    }

    /// Takes over another's counts.
    pub(crate) fn merge(&mut self, other: Self) {
        for (reason, times) in other.0 {
            self.add(reason, times);
        }
    }

    /// Texts and counts, in the order of the texts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(reason, times)| (reason.as_str(), *times))
    }
}

/// An HTTP error with its cause: hyper's own text leaves out what the system said.
pub(crate) fn describe(error: &hyper::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_kinds_share_a_line_and_none_is_uncounted() {
        let mut reasons = Reasons::default();
        for kind in 0..100 {
            reasons.add(format!("reason {kind}"), 2);
        }
        reasons.add("reason 0".to_owned(), 1);
        let mut twice = reasons.clone();
        twice.merge(reasons.clone());
        assert_eq!(reasons.iter().next(), Some(("other reasons", 184)));
        assert_eq!(reasons.iter().map(|(_, times)| times).sum::<u64>(), 201);
        assert_eq!(twice.iter().map(|(_, times)| times).sum::<u64>(), 402);
        assert!(twice.iter().count() <= MAX_KINDS + 1);
    }
}
