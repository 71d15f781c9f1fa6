//! `sse_cancel`.

use crate::support::everywhere;

#[tokio::test]
async fn a_cancellation_is_stored_and_heard() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse.cancel:job:7").await;
        let before = place.time().await;
        let cmd = place.call::<_, &str>("sse_cancel", &["sse:job:7"], &[]);
        assert_eq!(place.run::<u64>(&cmd).await.unwrap(), 1);
        let stored = place.stored("sse.cancel:job:7").await.unwrap();
        assert!((before..=place.time().await).contains(&stored.parse().unwrap()), "{stored}");
        assert_eq!(place.heard().await.2, stored.as_bytes());
    })
    .await;
}

#[tokio::test]
async fn nobody_listening_is_zero_receivers() {
    everywhere(async |place| {
        let cmd = place.call::<_, &str>("sse_cancel", &["sse:a"], &[]);
        assert_eq!(place.run::<u64>(&cmd).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_name_of_the_cancellation_stands_for_its_channel() {
    everywhere(async |place| {
        for (key, stored) in [
            ("sse.cancel:a", "sse.cancel:a"),
            ("sse.cancel:sse.cancel:b", "sse.cancel:sse.cancel:b"),
            ("sse:c.cancel:d", "sse.cancel:c.cancel:d"),
            ("sse.{7}.cancel:e", "sse.{7}.cancel:e"),
            ("sse:{7}:f.{8}.cancel:g", ""),
        ] {
            if stored.is_empty() {
                place.refusal::<_, &str>("sse_cancel", &[key], &[]).await;
                continue;
            }
            let cmd = place.call::<_, &str>("sse_cancel", &[key], &[]);
            place.run::<u64>(&cmd).await.unwrap();
            assert!(place.stored(stored).await.is_some(), "{key}");
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 4);
    })
    .await;
}
