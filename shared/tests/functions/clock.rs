//! `sse_clock`: epochs, a clock that neither stands still nor runs back, and a node that hears itself.

use redis::PushKind;
use shared::position::Position;

use crate::support::{Place, YEAR_MS, everywhere};

const EPOCH: &str = "0123456789abcdef";

/// A clock so many milliseconds behind or ahead of TIME, of this life of the data. Its position.
async fn set_clock(place: &mut Place, offset: i64, seq: u64) -> Position {
    let position = Position { ms: place.time().await.checked_add_signed(offset).unwrap(), seq };
    let clock = format!("{position} {EPOCH} {}", place.replid().await);
    place.ask::<()>(&["SET", "sse.clock", &clock]).await;
    position
}

#[tokio::test]
async fn the_first_call_starts_an_epoch() {
    everywhere(async |place| {
        let before = place.time().await;
        let (position, epoch, time) = place.clock("sse.clock").await;
        assert_eq!(position, Position { ms: time, seq: 0 });
        assert!((before..=place.time().await).contains(&time));
        assert!(epoch.len() == 16 && epoch.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{epoch}");
        let expected = format!("{position} {epoch} {}", place.replid().await);
        assert_eq!(place.stored("sse.clock").await, Some(expected));
    })
    .await;
}

#[tokio::test]
async fn a_later_call_keeps_it() {
    everywhere(async |place| {
        let (position, epoch, _) = place.clock("sse.clock").await;
        let again = place.clock("sse.clock").await;
        assert_eq!((again.0, again.1), (position, epoch));
    })
    .await;
}

#[tokio::test]
async fn two_epochs_never_have_one_name() {
    everywhere(async |place| {
        let mut epochs = std::collections::HashSet::new();
        for _ in 0..50 {
            place.ask::<()>(&["DEL", "sse.clock"]).await;
            assert!(epochs.insert(place.clock("sse.clock").await.1));
        }
    })
    .await;
}

#[tokio::test]
async fn who_trusts_a_failover_keeps_the_epoch_and_says_which_server_it_is_now() {
    everywhere(async |place| {
        let position = set_clock(place, -1, 7).await;
        let stored = format!("{position} {EPOCH} another");
        for (trusting, kept) in [("1", true), ("0", false), ("", false)] {
            place.ask::<()>(&["SET", "sse.clock", &stored]).await;
            let cmd = place.call("sse_clock", &["sse.clock"], &["", trusting]);
            let (at, epoch, _): (String, String, u64) = place.run(&cmd).await.unwrap();
            assert_eq!(epoch == EPOCH, kept, "{trusting:?}");
            // Beyond whatever the other server may have given away.
            let ahead = at.split_once('-').unwrap().0.parse::<u64>().unwrap().checked_sub(position.ms).unwrap();
            assert_eq!((60_000..120_000).contains(&ahead), kept, "{trusting:?}: {ahead}");
            let expected = format!("{at} {epoch} {}", place.replid().await);
            assert_eq!(place.stored("sse.clock").await, Some(expected));
        }
        // One that is missing, or is none, is another life.
        for stored in [None, Some("nonsense")] {
            match stored {
                Some(text) => place.ask::<()>(&["SET", "sse.clock", text]).await,
                None => place.ask::<()>(&["DEL", "sse.clock"]).await,
            }
            let cmd = place.call("sse_clock", &["sse.clock"], &["", "1"]);
            let (_, epoch, _): (String, String, u64) = place.run(&cmd).await.unwrap();
            assert_ne!(epoch, EPOCH, "{stored:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn another_life_of_the_data_is_another_epoch_and_the_clock_moves_on() {
    everywhere(async |place| {
        let ahead = place.time().await + YEAR_MS;
        for (stored, expected) in [(format!("{ahead}-5"), Some(Position { ms: ahead, seq: 6 })), ("1-1".into(), None)] {
            place.ask::<()>(&["SET", "sse.clock", &format!("{stored} {EPOCH} another")]).await;
            let (position, epoch, time) = place.clock("sse.clock").await;
            assert_ne!(epoch, EPOCH);
            assert_eq!(position, expected.unwrap_or(Position { ms: time, seq: 0 }));
            let expected = format!("{position} {epoch} {}", place.replid().await);
            assert_eq!(place.stored("sse.clock").await, Some(expected));
        }
    })
    .await;
}

#[tokio::test]
async fn a_malformed_clock_is_none() {
    everywhere(async |place| {
        let replid = place.replid().await;
        let long = "x".repeat(41);
        for malformed in ["", "x", "1-1 abc", "9007199254740992-0 abc R", "1-1 a_c R", &format!("1-1 {long} R")] {
            place.ask::<()>(&["SET", "sse.clock", &malformed.replace('R', &replid)]).await;
            let (position, epoch, time) = place.clock("sse.clock").await;
            assert_eq!((position, epoch.len()), (Position { ms: time, seq: 0 }, 16), "{malformed:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_clock_older_than_a_minute_is_raised() {
    everywhere(async |place| {
        set_clock(place, -60_001, 7).await;
        let (position, epoch, time) = place.clock("sse.clock").await;
        assert_eq!((position, epoch.as_str()), (Position { ms: time, seq: 0 }, EPOCH));
        let expected = format!("{position} {EPOCH} {}", place.replid().await);
        assert_eq!(place.stored("sse.clock").await, Some(expected));
    })
    .await;
}

#[tokio::test]
async fn a_doubted_epoch_is_over_once() {
    everywhere(async |place| {
        let (position, first, _) = place.clock("sse.clock").await;
        let doubt = async |place: &mut Place, doubted: &str| -> (String, String, u64) {
            let cmd = place.call("sse_clock", &["sse.clock"], &["", "", doubted]);
            place.run(&cmd).await.unwrap()
        };
        let (again, same, _) = doubt(place, "0123456789abcdef").await;
        assert_eq!((again, &same), (position.to_string(), &first), "it is not the one that was doubted");
        let (later, second, _) = doubt(place, &first).await;
        assert_ne!(second, first);
        assert_ne!(later, position.to_string(), "no position of the old one is one of the new");
        // Others had the same doubts.
        assert_eq!(doubt(place, &first).await.1, second);
    })
    .await;
}

#[tokio::test]
async fn a_younger_clock_stays() {
    everywhere(async |place| {
        for offset in [-30_000, 0, 30_000] {
            let position = set_clock(place, offset, 7).await;
            assert_eq!(place.clock("sse.clock").await.0, position);
            assert!(place.stored("sse.clock").await.unwrap().starts_with(&format!("{position} ")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_stays_is_not_written() {
    everywhere(async |place| {
        set_clock(place, 0, 0).await;
        let changes = async |place: &mut Place| -> String {
            let info: String = place.ask(&["INFO", "persistence"]).await;
            info.lines().find(|line| line.starts_with("rdb_changes_since_last_save")).unwrap().to_owned()
        };
        let before = changes(place).await;
        place.clock("sse.clock").await;
        assert_eq!(changes(place).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_node_hears_the_whole_clock_on_its_own_channel() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse.node:A-z_0.9").await;
        let cmd = place.call("sse_clock", &["sse.clock"], &["A-z_0.9"]);
        let (position, epoch, _): (String, String, u64) = place.run(&cmd).await.unwrap();
        let (kind, name, message) = place.heard().await;
        assert_eq!((kind, name.as_str()), (PushKind::Message, "sse.node:A-z_0.9"));
        let expected = format!("{position} {epoch} {}", place.replid().await);
        assert_eq!(String::from_utf8(message).unwrap(), expected);
        assert_eq!(place.stored("sse.clock").await, Some(expected));
    })
    .await;
}

#[tokio::test]
async fn without_a_node_nobody_hears_anything() {
    everywhere(async |place| {
        for name in ["sse.node:", "sse.clock"] {
            place.listen("SUBSCRIBE", name).await;
            place.clock("sse.clock").await;
            let cmd = place.call("sse_clock", &["sse.clock"], &[""]);
            place.run::<redis::Value>(&cmd).await.unwrap();
            place.nothing_was_heard(name).await;
        }
    })
    .await;
}
