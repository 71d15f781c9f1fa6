//! How long the history of a channel lives, and its last position.

use crate::support::{Place, everywhere};

const DAY_MS: i64 = 86_400_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// What may pass between a write and a look at it.
const SLACK_MS: i64 = 10_000;

/// Milliseconds that a key has left. -1: it is persistent, -2: there is none.
async fn left(place: &mut Place, key: &str) -> i64 {
    place.ask(&["PTTL", key]).await
}

async fn assert_left(place: &mut Place, key: &str, expected: i64) {
    let left = left(place, key).await;
    assert!((expected - SLACK_MS..=expected).contains(&left), "{key} has {left} ms left, not {expected}");
}

#[tokio::test]
async fn a_new_history_lives_an_hour() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        assert_left(place, "sse:a", 3_600_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_new_history_lives_as_long_as_is_said() {
    everywhere(async |place| {
        place.publish("sse:a", &["x", "", "100"]).await;
        assert_left(place, "sse:a", 100_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_later_event_lengthens_it() {
    everywhere(async |place| {
        place.publish("sse:a", &["x", "", "100"]).await;
        place.publish("sse:a", &["x", "", "200"]).await;
        assert_left(place, "sse:a", 200_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_later_event_never_shortens_it() {
    everywhere(async |place| {
        place.publish("sse:a", &["x", "", "200"]).await;
        place.publish("sse:a", &["x", "", "100"]).await;
        assert_left(place, "sse:a", 200_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_persistent_history_stays_so_and_its_last_position_too() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        place.ask::<()>(&["PERSIST", "sse:a"]).await;
        place.publish("sse:a", &["x"]).await;
        assert_eq!(left(place, "sse:a").await, -1);
        assert_eq!(left(place, "sse.last:a").await, -1);
    })
    .await;
}

#[tokio::test]
async fn a_history_that_was_emptied_keeps_its_expiry() {
    everywhere(async |place| {
        place.publish("sse:a", &["x", "", "7200"]).await;
        place.ask::<()>(&["XTRIM", "sse:a", "MAXLEN", "0"]).await;
        place.publish("sse:a", &["x"]).await;
        assert_left(place, "sse:a", 7_200_000).await;
    })
    .await;
}

#[tokio::test]
async fn the_longest_life_is_a_hundred_years() {
    everywhere(async |place| {
        place.publish("sse:a", &["x", "", "3153600000"]).await;
        assert_left(place, "sse:a", 3_153_600_000_000).await;
        assert_left(place, "sse.last:a", 3_153_600_000_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_last_position_lives_a_week() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        assert_left(place, "sse.last:a", WEEK_MS).await;
    })
    .await;
}

#[tokio::test]
async fn a_last_position_never_goes_before_its_history() {
    everywhere(async |place| {
        // Lengthened by the first, kept by the second.
        for ttl_s in ["2592000", "60"] {
            place.publish("sse:a", &["x", "", ttl_s]).await;
            assert_left(place, "sse:a", 30 * DAY_MS).await;
            // Asked in this order, the time in between is against it.
            let history = left(place, "sse:a").await;
            let at: i64 = place.ask(&["PEXPIRETIME", "sse:a"]).await;
            let last_at: i64 = place.ask(&["PEXPIRETIME", "sse.last:a"]).await;
            assert!(last_at >= at, "{last_at} is before {at}, with {history} ms left");
        }
    })
    .await;
}

#[tokio::test]
async fn the_clock_stays_for_good() {
    everywhere(async |place| {
        place.publish("sse:a", &["x"]).await;
        assert_eq!(left(place, "sse.clock").await, -1);
        place.ask::<()>(&["DEL", "sse.clock"]).await;
        place.clock("sse.clock").await;
        assert_eq!(left(place, "sse.clock").await, -1);
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_lives_ten_minutes_or_as_is_said() {
    everywhere(async |place| {
        place.publish("sse:a", &["x", "", "", "k1"]).await;
        assert_left(place, "sse.once:a:k1", 600_000).await;
        place.publish("sse:a", &["x", "", "", "k2", "", "60"]).await;
        assert_left(place, "sse.once:a:k2", 60_000).await;
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_lives_an_hour() {
    everywhere(async |place| {
        let cmd = place.call::<_, &str>("sse_cancel", &["sse:a"], &[]);
        place.run::<u64>(&cmd).await.unwrap();
        assert_left(place, "sse.cancel:a", 3_600_000).await;
    })
    .await;
}
