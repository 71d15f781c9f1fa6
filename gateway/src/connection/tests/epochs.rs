//! What an open stream says when the broker's session ends and another begins.

use super::*;
use crate::broker::Lost;
use shared::cursor::Tag;

fn tag(epoch: u64) -> Tag {
    Tag::of(&Epoch::from_bits(epoch), 1)
}

#[test]
fn an_epoch_whose_time_is_behind_goes_on_all_the_same() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let _ = written(&mut connection, Instant::now());
    world.publish("a", "one");
    let now = Instant::now();
    assert_eq!(written(&mut connection, now), format!("data: one\nid: 100-1_{}\n\n", tag(1)));

    world.hub.lost(0, Lost::Away);
    assert_eq!(written(&mut connection, now), "", "nothing is said of it");
    world.clocks[0] = at(50);
    world.hub.session(0, &Epoch::from_bits(2), at(50));
    world.publish("a", "two");
    assert_eq!(written(&mut connection, now), format!("data: two\nid: 50-1_{}\n\n", tag(2)));
}

#[test]
fn an_idle_stream_learns_the_new_epoch_with_a_keep_alive() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let _ = written(&mut connection, Instant::now());
    world.hub.session(0, &Epoch::from_bits(2), at(50));
    world.hub.barrier(0, at(60));
    let late = Instant::now() + Duration::from_secs(60);
    assert_eq!(written(&mut connection, late), format!(":\nid: 60-0_{}\n\n", tag(2)));
}

#[test]
fn what_was_not_read_before_the_epoch_ended_is_not_read_after() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let _ = written(&mut connection, Instant::now());
    world.publish("a", "unread");
    world.hub.session(0, &Epoch::from_bits(2), at(50));
    let bytes = written(&mut connection, Instant::now());
    assert!(bytes.starts_with("retry: ") && bytes.ends_with("\n\n"), "{bytes}");
    assert_eq!(connection.next(Instant::now()), Next::End);
}

#[test]
fn a_session_of_the_same_epoch_goes_on_where_the_last_one_ended() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let _ = written(&mut connection, Instant::now());
    world.publish("a", "one");
    world.hub.lost(0, Lost::Away);
    let clock = world.clocks[0];
    world.hub.session(0, &Epoch::from_bits(1), clock);
    world.publish("a", "two");
    let bytes = written(&mut connection, Instant::now());
    assert_eq!(bytes, format!("data: one\nid: 100-1_{0}\n\ndata: two\nid: 100-2_{0}\n\n", tag(1)));
}

#[test]
fn a_clock_that_went_back_within_an_epoch_is_another_life() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let _ = written(&mut connection, Instant::now());
    world.clocks[0] = at(900);
    world.publish("a", "from a future that is forged");
    let _ = written(&mut connection, Instant::now());
    world.hub.lost(0, Lost::Away);
    world.clocks[0] = at(200);
    world.hub.session(0, &Epoch::from_bits(1), at(200));
    world.publish("a", "real");
    assert_eq!(written(&mut connection, Instant::now()), format!("data: real\nid: 200-1_{}\n\n", tag(1)));
    world.answer_again("a");
    let mut fresh = world.open(&["a"], &Request::default());
    let _ = written(&mut fresh, Instant::now());
    world.publish("a", "and on");
    assert!(written(&mut fresh, Instant::now()).starts_with("data: and on\n"));
}
