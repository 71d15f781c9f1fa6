//! Side by side: the same order never twice in a row, so that what drifts on the machine, drifts for all.

/// Who comes when: in every round each of `count` once, forwards and backwards in turn. A B, B A, A B, ...
pub(crate) fn interleaved(rounds: usize, count: usize) -> Vec<(usize, usize)> {
    let round = |round: usize| {
        (0..count).map(move |place| if round.is_multiple_of(2) { (round, place) } else { (round, count - 1 - place) })
    };
    (0..rounds).flat_map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_round_runs_backwards() {
        let order: String = interleaved(3, 2).iter().map(|(_, job)| ["A", "B"][*job]).collect();
        assert_eq!(order, "ABBAAB");
        let rounds: Vec<_> = interleaved(2, 3).iter().map(|(round, _)| *round).collect();
        assert_eq!(rounds, [0, 0, 0, 1, 1, 1]);
        assert_eq!(interleaved(0, 2), []);
    }
}
