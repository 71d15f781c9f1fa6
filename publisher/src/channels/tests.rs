//! Which gap, and where a page ends.

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn at(number: u64) -> Position {
    Position { ms: NOW - 1_000 + number, seq: 0 }
}

fn entry(position: u64, previous: Position) -> HistoryEntry {
    HistoryEntry { position: at(position), previous, payload: Bytes::from_static(b"x") }
}

/// Entries at these numbers, each the one right after the one before it, the first right after `before`.
fn page(before: Position, numbers: &[u64]) -> HistoryPage {
    let mut previous = before;
    let entries: Vec<_> = numbers.iter().map(|n| entry(*n, std::mem::replace(&mut previous, at(*n)))).collect();
    let last = entries.last().map(|entry| LastEvent { position: entry.position, ended: false });
    HistoryPage {
        clock: at(100),
        time_ms: NOW,
        tag: "abcde".parse().unwrap(),
        partition: None,
        last,
        entries,
        more: false,
    }
}

fn empty(last: Option<u64>) -> HistoryPage {
    let last = last.map(|number| LastEvent { position: at(number), ended: false });
    HistoryPage { last, ..page(Position::ZERO, &[]) }
}

fn cursor(position: Position) -> Cursor {
    format!("{position}_abcde").parse().unwrap()
}

fn gap_after(number: u64, page: &HistoryPage) -> Option<Gap> {
    gap(Some(&cursor(at(number))), page)
}

#[test]
fn contiguous_or_trimmed() {
    assert_eq!(gap_after(3, &page(at(3), &[4, 5])), None);
    assert_eq!(gap_after(3, &page(at(2), &[4, 5])), None, "a cursor can be later than the channel's own event");
    assert_eq!(gap_after(3, &page(at(4), &[5])), Some(Gap::Trimmed));
    assert_eq!(gap_after(3, &page(Position::ZERO, &[4])), None, "the channel's first event");
}

#[test]
fn nothing_after_the_cursor() {
    assert_eq!(gap_after(3, &empty(Some(3))), None);
    assert_eq!(gap_after(3, &empty(Some(2))), None);
    assert_eq!(gap_after(3, &empty(Some(4))), Some(Gap::Expired));
    assert_eq!(gap_after(3, &empty(None)), None);
}

#[test]
fn from_the_beginning() {
    assert_eq!(gap(None, &page(Position::ZERO, &[1, 2])), None);
    assert_eq!(gap(None, &page(at(1), &[2])), Some(Gap::Trimmed));
    assert_eq!(gap(None, &empty(Some(4))), None);
    assert_eq!(gap(None, &empty(None)), None);
    assert_eq!(start(None, None), Position::ZERO);
}

#[test]
fn another_life_of_the_data() {
    let other: Cursor = format!("{}_edcba", at(3)).parse().unwrap();
    assert_eq!(start(Some(&other), None), at(3));
    for page in [page(at(3), &[4]), empty(Some(3)), empty(None)] {
        assert_eq!(gap(Some(&other), &page), Some(Gap::DataLost));
        assert_eq!(gap_after(101, &page), Some(Gap::DataLost), "nobody was ever there in this one");
    }
    assert_eq!(gap_after(100, &empty(Some(3))), None);
}

#[test]
fn other_partitions() {
    for text in ["3.5-0_abcde", "3.5-0_abcde~7.5-0_abcde"] {
        let cursor: Cursor = text.parse().unwrap();
        assert_eq!(start(Some(&cursor), None), Position::ZERO, "{text}");
        assert_eq!(gap(Some(&cursor), &page(Position::ZERO, &[1])), Some(Gap::UnknownCursor), "{text}");
    }
}

const HOUR_MS: u64 = 3_600_000;
/// A last position is kept for 7 days; an hour less is believed.
const REMEMBERED_MS: u64 = (7 * 24 - 1) * HOUR_MS;

#[test]
fn what_nobody_remembers() {
    let after = |ms| cursor(Position { ms, seq: 0 });
    let unknown = [page(Position::ZERO, &[1]), empty(None)];
    for page in unknown {
        assert_eq!(gap(Some(&after(NOW - REMEMBERED_MS)), &page), None);
        assert_eq!(gap(Some(&after(NOW - REMEMBERED_MS - 1)), &page), Some(Gap::Expired));
        assert_eq!(gap(Some(&after(0)), &page), Some(Gap::Expired));
        // A time of day that stepped back says nothing of a cursor's age.
        let stepped_back = HistoryPage { time_ms: at(0).ms - HOUR_MS, clock: at(0), ..page.clone() };
        assert_eq!(gap_after(0, &stepped_back), None);
        // A clock further ahead has been somewhere else, and last positions may have gone before their time.
        let further = HistoryPage { clock: at(1), ..stepped_back };
        assert_eq!((gap_after(0, &further), gap_after(1, &further)), (Some(Gap::Expired), Some(Gap::Expired)));
    }
    assert_eq!(gap(Some(&after(0)), &page(at(1), &[2])), Some(Gap::Trimmed));
    assert_eq!(gap(Some(&after(0)), &empty(Some(1))), Some(Gap::Expired));
}

fn cut(mut page: HistoryPage, limit: usize) -> (usize, bool) {
    page.cut(limit);
    (page.entries.len(), page.more)
}

#[test]
fn a_page_ends_at_its_limit() {
    let three = || page(Position::ZERO, &[1, 2, 3]);
    assert_eq!(cut(three(), 2), (2, true));
    assert_eq!(cut(three(), 3), (3, false));
    assert_eq!(cut(three(), 4), (3, false));
    assert_eq!(cut(empty(Some(1)), 1), (0, false));
    assert_eq!(cut(HistoryPage { more: true, ..three() }, 3), (3, true));
}

#[test]
fn a_page_ends_at_its_bytes_but_has_one_entry() {
    let sized = |sizes: &[usize]| {
        let mut page = page(Position::ZERO, &[1, 2, 3][..sizes.len()]);
        for (entry, size) in page.entries.iter_mut().zip(sizes) {
            entry.payload = vec![b'x'; *size].into();
        }
        page
    };
    assert_eq!(cut(sized(&[MAX_HISTORY_BYTES - 1, 1, 0]), 9), (3, false));
    assert_eq!(cut(sized(&[MAX_HISTORY_BYTES - 1, 2, 0]), 9), (1, true));
    assert_eq!(cut(sized(&[MAX_HISTORY_BYTES + 1, 0]), 9), (1, true));
    assert_eq!(cut(sized(&[MAX_HISTORY_BYTES + 1]), 9), (1, false));
}

#[test]
fn a_page_ends_before_what_is_missing() {
    let mut broken = page(Position::ZERO, &[1, 2, 4]);
    broken.entries[2].previous = at(3);
    assert_eq!(cut(broken, 9), (2, true));
    let mut forgot = page(Position::ZERO, &[1, 2]);
    forgot.entries[1].previous = Position::ZERO;
    assert_eq!(cut(forgot, 9), (1, true));
    let mut shortened = page(Position::ZERO, &[1, 2]);
    shortened.entries.pop();
    assert_eq!(cut(shortened, 9), (1, true), "the last one is not there");
}

#[test]
fn names() {
    let name = |gap| serde_json::to_string(&gap).unwrap();
    let gaps = [Gap::Trimmed, Gap::Expired, Gap::DataLost, Gap::UnknownCursor];
    assert_eq!(gaps.map(name), [r#""trimmed""#, r#""expired""#, r#""data_lost""#, r#""unknown_cursor""#]);
}

#[test]
fn of_several_partitions_the_channels_own_counts() {
    let page = HistoryPage { partition: Some(7), ..page(at(1), &[2, 3]) };
    let of = |text: String| -> Cursor { text.parse().unwrap() };
    let both = of(format!("3.{}_vwxyz~7.{}_abcde", at(9), at(1)));
    assert_eq!((start(Some(&both), Some(7)), gap(Some(&both), &page)), (at(1), None));
    for other in [of(format!("{}_abcde", at(1))), of(format!("3.{}_abcde", at(1)))] {
        let read = (start(Some(&other), Some(7)), gap(Some(&other), &page));
        assert_eq!(read, (Position::ZERO, Some(Gap::UnknownCursor)), "{other}");
    }
    assert_eq!(page.cursor(at(3)).to_string(), format!("7.{}_abcde", at(3)));
}
