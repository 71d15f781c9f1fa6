use publisher::census::Myself;
use shared::census::Beat;

use super::*;

struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Now {
        Now { instant: self.0 + Duration::from_secs(seconds), unix: seconds * 1_000 }
    }
}

fn begin() -> (Clock, Changes) {
    let clock = Clock(Instant::now());
    let changes = Changes::new(clock.at(0));
    (clock, changes)
}

/// On Redis, from the first second on.
fn up() -> (Clock, Changes) {
    let (clock, mut changes) = begin();
    changes.broker(clock.at(1), BrokerState::Up, &Counts::new());
    (clock, changes)
}

fn ended(reason: &str) -> Counts {
    Counts::from([(reason.to_owned(), 1)])
}

/// All but the start and the first session, the oldest first.
fn said(changes: &Changes) -> Vec<&str> {
    let mut texts: Vec<_> = changes.log.newest_first().map(|entry| &*entry.text).collect();
    texts.reverse();
    texts.split_off(texts.len().min(2))
}

fn node(name: &str, life: &str, state: Doing) -> Seen {
    let beat =
        Beat { node: name.to_owned(), version: "0.1.0".to_owned(), started: 1, state, connections: 1, channels: 1 };
    Seen { node: Myself { incarnation: life.to_owned(), beat }, age: Duration::ZERO }
}

#[test]
fn a_start() {
    let (_, changes) = up();
    let texts: Vec<_> = changes.log.newest_first().map(|entry| (&*entry.text, entry.tone)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let started = format!("this node has started, version {version}");
    assert_eq!(texts, [("a session with Redis is established", Tone::Good), (&*started, Tone::Plain)]);
}

#[test]
fn redis_goes_and_comes_back() {
    let (clock, mut changes) = up();
    assert!(changes.is_news(BrokerState::Away) && !changes.is_news(BrokerState::Up));
    changes.broker(clock.at(10), BrokerState::Away, &ended("closed"));
    // Every try that fails is counted, and is no change.
    changes.broker(clock.at(11), BrokerState::Away, &ended("failed"));
    assert_eq!(changes.broker_for(clock.at(12)), Duration::from_secs(2));
    changes.broker(clock.at(73), BrokerState::Up, &Counts::new());
    changes.broker(clock.at(80), BrokerState::Deaf, &ended("deaf"));
    changes.broker(clock.at(81), BrokerState::Up, &Counts::new());
    let expected = [
        "the session with Redis is lost: Redis closed the connection",
        "the session with Redis is established again, after 1m 3s",
        "Redis takes what this node says, and the node does not hear it",
        "the session with Redis is established again, after 1s",
    ];
    assert_eq!(said(&changes), expected);
}

#[test]
fn a_session_that_was_back_before_anybody_looked() {
    let (clock, mut changes) = up();
    changes.broker(clock.at(10), BrokerState::Up, &Counts::new());
    changes.broker(clock.at(11), BrokerState::Up, &ended("epoch"));
    let expected = "the session with Redis was lost and is established again: the data have begun another life";
    assert_eq!(said(&changes), [expected]);
}

#[test]
fn a_stop_is_said_once() {
    let (clock, mut changes) = up();
    changes.drains(clock.at(5));
    changes.drains(clock.at(6));
    assert_eq!(said(&changes), ["this node is stopping; its streams go elsewhere"]);
}

#[test]
fn nodes_come_stop_and_are_killed() {
    let (clock, mut changes) = up();
    let (one, two) = (node("one", "a", Doing::Serving), node("two", "b", Doing::Serving));
    changes.nodes(clock.at(20), &[&one, &two]);
    assert_eq!(said(&changes), Vec::<&str>::new(), "those that were there are no news");
    changes.nodes(clock.at(23), &[&one, &two]);
    changes.nodes(clock.at(26), &[&two]);
    changes.nodes(clock.at(29), &[&node("one", "c", Doing::Serving), &node("two", "b", Doing::Draining)]);
    changes.nodes(clock.at(32), &[&node("one", "c", Doing::Serving)]);
    let expected =
        ["one is gone; it did not say that it was stopping", "one came", "two is stopping", "two has stopped"];
    assert_eq!(said(&changes), expected);
}

#[test]
fn very_many_nodes_are_counted() {
    let (clock, mut changes) = up();
    changes.nodes(clock.at(20), &[]);
    let all: Vec<_> = (0..9).map(|n| node(&format!("n{n}"), &format!("life-{n}"), Doing::Serving)).collect();
    let all: Vec<_> = all.iter().collect();
    changes.nodes(clock.at(23), &all);
    changes.nodes(clock.at(26), &[]);
    assert_eq!(said(&changes), ["9 nodes came", "9 nodes are gone"]);
}

/// Redis has forgotten who was there, and they say it again within seconds.
#[test]
fn who_is_missing_when_redis_is_back_is_not_gone() {
    let (clock, mut changes) = up();
    let one = node("one", "a", Doing::Serving);
    changes.nodes(clock.at(20), &[&one]);
    changes.broker(clock.at(30), BrokerState::Away, &ended("closed"));
    changes.nodes(clock.at(31), &[]);
    changes.cannot_ask(clock.at(31), "connection refused");
    changes.broker(clock.at(40), BrokerState::Up, &Counts::new());
    changes.nodes(clock.at(41), &[]);
    changes.nodes(clock.at(44), &[&one]);
    changes.nodes(clock.at(51), &[&one]);
    assert_eq!(said(&changes).len(), 2, "{:?}", said(&changes));
    changes.nodes(clock.at(54), &[]);
    assert_eq!(said(&changes)[2], "one is gone; it did not say that it was stopping");
}

#[test]
fn nodes_that_cannot_be_asked_for() {
    let (clock, mut changes) = up();
    for at in [10, 13] {
        changes.cannot_ask(clock.at(at), "NOPERM");
    }
    changes.nodes(clock.at(16), &[]);
    let expected = ["Redis does not say which nodes there are: NOPERM", "Redis says again which nodes there are"];
    assert_eq!(said(&changes), expected);
}

#[test]
fn gaps_limits_and_silent_losses() {
    let (clock, mut changes) = up();
    let sample = |gaps: &[(&str, u64)], limited: &[(&str, u64)], silent_losses| {
        let counts = |of: &[(&str, u64)]| of.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect();
        Sample { gaps: counts(gaps), limited: counts(limited), silent_losses, ..Sample::default() }
    };
    let before = sample(&[("trimmed", 1)], &[("address", 1), ("head_timeout", 1)], 0);
    let after = sample(&[("trimmed", 2)], &[("address", 3), ("connects", 1), ("head_timeout", 9)], 2);
    changes.counted(clock.at(5), &before, &before);
    changes.counted(clock.at(6), &before, &after);
    let expected = [
        "1 gap told to streams: 1 trimmed",
        "3 were beyond a limit: 2 limits.max_connections_per_address, 1 limits.connects_per_second",
        "messages of a channel had not arrived, 2 times; they are read from history",
    ];
    assert_eq!(said(&changes), expected);
    changes.counted(clock.at(7), &after, &sample(&[("trimmed", 2), ("expired", 4)], &[], 2));
    assert_eq!(said(&changes)[0], "5 gaps told to streams: 4 expired, 1 trimmed");
}
