//! Which of several Sentinels to believe. Pure.

/// A server as a Sentinel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) host: String,
    pub(super) port: u16,
    /// Of the failover that made it the primary: higher is later.
    pub(super) epoch: u64,
}

impl Named {
    /// Whether it is the same server.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

/// The primary, after `answers` of some of `all` Sentinels, where `known` was it before; `None`: nobody has answered.
///
/// The latest failover counts. Of two servers with the same epoch, which are the same one by two names, the one before stays. To go
/// back to an earlier epoch, as where all Sentinels were set up anew, takes more than half of them: those that answer may be the ones
/// that were cut off.
pub(super) fn choose(known: Option<&Named>, answers: Vec<Named>, all: usize) -> Option<Named> {
    let (count, latest) = (answers.len(), answers.iter().map(|named| named.epoch).max()?);
    if let Some(known) = known.filter(|known| known.epoch > latest && count * 2 <= all) {
        return Some(known.clone());
    }
    let mut latest: Vec<Named> = answers.into_iter().filter(|named| named.epoch == latest).collect();
    let same = known.and_then(|known| latest.iter().position(|named| named.is_at(known)));
    Some(latest.swap_remove(same.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str, epoch: u64) -> Named {
        Named { host: host.to_owned(), port: 1, epoch }
    }

    fn chosen(known: Option<(&str, u64)>, answers: &[(&str, u64)], all: usize) -> Option<(String, u64)> {
        let known = known.map(|(host, epoch)| named(host, epoch));
        let answers = answers.iter().map(|(host, epoch)| named(host, *epoch)).collect();
        choose(known.as_ref(), answers, all).map(|named| (named.host, named.epoch))
    }

    fn is(host: &str, epoch: u64) -> Option<(String, u64)> {
        Some((host.to_owned(), epoch))
    }

    #[test]
    fn the_latest_failover_counts() {
        assert_eq!(chosen(None, &[], 3), None);
        assert_eq!(chosen(None, &[("a", 1)], 3), is("a", 1));
        assert_eq!(chosen(None, &[("a", 1), ("b", 2), ("a", 1)], 3), is("b", 2));
        assert_eq!(chosen(Some(("a", 1)), &[("b", 2)], 3), is("b", 2));
        assert_eq!(chosen(Some(("a", 1)), &[("a", 1), ("b", 2)], 3), is("b", 2));
    }

    #[test]
    fn of_the_same_epoch_the_one_before_stays() {
        assert_eq!(chosen(Some(("b", 2)), &[("a", 2), ("b", 2)], 3), is("b", 2));
        assert_eq!(chosen(Some(("c", 2)), &[("a", 2), ("b", 2)], 3), is("a", 2));
        // Which has had another failover, and is the primary still.
        assert_eq!(chosen(Some(("a", 2)), &[("a", 5)], 3), is("a", 5));
    }

    #[test]
    fn backwards_goes_with_more_than_half_of_them() {
        assert_eq!(chosen(Some(("b", 2)), &[("a", 1)], 3), is("b", 2));
        assert_eq!(chosen(Some(("b", 2)), &[("a", 1), ("a", 1)], 4), is("b", 2));
        assert_eq!(chosen(Some(("b", 2)), &[("a", 1), ("a", 1)], 3), is("a", 1));
        assert_eq!(chosen(Some(("b", 2)), &[("a", 0)], 1), is("a", 0));
        assert_eq!(chosen(Some(("b", 2)), &[("a", 1), ("b", 2)], 3), is("b", 2));
    }
}
