//! What an idle connection costs in memory. Growth here is growth times a hundred thousand: raise a bound knowingly.

use super::*;

#[test]
fn an_idle_connection_is_small() {
    // One channel, of one partition, lies inside; beside it there is the wakeup, and its token with the channel.
    assert!(size_of::<Connection>() <= 312, "{}", size_of::<Connection>());
    assert!(size_of::<Wakeup>() <= 16, "{}", size_of::<Wakeup>());
    assert!(size_of::<Next>() <= 40, "{}", size_of::<Next>());
}

#[test]
fn one_that_follows_has_nothing_beside() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let _ = written(&mut connection, Instant::now());
    assert!(connection.follows && connection.opening.is_none());
    assert!(!connection.readers.spilled() && !connection.parts.spilled());
}
