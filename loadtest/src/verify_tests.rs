use super::*;

fn published(attempted: u64) -> Published {
    Published { attempted, unsure: Vec::new() }
}

fn receive_all(first: u64, sequences: &[u64]) -> Tracker {
    let mut tracker = Tracker::starting_at(first);
    for &sequence in sequences {
        tracker.receive(sequence);
    }
    tracker
}

fn verdict(sequences: &[u64], attempted: u64) -> Verdict {
    receive_all(0, sequences).verdict(&published(attempted))
}

#[test]
fn a_marker_survives_the_trip_with_padding_behind_it() {
    let marker = Marker { sequence: u64::MAX - 1, sent_at_ns: u64::MAX, key: u32::MAX };
    let mut data = String::new();
    marker.write(&mut data);
    assert!(data.len() <= MARKER_MAX_BYTES, "{} bytes", data.len());
    data.push_str("xx;,@xx");
    assert_eq!(Marker::parse(data.as_bytes()), Some(marker));
}

#[test]
fn what_is_no_marker_is_refused() {
    for data in [
        "",
        "@",
        "@;",
        "@1,2;",
        "@1,2,3",
        "@1,2,3,4;",
        "1,2,3;",
        " @1,2,3;",
        "@-1,2,3;",
        "@+1,2,3;",
        "@1,2,4294967296;",
        "@18446744073709551615,2,3;",
        "@,,;",
        "@1,2,3,;",
        "@99999999999999999999,2,3;",
    ] {
        assert_eq!(Marker::parse(data.as_bytes()), None, "{data:?}");
    }
}

#[test]
fn all_in_order_is_all_delivered() {
    assert_eq!(verdict(&[0, 1, 2, 3], 4), Verdict { expected: 4, delivered: 4, ..Verdict::default() });
    assert_eq!(verdict(&[], 0), Verdict::default());
}

#[test]
fn losses_are_found_at_the_start_in_the_middle_and_at_the_end() {
    let lost = |lost, expected| Verdict { expected, delivered: expected - lost, lost, ..Verdict::default() };
    assert_eq!(verdict(&[2, 3], 4), lost(2, 4));
    assert_eq!(verdict(&[0, 3], 4), lost(2, 4));
    assert_eq!(verdict(&[0, 1], 4), lost(2, 4));
    assert_eq!(verdict(&[], 4), lost(4, 4));
    assert_eq!(verdict(&[1, 3, 5], 8), lost(5, 8));
}

#[test]
fn a_duplicate_is_counted_whenever_it_comes() {
    let seen = verdict(&[0, 0, 1, 2, 0, 2], 3);
    assert_eq!(seen, Verdict { expected: 3, delivered: 3, duplicated: 3, ..Verdict::default() });
}

#[test]
fn a_late_event_is_out_of_order_and_not_lost() {
    let seen = verdict(&[0, 2, 1, 3], 4);
    assert_eq!(seen, Verdict { expected: 4, delivered: 4, out_of_order: 1, ..Verdict::default() });
}

#[test]
fn a_hole_closes_from_both_ends_and_from_its_middle() {
    let mut tracker = receive_all(0, &[10]);
    for (sequence, arrival) in [
        (5, Arrival::Late),
        (5, Arrival::Duplicate),
        (4, Arrival::Late),
        (6, Arrival::Late),
        (0, Arrival::Late),
        (9, Arrival::Late),
        (10, Arrival::Duplicate),
        (11, Arrival::InOrder),
    ] {
        assert_eq!(tracker.receive(sequence), arrival, "{sequence}");
    }
    // 1, 2, 3, 7 and 8 never came.
    let seen = tracker.verdict(&published(12));
    assert_eq!(seen, Verdict { expected: 12, delivered: 7, lost: 5, duplicated: 2, out_of_order: 5, unknown: 0 });
}

#[test]
fn who_joins_in_the_middle_is_owed_only_what_follows() {
    let seen = receive_all(5, &[5, 6, 8]).verdict(&published(10));
    assert_eq!(seen, Verdict { expected: 5, delivered: 3, lost: 2, ..Verdict::default() });
    let early = receive_all(5, &[4, 5]).verdict(&published(6));
    assert_eq!(early, Verdict { expected: 1, delivered: 1, duplicated: 1, ..Verdict::default() });
    let nothing = receive_all(5, &[]).verdict(&published(3));
    assert_eq!(nothing, Verdict::default());
}

#[test]
fn an_event_whose_publish_failed_may_arrive_or_not() {
    let published = Published { attempted: 6, unsure: vec![1, 3, 5] };
    let fine = Verdict { expected: 3, delivered: 3, ..Verdict::default() };
    assert_eq!(receive_all(0, &[0, 2, 4]).verdict(&published), fine);
    assert_eq!(receive_all(0, &[0, 1, 2, 3, 4, 5]).verdict(&published), fine);
    assert_eq!(receive_all(0, &[0, 3]).verdict(&published).lost, 2);
}

#[test]
fn what_nobody_published_is_unknown() {
    assert_eq!(verdict(&[0, 1, 2], 1), Verdict { expected: 1, delivered: 1, unknown: 2, ..Verdict::default() });
    assert_eq!(
        verdict(&[0, 5, 7], 3),
        Verdict { expected: 3, delivered: 1, lost: 2, unknown: 2, ..Verdict::default() }
    );
    let absurd = verdict(&[0, u64::MAX - 1, u64::MAX - 1], 1);
    assert_eq!(absurd, Verdict { expected: 1, delivered: 1, duplicated: 1, unknown: 1, ..Verdict::default() });
}

#[test]
fn more_holes_than_are_remembered_still_count_as_lost() {
    let holes = MAX_HOLES as u64 + 100;
    let mut tracker = Tracker::starting_at(0);
    for sequence in 0..holes {
        tracker.receive(2 * sequence + 1);
    }
    assert_eq!(tracker.faults.as_ref().unwrap().holes.len(), MAX_HOLES);
    let seen = tracker.verdict(&published(2 * holes));
    assert_eq!((seen.lost, seen.delivered), (holes, holes));
    assert_eq!(tracker.receive(0), Arrival::Duplicate, "a forgotten hole");
    assert_eq!(tracker.receive(2 * holes - 2), Arrival::Late, "a remembered one");
}

/// Against the obvious account, a list of everything seen, on shuffled, doubled and thinned sequences.
#[test]
fn it_agrees_with_a_plain_list() {
    // A fixed generator (xorshift): a failure repeats.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..2_000 {
        let attempted = 1 + random(30);
        let arrivals: Vec<u64> = (0..random(60)).map(|_| random(attempted)).collect();
        let mut seen = std::collections::BTreeSet::new();
        let (mut duplicated, mut late) = (0, 0);
        for &sequence in &arrivals {
            let newest = seen.last().copied();
            if !seen.insert(sequence) {
                duplicated += 1;
            } else if newest.is_some_and(|newest| newest > sequence) {
                late += 1;
            }
        }
        let delivered = seen.len() as u64;
        let wanted = Verdict {
            expected: attempted,
            delivered,
            lost: attempted - delivered,
            duplicated,
            out_of_order: late,
            unknown: 0,
        };
        assert_eq!(verdict(&arrivals, attempted), wanted, "{arrivals:?} of {attempted}");
    }
}
