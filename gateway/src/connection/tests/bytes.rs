//! Exact bytes, and when they come.

use super::*;
use crate::hub::encoded::Format;
use shared::cursor::Tag;

/// The tag of epoch 1 with one partition.
const TAG: &str = "2ht7c";

fn opened(world: &mut World, channels: &[&str]) -> Connection {
    let mut connection = world.open(channels, &Request::default());
    let _ = written(&mut connection, Instant::now());
    connection
}

#[test]
fn opening() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let bytes = written(&mut connection, Instant::now());
    let (retry, rest) = bytes.split_once('\n').unwrap();
    let ms: u64 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((2_400..=3_600).contains(&ms));
    let (id, open) = rest.split_once("\n\n").unwrap();
    assert_eq!(id, format!("id: 100-0_{TAG}"));
    // For clients that take an id from events alone.
    let open = open.strip_suffix(&format!("\nid: 100-0_{TAG}\n\n")).unwrap();
    let data = open.strip_prefix("event: sse.open\ndata: ").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["node"], "n1");
    assert_eq!(data["connection"].as_str().unwrap().len(), 16);
}

#[test]
fn a_greeting_comes_first_and_carries_the_priming_id() {
    let mut world = World::new(1);
    let greeting = Some(Greeting { event: "connect", data: "연결되었습니다" });
    let mut connection = world.open(&["a"], &Request { greeting, ..Request::default() });
    let bytes = written(&mut connection, Instant::now());
    assert!(bytes.starts_with("event: connect\ndata: 연결되었습니다\nretry: "), "{bytes}");
    assert!(bytes.contains(&format!("\nid: 100-0_{TAG}\n\nevent: sse.open\n")), "{bytes}");
}

#[test]
fn who_comes_back_is_told_its_own_cursor() {
    let mut world = World::new(1);
    let cursor = format!("100-0_{TAG}");
    let resume = Resume::parse(&cursor);
    let mut connection = world.open(&["a"], &Request { resume, ..Request::default() });
    let bytes = written(&mut connection, Instant::now());
    let (retry, open) = bytes.split_once("\n\n").unwrap();
    assert!(retry.starts_with("retry: ") && !retry.contains("id:"), "{bytes}");
    assert!(open.starts_with("event: sse.open\n") && open.ends_with(&format!("\nid: {cursor}\n\n")), "{bytes}");
    for resume in [Resume::Earliest, Resume::Newest(3), Resume::Unknown] {
        let mut connection = world.open(&["a"], &Request { resume, ..Request::default() });
        let Next::Write(opening) = connection.next(Instant::now()) else { panic!("no opening") };
        assert!(!std::str::from_utf8(&opening.into_bytes()).unwrap().contains("id:"));
    }
}

#[test]
fn begins_where_the_node_has_heard_up_to() {
    let mut world = World::new(1);
    let other = opened(&mut world, &["b"]);
    world.hub.barrier(0, at(500));
    let mut connection = world.open(&["a"], &Request::default());
    assert!(written(&mut connection, Instant::now()).contains(&format!("\nid: 500-0_{TAG}\n\n")));
    drop(other);
}

#[test]
fn events_as_they_come() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    let now = Instant::now();
    world.publish("a", r#"{"event":"n","data":"x"}"#);
    assert_eq!(written(&mut connection, now), format!("event: n\ndata: x\nid: 100-1_{TAG}\n\n"));
    world.ephemeral("a", "hello");
    assert_eq!(written(&mut connection, now), "data: hello\n\n");
    assert_eq!(written(&mut connection, now), "");
    world.publish("b", "not ours");
    assert_eq!(written(&mut connection, now), "");
}

#[test]
fn json() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request { format: Format::Json, ..Request::default() });
    let _ = written(&mut connection, Instant::now());
    world.publish("a", r#"{"event":"n","data":{"x":1.0}}"#);
    let expected = format!(
        "data: {{\"channel\":\"a\",\"event\":\"n\",\"id\":\"100-1_{TAG}\",\"data\":{{\"x\":1.0}}}}\nid: 100-1_{TAG}\n\n"
    );
    assert_eq!(written(&mut connection, Instant::now()), expected);
}

#[test]
fn everything_pending_goes_out_in_one_write() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    for _ in 0..100 {
        world.publish("a", "x");
    }
    let Next::Write(bytes) = connection.next(Instant::now()) else { panic!("nothing to write") };
    assert_eq!(bytes.into_bytes().split(|&b| b == b'\n').filter(|line| *line == b"data: x").count(), 100);
    assert!(matches!(connection.next(Instant::now()), Next::Wait(_)));
}

#[test]
fn a_single_event_is_not_copied() {
    let mut world = World::new(1);
    let (mut one, mut other) = (opened(&mut world, &["a"]), opened(&mut world, &["a"]));
    world.publish("a", "x");
    let (Next::Write(first), Next::Write(second)) = (one.next(Instant::now()), other.next(Instant::now())) else {
        panic!("nothing to write")
    };
    assert_eq!(first.into_bytes().as_ptr(), second.into_bytes().as_ptr());
}

#[test]
fn writes_are_bounded() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    let data = "x".repeat(10_000);
    for _ in 0..20 {
        world.publish("a", &data);
    }
    let mut writes = Vec::new();
    while let Next::Write(bytes) = connection.next(Instant::now()) {
        writes.push(bytes.len());
    }
    assert!(writes.len() > 1 && writes.iter().all(|&bytes| bytes < MAX_WRITE + 20_000), "{writes:?}");
    assert!(writes.iter().sum::<usize>() > 200_000);
}

#[test]
fn several_partitions_have_a_cursor_of_their_own_each() {
    let mut world = World::new(16);
    let (a, b) = (
        "a",
        (1..)
            .map(|i| format!("b{i}"))
            .find(|b| world.keys.partition(&channel(b)) > world.keys.partition(&channel("a")))
            .unwrap(),
    );
    let (pa, pb) = (world.keys.partition(&channel(a)), world.keys.partition(&channel(&b)));
    let mut connection = opened(&mut world, &[&b, a]);
    let tag = Tag::of(&Epoch::from_bits(1), 16);
    world.publish(&b, "x");
    world.publish(a, "y");
    let expected =
        format!("data: x\nid: {pa}.100-0_{tag}~{pb}.100-1_{tag}\n\ndata: y\nid: {pa}.100-1_{tag}~{pb}.100-1_{tag}\n\n");
    let swapped =
        format!("data: y\nid: {pa}.100-1_{tag}~{pb}.100-0_{tag}\n\ndata: x\nid: {pa}.100-1_{tag}~{pb}.100-1_{tag}\n\n");
    let bytes = written(&mut connection, Instant::now());
    // Between partitions there is no order.
    assert!(bytes == expected || bytes == swapped, "{bytes}");
}

#[test]
fn keep_alive_after_silence_only() {
    let mut world = World::new(1);
    let start = Instant::now();
    let mut connection = opened(&mut world, &["a"]);
    let Next::Wait(until) = connection.next(start) else { panic!("nothing to say yet") };
    assert!((Duration::from_secs(16)..=Duration::from_secs(21)).contains(&(until - start)));
    assert_eq!(written(&mut connection, until), ":\n\n");
    let Next::Wait(next) = connection.next(until) else { panic!("said it once") };
    let halfway = until + (next - until) / 2;
    world.publish("a", "x");
    assert!(written(&mut connection, halfway).starts_with("data: x\n"));
    let Next::Wait(put_off) = connection.next(halfway) else { panic!("nothing to say") };
    assert!(put_off - halfway >= Duration::from_secs(16), "a write puts it off");
}

#[test]
fn keep_alive_carries_an_id_once_the_watermark_moved() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.hub.barrier(0, at(7_000));
    let late = Instant::now() + Duration::from_secs(60);
    assert_eq!(written(&mut connection, late), format!(":\nid: 7000-0_{TAG}\n\n"));
    assert_eq!(written(&mut connection, late + Duration::from_secs(60)), ":\n\n");
}

#[test]
fn heartbeat_event() {
    let mut world = World::with(1, LogLimits::default(), Some("ping"));
    let mut connection = opened(&mut world, &["a"]);
    let late = Instant::now() + Duration::from_secs(60);
    assert_eq!(written(&mut connection, late), "event: ping\ndata:\n\n");
}

#[test]
fn ends_when_all_its_channels_have() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a", "b"]);
    let now = Instant::now();
    world.publish("a", r#"{"end":true,"data":"bye"}"#);
    assert_eq!(written(&mut connection, now), format!("data: bye\nid: 100-1_{TAG}\n\n"));
    assert!(matches!(connection.next(now), Next::Wait(_)), "b goes on");
    world.publish("a", "again");
    world.publish("b", r#"{"end":true}"#);
    assert_eq!(written(&mut connection, now), format!("data: again\nid: 100-2_{TAG}\n\nid: 100-3_{TAG}\n\n"));
    assert!(matches!(connection.next(now), Next::Wait(_)), "a was opened again");
    world.publish("a", r#"{"end":true}"#);
    assert_eq!(written(&mut connection, now), format!("id: 100-4_{TAG}\n\n"));
    assert_eq!(connection.next(now), Next::End);
    assert_eq!(connection.next(now), Next::End);
}

#[test]
fn an_ephemeral_end_ends_nothing() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.ephemeral("a", r#"{"end":true,"data":"x"}"#);
    assert_eq!(written(&mut connection, Instant::now()), "data: x\n\n");
    assert!(matches!(connection.next(Instant::now()), Next::Wait(_)));
}

#[test]
fn a_slow_connection_is_sent_away_and_leaves_others_alone() {
    let mut world = World::with(1, LogLimits { events: 4, ..LogLimits::default() }, None);
    let (mut slow, mut quick) = (opened(&mut world, &["a"]), opened(&mut world, &["a"]));
    for _ in 0..5 {
        world.publish("a", "x");
        assert!(written(&mut quick, Instant::now()).starts_with("data: x\n"));
    }
    let bytes = written(&mut slow, Instant::now());
    assert!(bytes.starts_with("retry: ") && bytes.ends_with("\n\n") && bytes.len() < 20, "{bytes}");
    assert_eq!(slow.next(Instant::now()), Next::End);
}

#[test]
fn a_stopping_hub_sends_everybody_away() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    world.hub.close(Instant::now());
    assert!(written(&mut connection, Instant::now()).starts_with("retry: "));
    assert_eq!(connection.next(Instant::now()), Next::End);
    assert!(world.hub.attach(&channel("a"), &Arc::new(Wakeup::default())).is_err());
}

#[test]
fn what_is_pending_goes_out_before_a_stopping_hub_sends_away() {
    let mut world = World::new(1);
    let mut connection = opened(&mut world, &["a"]);
    let data = "x".repeat(10_000);
    for _ in 0..20 {
        world.publish("a", &data);
    }
    world.hub.close(Instant::now());
    let bytes = written(&mut connection, Instant::now());
    let (events, retry) = bytes.rsplit_once("\n\nretry: ").unwrap();
    assert_eq!(events.matches(&data).count(), 20, "more than one write");
    assert!(events.ends_with(&format!("id: 100-20_{TAG}")) && retry.ends_with("\n\n"), "{retry}");
    assert_eq!(connection.next(Instant::now()), Next::End);
}

#[test]
fn places_are_given_back() {
    let mut world = World::new(1);
    let connection = opened(&mut world, &["a"]);
    assert_eq!(world.gate.open(), 1);
    drop(connection);
    assert_eq!(world.gate.open(), 0);
    let gate = Gate::new(1);
    let place = gate.enter();
    assert!(place.is_some() && gate.enter().is_none());
    drop(place);
    assert!(gate.enter().is_some());
}
