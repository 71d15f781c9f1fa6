//! What a publish does.

use bytes::Bytes;
use gateway::broker::Interest;
use publisher::{Once, Publication};
use shared::position::Position;

use super::fixture::{Fixture, channel, text};
use crate::support::eventually;

pub async fn positions_rise_over_all_channels(fixture: &Fixture) {
    let (a, b) = (channel("a"), channel("b"));
    let mut last = Position::ZERO;
    for i in 0..200 {
        let position = fixture.publish(if i % 3 == 0 { &a } else { &b }, "x").await;
        assert!(position > last, "{position} after {last}");
        last = position;
    }
}

pub async fn an_event_knows_the_one_before_it(fixture: &Fixture) {
    let (a, b) = (channel("a"), channel("b"));
    let first = fixture.publish(&a, "1").await;
    fixture.publish(&b, "x").await;
    let second = fixture.publish(&a, "2").await;
    let stamps: Vec<_> =
        fixture.entries(&a).await.iter().map(|entry| (entry.stamp.previous, entry.stamp.position)).collect();
    assert_eq!(stamps, [(Position::ZERO, first), (first, second)]);
}

pub async fn a_receipt_says_where_the_event_stands(fixture: &Fixture) {
    let a = channel("a");
    let receipt = fixture.send(&a, text("x")).await;
    let entry = &fixture.entries(&a).await[0];
    assert_eq!(receipt.position, Some(entry.stamp.position));
    let cursor = receipt.cursor.unwrap();
    let partition = (fixture.partitions > 1).then_some(0);
    assert_eq!((cursor.partition, cursor.position), (partition, entry.stamp.position));
    assert_eq!((receipt.receivers, receipt.duplicate), (0, false));
}

pub async fn concurrent_publishes_have_positions_of_their_own(fixture: &Fixture) {
    let channels = ["a", "b", "c"].map(channel);
    let receipts = fixture.send_all((0..300).map(|i| (channels[i % 3].clone(), text("x")))).await;
    let mut positions: Vec<_> = receipts.iter().map(|receipt| receipt.position.unwrap()).collect();
    positions.sort();
    positions.dedup();
    assert_eq!(positions.len(), 300);
    for channel in &channels {
        let entries = fixture.entries(channel).await;
        assert_eq!(entries.len(), 100);
        assert!(entries.windows(2).all(|pair| pair[1].stamp.previous == pair[0].stamp.position), "one chain");
    }
}

pub async fn once_publishes_once(fixture: &Fixture) {
    let a = channel("a");
    let once = || text("x").once(Once::parse("order-7").unwrap());
    let first = fixture.send(&a, once()).await;
    fixture.publish(&a, "y").await;
    let again = fixture.send(&a, once()).await;
    assert!(!first.duplicate && again.duplicate);
    assert_eq!((again.position, again.cursor, again.receivers), (first.position, first.cursor, 0));
    assert_eq!(fixture.entries(&a).await.len(), 2);
}

pub async fn once_is_decided_for_each_channel_alone(fixture: &Fixture) {
    let once = || text("x").once(Once::parse("k").unwrap());
    let (a, b) = (fixture.send(&channel("a"), once()).await, fixture.send(&channel("b"), once()).await);
    assert!(!a.duplicate && !b.duplicate && a.position != b.position);
}

pub async fn once_among_many_at_once(fixture: &Fixture) {
    let a = channel("a");
    let receipts = fixture.send_all((0..50).map(|_| (a.clone(), text("x").once(Once::parse("k").unwrap())))).await;
    assert_eq!(receipts.iter().filter(|receipt| !receipt.duplicate).count(), 1);
    assert!(receipts.iter().all(|receipt| receipt.position == receipts[0].position));
    assert_eq!(fixture.entries(&a).await.len(), 1);
}

pub async fn any_bytes_come_back_as_they_were(fixture: &Fixture) {
    let a = channel("a");
    let payloads = [&b""[..], b"\0\r\n\x1E", b"\xFF\xFE", "한글".as_bytes(), &[b'x'; 100_000]];
    for payload in payloads {
        fixture.send(&a, Publication::new(Bytes::copy_from_slice(payload))).await;
    }
    let entries = fixture.entries(&a).await;
    assert_eq!(entries.iter().map(|entry| &entry.payload[..]).collect::<Vec<_>>(), payloads);
}

pub async fn an_ephemeral_event_leaves_no_trace(fixture: &Fixture) {
    let a = channel("a");
    let receipt = fixture.send(&a, text("x").ephemeral()).await;
    assert_eq!((receipt.position, receipt.cursor, receipt.duplicate), (None, None, false));
    let snapshot = fixture.read(&a, Position::ZERO, 10).await;
    assert_eq!((snapshot.last, snapshot.entries.len()), (None, 0));
}

pub async fn receivers_are_nodes_with_somebody_there(fixture: &Fixture) {
    let a = channel("a");
    assert_eq!(fixture.send(&a, text("x")).await.receivers, 0);
    fixture.subscribe(&a, 1).await;
    assert_eq!(fixture.send(&a, text("x")).await.receivers, 1);
    assert_eq!(fixture.send(&a, text("x").ephemeral()).await.receivers, 1);
    assert_eq!(fixture.send(&channel("b"), text("x")).await.receivers, 0);
    fixture.ask(Interest::Unsubscribe { channel: a.clone() });
    eventually("nobody there any more", async || (fixture.send(&a, text("x")).await.receivers == 0).then_some(()))
        .await;
}
