//! What `sse_publish` says and keeps: messages, entries, positions and what came before.

use shared::position::Position;

use crate::support::{YEAR_MS, everywhere};

const EPOCH: &str = "0123456789abcdef";

#[tokio::test]
async fn a_subscriber_hears_position_previous_epoch_and_payload_byte_by_byte() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse:a").await;
        let mut previous = Position::ZERO;
        for payload in [&b"hello"[..], b"", b"\0\r\n\xFF\x1E1-1 0-0 x\n", "한글".as_bytes()] {
            let cmd = place.call("sse_publish", &["sse:a"], &[payload]);
            let (position, receivers): (String, u64) = place.run(&cmd).await.unwrap();
            assert_eq!(receivers, 1);
            let clock = place.stored("sse.clock").await.unwrap();
            let epoch = clock.split(' ').nth(1).unwrap();
            let expected = [format!("\x1E{position} {previous} {epoch}\n").as_bytes(), payload].concat();
            let (_, name, message) = place.heard().await;
            assert_eq!(name, "sse:a");
            assert_eq!(message.escape_ascii().to_string(), expected.escape_ascii().to_string());
            previous = position.parse().unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_listening_is_zero_receivers() {
    everywhere(async |place| assert_eq!(place.publish("sse:a", &["x"]).await.1, 0)).await;
}

#[tokio::test]
async fn the_long_answer_has_duplicate_and_epoch() {
    everywhere(async |place| {
        let cmd = place.call("sse_publish", &["sse:a"], &["x", "", "", "", "1"]);
        let (position, receivers, duplicate, epoch): (String, u64, u64, String) = place.run(&cmd).await.unwrap();
        assert_eq!((receivers, duplicate), (0, 0));
        let clock = place.stored("sse.clock").await.unwrap();
        assert_eq!(clock, format!("{position} {epoch} {}", place.replid().await));
    })
    .await;
}

#[tokio::test]
async fn an_entry_has_the_position_and_the_previous_and_the_payload() {
    everywhere(async |place| {
        let (first, _) = place.publish("sse:a", &["one"]).await;
        let (second, _) = place.publish("sse:a", &["two"]).await;
        let entry = |position: Position, previous: Position, payload: &str| {
            let fields = vec![("p".into(), previous.to_string().into_bytes()), ("d".into(), payload.into())];
            (position.to_string(), fields)
        };
        assert_eq!(place.entries("sse:a").await, [entry(first, Position::ZERO, "one"), entry(second, first, "two")]);
    })
    .await;
}

#[tokio::test]
async fn the_last_position_is_that_of_the_latest_event_of_the_channel() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        let (a, _) = place.publish("sse:a", &["x"]).await;
        let (b, _) = place.publish("sse:a:b", &["x"]).await;
        assert_eq!(place.stored("sse.last:a").await, Some(a.to_string()));
        assert_eq!(place.stored("sse.last:a:b").await, Some(b.to_string()));
    })
    .await;
}

#[tokio::test]
async fn positions_rise_over_channels_also_within_one_millisecond() {
    everywhere(async |place| {
        let calls: Vec<_> = (0..500).map(|i| place.call("sse_publish", &[&format!("sse:{}", i % 7)], &["x"])).collect();
        let mut latest = Position::ZERO;
        for answer in place.run_all(&calls).await {
            let (position, _): (String, u64) = redis::from_redis_value(answer).unwrap();
            let position = position.parse().unwrap();
            assert!(position > latest, "{position} after {latest}");
            latest = position;
        }
        assert!(place.stored("sse.clock").await.unwrap().starts_with(&format!("{latest} ")));
    })
    .await;
}

#[tokio::test]
async fn a_position_is_the_time_of_the_server() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        let before = place.time().await;
        let (position, _) = place.publish("sse:a", &["x"]).await;
        assert!((before..=place.time().await).contains(&position.ms), "{position}");
    })
    .await;
}

#[tokio::test]
async fn a_clock_ahead_of_time_is_counted_on() {
    everywhere(async |place| {
        let ahead = place.time().await + YEAR_MS;
        place.ask::<()>(&["SET", "sse.clock", &format!("{ahead}-7 {EPOCH} r")]).await;
        assert_eq!(place.publish("sse:a", &["x"]).await.0, Position { ms: ahead, seq: 8 });
        assert_eq!(place.publish("sse:b", &["x"]).await.0, Position { ms: ahead, seq: 9 });
        assert_eq!(place.stored("sse.clock").await, Some(format!("{ahead}-9 {EPOCH} r")));
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_has_counted_all_it_can_goes_on_in_the_next_millisecond() {
    everywhere(async |place| {
        let ahead = place.time().await + YEAR_MS;
        place.ask::<()>(&["SET", "sse.clock", &format!("{ahead}-9007199254740990 {EPOCH} r")]).await;
        let expected = [(ahead, 9_007_199_254_740_991), (ahead + 1, 0), (ahead + 1, 1)];
        for (ms, seq) in expected {
            assert_eq!(place.publish("sse:a", &["x"]).await.0, Position { ms, seq });
        }
    })
    .await;
}

#[tokio::test]
async fn a_last_position_ahead_of_the_clock_is_counted_on() {
    everywhere(async |place| {
        let ahead = place.time().await + YEAR_MS;
        place.ask::<()>(&["SET", "sse.last:a", &format!("{ahead}-3 end")]).await;
        let (position, _) = place.publish("sse:a", &["x"]).await;
        assert_eq!(position, Position { ms: ahead, seq: 4 });
        assert_eq!(place.entries("sse:a").await[0].1[0].1, format!("{ahead}-3").into_bytes());
    })
    .await;
}

#[tokio::test]
async fn the_previous_position_outlives_the_history() {
    everywhere(async |place| {
        let (first, _) = place.publish("sse:a", &["x"]).await;
        place.ask::<()>(&["DEL", "sse:a"]).await;
        place.publish("sse:a", &["x"]).await;
        assert_eq!(place.entries("sse:a").await[0].1[0].1, first.to_string().into_bytes());
    })
    .await;
}

#[tokio::test]
async fn the_previous_position_is_the_top_of_the_history_where_the_last_one_is_gone() {
    everywhere(async |place| {
        let (first, _) = place.publish("sse:a", &["x"]).await;
        for gone in ["", "no position", "9007199254740992-0"] {
            place.ask::<()>(&["SET", "sse.last:a", gone]).await;
            place.publish("sse:a", &["x"]).await;
            let entries = place.entries("sse:a").await;
            let before = &entries[entries.len() - 2].0;
            assert_eq!(entries.last().unwrap().1[0].1, before.as_bytes(), "last was {gone:?}");
        }
        place.ask::<()>(&["DEL", "sse.last:a"]).await;
        assert!(place.publish("sse:a", &["x"]).await.0 > first);
    })
    .await;
}

#[tokio::test]
async fn an_entry_that_somebody_else_added_is_the_previous_one() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        let ahead = place.time().await + YEAR_MS;
        place.ask::<()>(&["XADD", "sse:a", &format!("{ahead}-5"), "f", "v"]).await;
        assert_eq!(place.publish("sse:a", &["x"]).await.0, Position { ms: ahead, seq: 6 });
        let entries = place.entries("sse:a").await;
        assert_eq!(entries.last().unwrap().1[0].1, format!("{ahead}-5").into_bytes());
    })
    .await;
}

#[tokio::test]
async fn more_channels_than_are_remembered_go_on_where_they_were() {
    everywhere(async |place| {
        // The text remembers 4,096, and forgets all of them at once.
        let names: Vec<_> = (0..4_500).map(|i| format!("sse:{i}")).collect();
        let mut latest: Vec<Option<String>> = vec![None; names.len()];
        for _ in 0..3 {
            for (names, latest) in names.chunks(500).zip(latest.chunks_mut(500)) {
                let calls: Vec<_> = names.iter().map(|name| place.call("sse_publish", &[name], &["x"])).collect();
                for (answer, latest) in place.run_all(&calls).await.into_iter().zip(latest) {
                    *latest = Some(redis::from_redis_value::<(String, u64)>(answer).unwrap().0);
                }
            }
        }
        for (name, latest) in names.iter().zip(latest).step_by(97) {
            let entries = place.entries(name).await;
            let previous: Vec<_> = entries.iter().map(|(_, fields)| String::from_utf8_lossy(&fields[0].1)).collect();
            assert_eq!(previous, ["0-0", entries[0].0.as_str(), entries[1].0.as_str()], "{name}");
            assert_eq!(latest.as_ref(), Some(&entries[2].0));
            assert_eq!(place.stored(&name.replace(':', ".last:")).await, latest);
        }
    })
    .await;
}

#[tokio::test]
async fn history_keeps_so_many_entries_or_a_block_more() {
    // Redis takes whole blocks off a stream, of 100 entries by default.
    everywhere(async |place| {
        for (key, history, bound) in [("sse:a", "50", 50), ("sse:b", "", 1_000)] {
            let calls: Vec<_> = (0..1_500).map(|_| place.call("sse_publish", &[key], &["x", history])).collect();
            place.run_all(&calls).await;
            let length: u64 = place.ask(&["XLEN", key]).await;
            assert!((bound..bound + 100).contains(&length), "{key} has {length}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_publish_without_a_clock_starts_an_epoch_that_the_clock_keeps() {
    everywhere(async |place| {
        let (position, _) = place.publish("sse:a", &["x"]).await;
        let stored = place.stored("sse.clock").await.unwrap();
        let (clock, epoch, _) = place.clock("sse.clock").await;
        assert_eq!(clock, position);
        assert_eq!(stored, format!("{position} {epoch} {}", place.replid().await));
    })
    .await;
}

#[tokio::test]
async fn a_malformed_clock_is_none() {
    everywhere(async |place| {
        for malformed in [
            "",
            "x",
            "1-1",
            "1-1 abc",
            "1-1 abc def ghi",
            "1-1  abc def",
            "1 abc def",
            "-1-1 abc def",
            "1-1 a_c def",
            "9007199254740992-0 abc def",
            "0-9007199254740992 abc def",
            &format!("1-1 {} def", "x".repeat(41)),
        ] {
            place.ask::<()>(&["SET", "sse.clock", malformed]).await;
            let (position, _) = place.publish("sse:a", &["x"]).await;
            let clock = place.stored("sse.clock").await.unwrap();
            let (at, epoch) =
                clock.strip_suffix(&format!(" {}", place.replid().await)).unwrap().split_once(' ').unwrap();
            assert_eq!(at, position.to_string());
            assert!(epoch.len() == 16 && epoch != "abc", "{malformed:?} became {clock:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_publish_leaves_it_to_the_clock_to_find_another_life_of_the_data() {
    everywhere(async |place| {
        place.ask::<()>(&["SET", "sse.clock", &format!("1-1 {EPOCH} another")]).await;
        let (position, _) = place.publish("sse:a", &["x"]).await;
        assert_eq!(place.stored("sse.clock").await, Some(format!("{position} {EPOCH} another")));
    })
    .await;
}
