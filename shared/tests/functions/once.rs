//! Idempotency keys.

use shared::position::Position;

use crate::support::everywhere;

#[tokio::test]
async fn a_repetition_gets_the_same_position_and_no_receivers() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse:a").await;
        let (position, receivers) = place.publish("sse:a", &["x", "", "", "k"]).await;
        assert_eq!(receivers, 1);
        place.heard().await;
        assert_eq!(place.publish("sse:a", &["x", "", "", "k"]).await, (position, 0));
        assert_eq!(place.publish("sse:a", &["something else", "", "", "k"]).await, (position, 0));
    })
    .await;
}

#[tokio::test]
async fn a_repetition_adds_nothing_and_nobody_hears_it() {
    everywhere(async |place| {
        let (position, _) = place.publish("sse:a", &["x", "", "", "k"]).await;
        let clock = place.stored("sse.clock").await;
        place.listen("SUBSCRIBE", "sse:a").await;
        place.publish("sse:a", &["{\"end\":true}", "", "7200", "k"]).await;
        place.nothing_was_heard("sse:a").await;
        assert_eq!(place.ask::<u64>(&["XLEN", "sse:a"]).await, 1);
        assert!(place.ask::<u64>(&["PTTL", "sse:a"]).await <= 3_600_000);
        assert_eq!(place.stored("sse.last:a").await, Some(position.to_string()));
        assert_eq!(place.stored("sse.clock").await, clock);
    })
    .await;
}

#[tokio::test]
async fn a_repetition_is_told_the_epoch_of_the_first() {
    everywhere(async |place| {
        let args = ["x", "", "", "k", "1"];
        let cmd = place.call("sse_publish", &["sse:a"], &args);
        let (position, _, _, epoch): (String, u64, u64, String) = place.run(&cmd).await.unwrap();
        assert_eq!(place.stored("sse.once:a:k").await, Some(format!("{position} {epoch}")));
        // Meanwhile another epoch has begun.
        place.ask::<()>(&["DEL", "sse.clock"]).await;
        assert_ne!(place.clock("sse.clock").await.1, epoch);
        let repeated: (String, u64, u64, String) = place.run(&cmd).await.unwrap();
        assert_eq!(repeated, (position, 0, 1, epoch));
    })
    .await;
}

#[tokio::test]
async fn a_key_holds_for_one_channel() {
    everywhere(async |place| {
        let (a, _) = place.publish("sse:a", &["x", "", "", "k"]).await;
        let (b, _) = place.publish("sse:b", &["x", "", "", "k"]).await;
        assert!(b > a);
        // Texts that would be one, were they only put together.
        let (c, _) = place.publish("sse:user", &["x", "", "", "42:k"]).await;
        let (d, _) = place.publish("sse:user:42", &["x", "", "", "k"]).await;
        let (e, _) = place.publish("sse:user", &["x", "", "", "42%3Ak"]).await;
        assert!(c > b && d > c && e > d);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_has_expired_is_unknown() {
    everywhere(async |place| {
        let (first, _) = place.publish("sse:a", &["x", "", "", "k"]).await;
        place.ask::<()>(&["DEL", "sse.once:a:k"]).await;
        assert!(place.publish("sse:a", &["x", "", "", "k"]).await.0 > first);
    })
    .await;
}

#[tokio::test]
async fn a_key_of_somebody_elses_is_unknown() {
    everywhere(async |place| {
        for foreign in ["", "x", "1-1", "1 abc", "1-1 abc d"] {
            place.ask::<()>(&["SET", "sse.once:a:k", foreign]).await;
            let (position, _) = place.publish("sse:a", &["x", "", "", "k"]).await;
            assert!(position > Position { ms: 1, seq: 1 }, "{foreign:?}");
            assert!(place.stored("sse.once:a:k").await.unwrap().starts_with(&position.to_string()), "{foreign:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn no_key_is_no_idempotency() {
    everywhere(async |place| {
        let (first, _) = place.publish("sse:a", &["x", "", "", ""]).await;
        assert!(place.publish("sse:a", &["x", "", "", ""]).await.0 > first);
        assert_eq!(place.ask::<Vec<String>>(&["KEYS", "sse.once*"]).await, Vec::<String>::new());
    })
    .await;
}
