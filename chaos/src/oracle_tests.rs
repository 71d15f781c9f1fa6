//! The oracle catches each thing that can be wrong, and nothing that is right.

use super::*;
use shared::cursor::Tag;
use shared::position::{Epoch, Position};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn cursor(epoch: u64, ms: u64) -> Option<CursorPart> {
    let tag = Tag::of(&Epoch::from_bits(epoch), 1);
    Some(CursorPart { partition: None, position: Position { ms, seq: 0 }, tag })
}

/// Ten events, number n tried at n * 100 ms, acknowledged 10 ms later, at position n * 100 of epoch 1.
fn ten() -> Vec<Published> {
    let published =
        |n: u64| Published { tried: ms(n * 100), acked: ms(n * 100 + 10), calls: 1, cursor: cursor(1, n * 100) };
    (1..=10).map(published).collect()
}

/// Number n is heard 20 ms after it was tried.
fn event(n: u64) -> Heard {
    Heard::Event { n, at: ms(n * 100 + 20) }
}

fn gap(at: u64, cursor: Option<CursorPart>) -> Heard {
    Heard::Gap { reason: "data_lost".to_owned(), cursor, at: ms(at) }
}

const BEGINNING: Option<Start> = Some(Start { at: Duration::ZERO, cursor: None });

fn broken(from: u64, to: u64, loses: bool) -> Vec<Break> {
    vec![Break { from: ms(from), to: ms(to), loses }]
}

fn wrongs(verdict: &Verdict) -> Vec<(Wrong, u64)> {
    verdict.violations.iter().map(|violation| (violation.wrong, violation.n)).collect()
}

fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<Heard> {
    numbers.into_iter().map(event).collect()
}

#[test]
fn all_in_order_is_right() {
    let verdict = judge(&ten(), BEGINNING, &events(1..=10), &[]);
    assert_eq!(verdict, Verdict { delivered: 10, silence: ms(10), ..Verdict::default() });
}

#[test]
fn what_never_comes_is_lost() {
    let verdict = judge(&ten(), BEGINNING, &events([1, 2, 5, 6, 7, 8, 9]), &[]);
    assert_eq!(wrongs(&verdict), [(Wrong::Lost, 3), (Wrong::Lost, 4), (Wrong::Lost, 10)]);
    assert_eq!(wrongs(&judge(&ten(), BEGINNING, &[], &[])).len(), 10, "one that heard nothing");
}

#[test]
fn what_comes_again_is_a_duplicate_and_what_comes_late_is_out_of_order() {
    let verdict = judge(&ten(), BEGINNING, &events([1, 2, 2, 3, 5, 6, 4, 7, 8, 9, 10, 1]), &[]);
    let expected = [(Wrong::Duplicated, 1), (Wrong::Duplicated, 2), (Wrong::OutOfOrder, 4)];
    assert_eq!(wrongs(&verdict), expected, "what came late is not lost as well");
}

#[test]
fn what_nobody_published_is_unknown() {
    let mut heard = events(1..=10);
    heard.extend([Heard::Event { n: 11, at: ms(2_000) }, Heard::Event { n: 0, at: ms(2_000) }]);
    assert_eq!(wrongs(&judge(&ten(), BEGINNING, &heard, &[])), [(Wrong::Unknown, 0), (Wrong::Unknown, 11)]);
    let early = [Heard::Event { n: 1, at: ms(50) }];
    assert_eq!(wrongs(&judge(&ten()[..1], BEGINNING, &early, &[])), [(Wrong::Lost, 1), (Wrong::Unknown, 1)]);
}

#[test]
fn a_gap_covers_what_is_missing_around_it_and_nothing_else() {
    let told = |place: usize| {
        let mut heard = events([1, 2, 3, 7, 8, 9, 10]);
        heard.insert(place, gap(690, cursor(2, 5)));
        wrongs(&judge(&ten(), BEGINNING, &heard, &broken(400, 500, true)))
    };
    assert_eq!(told(3), []);
    let lost = [(Wrong::Lost, 4), (Wrong::Lost, 5), (Wrong::Lost, 6)];
    assert_eq!(told(2), lost, "told before the last event that came");
    assert_eq!(told(4), lost, "told too late");
    let mut heard = events([1, 2, 3, 7, 9, 10]);
    heard.insert(3, gap(690, None));
    assert_eq!(wrongs(&judge(&ten(), BEGINNING, &heard, &broken(400, 500, true))), [(Wrong::Lost, 8)]);
}

#[test]
fn a_gap_covers_nothing_that_was_published_later() {
    let heard = [event(1), event(2), gap(450, None), event(8), event(9), event(10)];
    let verdict = judge(&ten(), BEGINNING, &heard, &broken(200, 300, true));
    assert_eq!(wrongs(&verdict), [(Wrong::Lost, 5), (Wrong::Lost, 6), (Wrong::Lost, 7)]);
    let tail = judge(&ten(), BEGINNING, &[event(1), event(2), gap(1_200, None)], &broken(200, 300, true));
    assert_eq!(wrongs(&tail), [], "to the end");
}

#[test]
fn behind_its_own_cursor_a_gap_covers_nothing() {
    let told = |cursor| {
        let heard = [event(1), event(2), gap(690, cursor), event(7), event(8), event(9), event(10)];
        wrongs(&judge(&ten(), BEGINNING, &heard, &broken(200, 300, true)))
    };
    assert_eq!(told(cursor(1, 400)), [(Wrong::Lost, 5), (Wrong::Lost, 6)]);
    assert_eq!(told(cursor(1, 600)), []);
    assert_eq!(told(cursor(2, 400)), [], "positions of another epoch do not compare");
    let two = [event(1), gap(390, cursor(1, 300)), gap(690, cursor(1, 600)), event(7), event(8), event(9), event(10)];
    assert_eq!(wrongs(&judge(&ten(), BEGINNING, &two, &broken(200, 300, true))), [], "either may cover it");
}

#[test]
fn a_gap_needs_a_reason() {
    let told = |reason: &str, breaks: &[Break]| {
        let mut heard = events(1..=10);
        heard.insert(4, Heard::Gap { reason: reason.to_owned(), cursor: None, at: ms(430) });
        let verdict = judge(&ten(), BEGINNING, &heard, breaks);
        (wrongs(&verdict), verdict.expected_gaps)
    };
    let unexpected = (vec![(Wrong::UnexpectedGap, 4)], 0);
    assert_eq!(told("data_lost", &broken(400, 410, false)), (vec![], 1));
    assert_eq!(told("data_lost", &[]), unexpected);
    assert_eq!(told("data_lost", &broken(440, 500, true)), unexpected, "before anything was lost");
    assert_eq!(told("unknown_cursor", &broken(400, 410, true)), unexpected);
    assert_eq!(told("too_far", &broken(400, 410, true)), unexpected);
}

#[test]
fn twice_is_right_only_around_a_loss() {
    let twice = |breaks: &[Break], calls| {
        let mut published = ten();
        published[3] = Published { calls, acked: ms(480), ..published[3] };
        let heard = [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10].map(|n| Heard::Event { n, at: ms(n * 100 + 85) });
        wrongs(&judge(&published, BEGINNING, &heard, breaks))
    };
    assert_eq!(twice(&broken(420, 430, true), 1), []);
    let wrong = [(Wrong::Duplicated, 4)];
    assert_eq!(twice(&broken(420, 430, false), 2), wrong, "a new epoch loses no keys");
    assert_eq!(twice(&broken(300, 390, true), 2), wrong, "before its first try");
    assert_eq!(twice(&broken(490, 500, true), 1), wrong, "after its acknowledgement");
    assert_eq!(twice(&broken(490, 500, true), 2), [], "but for a try that was given up");
    assert_eq!(twice(&broken(2_490, 2_500, true), 2), wrong, "which does not take for ever");
    let thrice = [1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 10].map(|n| Heard::Event { n, at: ms(n * 100 + 85) });
    assert_eq!(wrongs(&judge(&ten(), BEGINNING, &thrice, &broken(405, 408, true))), wrong);
}

#[test]
fn a_client_is_owed_what_comes_after_its_beginning() {
    let from = |at, cursor| wrongs(&judge(&ten(), Some(Start { at: ms(at), cursor }), &events(6..=10), &[]));
    assert_eq!(from(550, cursor(1, 500)), []);
    assert_eq!(from(550, cursor(1, 400)), [(Wrong::Lost, 5)], "by position, although it was tried before");
    assert_eq!(from(450, cursor(2, 9_000)), [(Wrong::Lost, 5)], "by time, where epochs differ");
    assert_eq!(from(550, None), []);
    let verdict = judge(&ten(), None, &[], &[]);
    assert_eq!(verdict, Verdict::default(), "it never began");
    let before = judge(&ten(), Some(Start { at: ms(550), cursor: cursor(1, 500) }), &events(4..=10), &[]);
    assert_eq!(wrongs(&before), [], "what lies before may come");
}

#[test]
fn silence_is_counted_from_the_acknowledgement_to_anything_heard() {
    let mut heard = events(1..=4);
    heard.push(gap(800, None));
    heard.extend((5..=10).map(|n| Heard::Event { n, at: ms(1_500) }));
    let verdict = judge(&ten(), BEGINNING, &heard, &broken(400, 500, true));
    // Number 9 was acknowledged at 910 ms, after the gap, and was heard at 1,500 ms.
    assert_eq!(verdict.silence, ms(1_500 - 910));
    let late = judge(&ten(), Some(Start { at: ms(700), cursor: cursor(1, 100) }), &heard, &broken(400, 500, true));
    assert_eq!(late.silence, ms(590), "nothing before it began");
}
