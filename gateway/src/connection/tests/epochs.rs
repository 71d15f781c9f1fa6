//! What an open stream says when the broker's session ends and another begins.

use super::*;
use crate::broker::{Entry, Last, Lost};
use shared::continuity::Gap;
use shared::cursor::Tag;

fn tag(epoch: u64) -> Tag {
    Tag::of(&Epoch::from_bits(epoch), 1)
}

fn gap(channel: &str, reason: &str, cursor: &str) -> String {
    format!("event: sse.gap\ndata: {{\"channel\":\"{channel}\",\"reason\":\"{reason}\",\"cursor\":\"{cursor}\"}}\n\n")
}

/// A session of `epoch` at `ms` in which `channels` become live again as `join` says, with `entries` that came meanwhile.
fn session(world: &mut World, epoch: u64, ms: u64, channels: &[&str], join: Join, entries: &[u64]) {
    world.clocks[0] = at(ms);
    world.hub.session(0, &Epoch::from_bits(epoch), at(ms));
    for (number, name) in channels.iter().enumerate() {
        let mut previous = Position::ZERO;
        let entry = |ms: &u64| {
            let stamp = Stamp { position: at(*ms), previous: std::mem::replace(&mut previous, at(*ms)) };
            Entry { stamp, payload: ms.to_string().into() }
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let last = entries.last().map(|entry| Last { position: entry.stamp.position, ended: false });
        let snapshot = Snapshot { last, entries, ..snapshot(at(ms)) };
        world.hub.live(&channel(name), number as u64 + 1, snapshot, join);
    }
}

fn opened(world: &mut World, channels: &[&str]) -> Connection {
    let mut connection = world.open(channels, &Request::default());
    let _ = written(&mut connection, Instant::now());
    connection
}

#[test]
fn another_epoch_is_a_gap_on_all_channels_and_a_new_cursor() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a", "b"]);
    world.publish("a", "one");
    let now = Instant::now();
    assert_eq!(written(&mut connection, now), format!("data: one\nid: 100-1_{}\n\n", tag(1)));

    world.hub.lost(0, Lost::Away);
    assert_eq!(written(&mut connection, now), "", "nothing is said of it");
    session(&mut world, 2, 50, &["a"], Join::Anew, &[]);
    world.publish("a", "two");
    assert_eq!(written(&mut connection, now), "", "not before all channels are there");
    world.hub.live(&channel("b"), 2, snapshot(at(60)), Join::Anew);
    let cursor = format!("60-0_{}", tag(2));
    let gaps = [gap("a", "data_lost", &cursor), gap("b", "data_lost", &cursor)].concat();
    assert_eq!(written(&mut connection, now), format!("{gaps}id: {cursor}\n\n"));
    world.clocks[0] = at(60);
    world.publish("b", "three");
    assert_eq!(written(&mut connection, now), format!("data: three\nid: 60-1_{}\n\n", tag(2)));
}

#[test]
fn what_was_not_read_before_the_epoch_ended_is_in_the_gap() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.publish("a", "unread");
    session(&mut world, 2, 50, &["a"], Join::Anew, &[]);
    let cursor = format!("50-0_{}", tag(2));
    let expected = format!("{}id: {cursor}\n\n", gap("a", "data_lost", &cursor));
    assert_eq!(written(&mut connection, Instant::now()), expected);
}

#[test]
fn a_clock_that_went_back_within_an_epoch_is_another_life() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.clocks[0] = at(900);
    world.publish("a", "from a future that is forged");
    let _ = written(&mut connection, Instant::now());
    world.hub.lost(0, Lost::Away);
    session(&mut world, 1, 200, &["a"], Join::Anew, &[]);
    let cursor = format!("200-0_{}", tag(1));
    let expected = format!("{}id: {cursor}\n\n", gap("a", "data_lost", &cursor));
    assert_eq!(written(&mut connection, Instant::now()), expected);
    world.publish("a", "real");
    assert_eq!(written(&mut connection, Instant::now()), format!("data: real\nid: 200-1_{}\n\n", tag(1)));
}

#[test]
fn a_session_of_the_same_epoch_catches_up_and_the_client_notices_nothing() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.publish("a", "one");
    assert_eq!(written(&mut connection, Instant::now()), format!("data: one\nid: 100-1_{}\n\n", tag(1)));
    world.hub.lost(0, Lost::Away);
    world.hub.session(0, &Epoch::from_bits(1), at(300));
    // Subscribed again, and not live yet: what comes now is held back behind what came meanwhile.
    world.clocks[0] = at(400);
    world.publish("a", "live");
    world.ephemeral("a", "at once");
    assert_eq!(written(&mut connection, Instant::now()), "data: at once\n\n");
    let entry = Entry { stamp: Stamp { position: at(200), previous: at(100) }, payload: "missed".into() };
    let last = Some(Last { position: at(200), ended: false });
    let snapshot = Snapshot { last, entries: vec![entry], ..snapshot(at(350)) };
    world.hub.live(&channel("a"), 1, snapshot, Join::CaughtUp);
    let expected = format!("data: missed\nid: 200-0_{0}\n\ndata: live\nid: 400-1_{0}\n\n", tag(1));
    assert_eq!(written(&mut connection, Instant::now()), expected);
}

#[test]
fn an_event_that_is_both_caught_up_and_live_is_told_once() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.hub.lost(0, Lost::Away);
    world.hub.session(0, &Epoch::from_bits(1), at(300));
    world.clocks[0] = at(399);
    world.clocks[0].seq = u64::MAX;
    assert_eq!(world.publish("a", "400"), at(400));
    let entry = Entry { stamp: Stamp { position: at(400), previous: Position::ZERO }, payload: "400".into() };
    let last = Some(Last { position: at(400), ended: false });
    let snapshot = Snapshot { last, entries: vec![entry], ..snapshot(at(400)) };
    world.hub.live(&channel("a"), 1, snapshot, Join::CaughtUp);
    assert_eq!(written(&mut connection, Instant::now()), format!("data: 400\nid: 400-0_{}\n\n", tag(1)));
}

#[test]
fn a_hole_is_told_and_covered_by_the_next_cursor() {
    let mut world = World::new(1);
    let (mut connection, mut other) = (opened(&mut world, &["a", "b"]), opened(&mut world, &["b"]));
    world.hub.lost(0, Lost::Away);
    world.hub.session(0, &Epoch::from_bits(1), at(300));
    world.hub.live(&channel("a"), 1, snapshot(at(305)), Join::Hole(Gap::Trimmed));
    world.hub.live(&channel("b"), 2, snapshot(at(310)), Join::CaughtUp);
    // The watermark has not come to where the hole ends.
    assert_eq!(written(&mut connection, Instant::now()), gap("a", "trimmed", &format!("305-0_{}", tag(1))));
    assert_eq!(written(&mut other, Instant::now()), "");
    world.hub.barrier(0, at(310));
    assert_eq!(written(&mut connection, Instant::now()), format!("id: 310-0_{}\n\n", tag(1)));
    world.clocks[0] = at(320);
    world.publish("a", "on");
    assert_eq!(written(&mut connection, Instant::now()), format!("data: on\nid: 320-1_{}\n\n", tag(1)));
    assert_eq!(written(&mut other, Instant::now()), "");
}

#[test]
fn messages_missed_in_the_midst_of_a_session_are_a_gap_for_who_went_on() {
    let mut world = World::new(1);
    let (mut on, mut behind) = (opened(&mut world, &["a", "b"]), opened(&mut world, &["a"]));
    world.publish("a", "one");
    let _ = (written(&mut on, Instant::now()), written(&mut behind, Instant::now()));
    // 150 on `a` is missed; `b` takes the first connection beyond it.
    world.clocks[0] = at(200);
    world.publish("b", "two");
    let _ = written(&mut on, Instant::now());
    world.hub.stale(&channel("a"), 1);
    let entry = Entry { stamp: Stamp { position: at(150), previous: at(100) }, payload: "missed".into() };
    let last = Some(Last { position: at(150), ended: false });
    let snapshot = Snapshot { last, entries: vec![entry], ..snapshot(at(250)) };
    world.hub.barrier(0, at(250));
    world.hub.live(&channel("a"), 1, snapshot, Join::CaughtUp);
    let told = written(&mut on, Instant::now());
    assert_eq!(told, format!("{}id: 250-0_{1}\n\n", gap("a", "data_lost", &format!("250-0_{}", tag(1))), tag(1)));
    assert_eq!(written(&mut behind, Instant::now()), format!("data: missed\nid: 150-0_{}\n\n", tag(1)));
}
