//! What a read sees.

use std::num::NonZeroU32;

use gateway::broker::Between;
use publisher::Publication;
use shared::position::Position;

use super::fixture::{Fixture, channel, end, short, text};
use crate::support::eventually;

pub async fn entries_after_a_position_in_order(fixture: &Fixture) {
    let a = channel("a");
    let mut positions = Vec::new();
    for i in 0..10 {
        positions.push(fixture.publish(&a, &i.to_string()).await);
    }
    let read = async |after, limit| -> Vec<Position> {
        let entries = fixture.read(&a, after, limit).await.entries;
        entries.iter().map(|entry| entry.stamp.position).collect()
    };
    assert_eq!(read(Position::ZERO, 100).await, positions);
    assert_eq!(read(positions[3], 100).await, positions[4..]);
    assert_eq!(read(positions[3], 2).await, positions[8..], "the newest");
    let older = Between { after: positions[3], before: Some(positions[8]) };
    let older = fixture.broker.read(&a, older, 3).await.unwrap().entries;
    let older: Vec<_> = older.iter().map(|entry| entry.stamp.position).collect();
    assert_eq!(older, positions[5..8], "page by page, backwards");
    assert_eq!(read(positions[9], 100).await, []);
    let between = Position { seq: positions[3].seq + 1, ..positions[3] };
    if between < positions[4] {
        assert_eq!(read(between, 100).await, positions[4..], "a position that no event has");
    }
}

pub async fn history_is_bounded_in_number(fixture: &Fixture) {
    let a = channel("a");
    for i in 0..500 {
        let publication = Publication { history: NonZeroU32::new(10), ..text(&i.to_string()) };
        fixture.send(&a, publication).await;
    }
    let entries = fixture.entries(&a).await;
    // A stream may be trimmed a whole node late, never early.
    assert!((10..=200).contains(&entries.len()), "{}", entries.len());
    assert_ne!(entries[0].stamp.previous, Position::ZERO, "the first that is left knows that there was one before");
    assert!(entries.windows(2).all(|pair| pair[1].stamp.previous == pair[0].stamp.position));
}

pub async fn history_expires_and_the_last_position_stays(fixture: &Fixture) {
    let a = channel("a");
    let position = fixture.send(&a, short("x")).await.position.unwrap();
    eventually("the history expired", async || fixture.entries(&a).await.is_empty().then_some(())).await;
    let last = fixture.read(&a, Position::ZERO, 1).await.last.unwrap();
    assert_eq!((last.position, last.ended), (position, false));
    fixture.publish(&a, "y").await;
    assert_eq!(fixture.entries(&a).await[0].stamp.previous, position);
}

pub async fn expiry_is_only_ever_put_off(fixture: &Fixture) {
    let (a, probe) = (channel("a"), channel("probe"));
    fixture.publish(&a, "an hour").await;
    fixture.send(&a, short("a second")).await;
    fixture.send(&probe, short("a second")).await;
    eventually("the probe expired", async || fixture.entries(&probe).await.is_empty().then_some(())).await;
    assert_eq!(fixture.entries(&a).await.len(), 2);
}

pub async fn an_end_is_remembered_until_the_channel_opens_again(fixture: &Fixture) {
    let a = channel("a");
    let ended = async || fixture.read(&a, Position::ZERO, 1).await.last.map(|last| last.ended);
    assert_eq!(ended().await, None);
    fixture.publish(&a, "x").await;
    assert_eq!(ended().await, Some(false));
    fixture.send(&a, end()).await;
    assert_eq!(ended().await, Some(true));
    fixture.publish(&a, "y").await;
    assert_eq!(ended().await, Some(false));
    assert_eq!(fixture.entries(&a).await.len(), 3);
}

pub async fn an_ephemeral_end_ends_nothing(fixture: &Fixture) {
    let a = channel("a");
    fixture.publish(&a, "x").await;
    fixture.send(&a, end().ephemeral()).await;
    assert!(!fixture.read(&a, Position::ZERO, 1).await.last.unwrap().ended);
}

pub async fn an_unknown_channel_is_empty(fixture: &Fixture) {
    let snapshot = fixture.read(&channel("nobody"), Position::ZERO, 10).await;
    assert_eq!((snapshot.last, snapshot.entries.len()), (None, 0));
    assert!(snapshot.clock > Position::ZERO);
}

pub async fn the_clock_covers_everything_published(fixture: &Fixture) {
    let (a, b) = (channel("a"), channel("b"));
    let position = fixture.publish(&a, "x").await;
    assert!(fixture.read(&b, Position::ZERO, 1).await.clock >= position);
    let clock = fixture.read(&a, Position::ZERO, 1).await.clock;
    assert!(fixture.publish(&b, "y").await > clock);
}
