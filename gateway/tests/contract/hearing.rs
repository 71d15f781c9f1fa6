//! What a subscriber hears.

use gateway::broker::{Interest, Stamp};
use shared::cursor::Tag;
use shared::position::Position;

use super::fixture::{Fixture, Heard, channel, text};
use crate::support::eventually;

pub async fn what_is_subscribed_is_heard_in_order(fixture: &Fixture) {
    let channels = ["a", "b", "c"].map(channel);
    for (i, channel) in channels.iter().enumerate() {
        fixture.subscribe(channel, i as u64 + 1).await;
    }
    fixture.send_all((0..300).map(|i| (channels[i % 3].clone(), text("x")))).await;
    for channel in &channels {
        fixture.messages(channel, 100).await;
    }
    let position = |heard: Heard| match heard {
        Heard::Message(message) => message.stamp.map(|stamp| stamp.position),
        _ => None,
    };
    let positions: Vec<_> = fixture.ears.all().into_iter().filter_map(position).collect();
    assert_eq!(positions.len(), 300, "each once");
    assert!(positions.is_sorted(), "over all channels of the partition");
}

pub async fn only_what_is_subscribed_is_heard(fixture: &Fixture) {
    let (a, b) = (channel("a"), channel("b"));
    fixture.subscribe(&a, 1).await;
    fixture.publish(&b, "not heard").await;
    fixture.publish(&a, "heard").await;
    fixture.messages(&a, 1).await;
    fixture.ask(Interest::Unsubscribe { channel: a.clone() });
    fixture.subscribe(&b, 2).await;
    fixture.publish(&a, "not heard").await;
    fixture.publish(&b, "heard").await;
    fixture.messages(&b, 1).await;
    assert_eq!((fixture.ears.messages(&a).len(), fixture.ears.messages(&b).len()), (1, 1));
}

/// Whatever is published while a channel becomes live is either covered by the snapshot's clock or heard.
pub async fn live_and_the_snapshot_leave_no_hole(fixture: &Fixture) {
    for round in 1..=30 {
        let channel = channel(&format!("c{round}"));
        let publishes = fixture.send_all((0..20).map(|i| (channel.clone(), text(&i.to_string()))));
        let (receipts, snapshot) = futures_util::join!(publishes, fixture.subscribe(&channel, round));
        let positions: Vec<_> = receipts.into_iter().filter_map(|receipt| receipt.position).collect();
        let after: Vec<_> = positions.iter().filter(|position| **position > snapshot.clock).collect();
        let heard = fixture.messages(&channel, after.len()).await;
        let heard: Vec<_> = heard.iter().filter_map(|message| message.stamp).map(|stamp| stamp.position).collect();
        for position in after {
            assert_eq!(heard.iter().filter(|at| *at == position).count(), 1, "{position} after {}", snapshot.clock);
        }
    }
}

pub async fn every_life_of_a_channel_is_answered(fixture: &Fixture) {
    let a = channel("a");
    fixture.subscribe(&a, 1).await;
    fixture.ask(Interest::Unsubscribe { channel: a.clone() });
    let position = fixture.publish(&a, "in between").await;
    let snapshot = fixture.subscribe(&a, 2).await;
    assert!(snapshot.clock >= position);
    assert_eq!(snapshot.last.unwrap().position, position);
    fixture.ask(Interest::Unsubscribe { channel: a.clone() });
    fixture.subscribe(&a, 3).await;
    fixture.publish(&a, "x").await;
    // What came in between may have been heard too: a broker need not hurry to unsubscribe, and the snapshot covers it.
    let heard = async || {
        let heard = fixture.ears.messages(&a);
        heard.last().is_some_and(|last| last.payload == text("x").payload).then_some(heard)
    };
    let heard = eventually("the event of the last life", heard).await;
    assert_eq!(heard.iter().filter(|message| message.payload == text("x").payload).count(), 1);
}

pub async fn messages_carry_what_the_history_holds(fixture: &Fixture) {
    let a = channel("a");
    let first = fixture.publish(&a, "before").await;
    let snapshot = fixture.subscribe(&a, 1).await;
    assert_eq!(snapshot.last.unwrap().position, first);
    fixture.publish(&a, "x").await;
    fixture.publish(&a, "y").await;
    let heard = fixture.messages(&a, 2).await;
    let entries = fixture.read(&a, first, 10).await.entries;
    assert_eq!(entries[0].stamp, Stamp { position: entries[0].stamp.position, previous: first });
    let heard: Vec<_> = heard.iter().map(|message| (message.stamp.unwrap(), message.payload.clone())).collect();
    let held: Vec<_> = entries.iter().map(|entry| (entry.stamp, entry.payload.clone())).collect();
    assert_eq!(heard, held);
}

pub async fn ephemeral_events_are_heard_between_durable_ones(fixture: &Fixture) {
    let a = channel("a");
    fixture.subscribe(&a, 1).await;
    for data in ["1", "2", "3", "4"] {
        let publication = text(data);
        fixture.send(&a, if data < "3" { publication.ephemeral() } else { publication }).await;
    }
    fixture.send(&a, text("5").ephemeral()).await;
    let heard = fixture.messages(&a, 5).await;
    let heard: Vec<_> = heard.iter().map(|message| (message.payload.clone(), message.stamp.is_some())).collect();
    let expected = [("1", false), ("2", false), ("3", true), ("4", true), ("5", false)];
    assert_eq!(heard, expected.map(|(data, durable)| (text(data).payload, durable)));
}

pub async fn a_barrier_comes_after_what_it_covers(fixture: &Fixture) {
    let a = channel("a");
    fixture.subscribe(&a, 1).await;
    let position = fixture.publish(&a, "x").await;
    let covers = |heard: &Heard| matches!(heard, Heard::Barrier(0, barrier) if *barrier >= position);
    let index =
        eventually("a barrier that covers the event", async || fixture.ears.all().iter().position(covers)).await;
    let before = &fixture.ears.all()[..index];
    assert!(before.iter().any(|heard| matches!(heard, Heard::Message(message) if message.channel == a)));
    let mut barriers = before.iter().filter_map(|heard| match heard {
        Heard::Barrier(0, position) => Some(*position),
        _ => None,
    });
    let mut last = Position::ZERO;
    assert!(barriers.all(|barrier| std::mem::replace(&mut last, barrier) <= barrier), "barriers never fall");
}

pub async fn a_session_comes_first_and_names_the_epoch_of_cursors(fixture: &Fixture) {
    let a = channel("a");
    fixture.subscribe(&a, 1).await;
    let all = fixture.ears.all();
    let of_it = |heard: &&Heard| match heard {
        Heard::Session(partition, ..) | Heard::Barrier(partition, _) | Heard::Established(partition) => *partition == 0,
        _ => true,
    };
    let Some(Heard::Session(_, epoch, clock)) = all.iter().find(of_it) else { panic!("{all:?}") };
    let receipt = fixture.send(&a, text("x")).await;
    assert_eq!(receipt.cursor.unwrap().tag, Tag::of(epoch, fixture.partitions));
    assert!(receipt.position.unwrap() > *clock);
}

pub async fn many_channels_at_once(fixture: &Fixture) {
    let channels: Vec<_> = (0..1_200).map(|i| channel(&format!("many:{i}"))).collect();
    for (i, channel) in channels.iter().enumerate() {
        fixture.ask(Interest::Subscribe { channel: channel.clone(), generation: i as u64 + 1 });
    }
    fixture.live(&channels[1_199], 1_200).await;
    let lives = || fixture.ears.all().iter().filter(|heard| matches!(heard, Heard::Live(..))).count();
    eventually("all of them live", async || (lives() == 1_200).then_some(())).await;
    for channel in channels.iter().step_by(100) {
        fixture.publish(channel, "x").await;
        fixture.messages(channel, 1).await;
    }
}
