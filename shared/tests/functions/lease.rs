//! `sse_lease`: never more than the limit, and what is not renewed is free again.

use redis::Value;
use testkit::eventually;

use crate::support::{Place, everywhere};

const USER: &str = "sse.user:42";

/// Granted, held, added.
async fn lease(place: &mut Place, ttl_ms: &str, limit: &str, leases: &[&str]) -> (u64, u64, u64) {
    let args = [&[ttl_ms, limit], leases].concat();
    let cmd = place.call("sse_lease", &[USER], &args);
    place.run(&cmd).await.unwrap()
}

#[tokio::test]
async fn as_many_as_the_limit_and_no_more() {
    everywhere(async |place| {
        assert_eq!(lease(place, "60000", "2", &["n1/0"]).await, (1, 1, 1));
        assert_eq!(lease(place, "60000", "2", &["n2/0"]).await, (1, 2, 1));
        assert_eq!(lease(place, "60000", "2", &["n3/0"]).await, (0, 2, 0));
        assert_eq!(lease(place, "60000", "2", &["n1/0"]).await, (1, 2, 0), "one that is held is no new one");
        assert_eq!(lease(place, "60000", "3", &["n3/0", "n3/1"]).await, (0, 2, 0), "all or none");
        assert_eq!(lease(place, "60000", "", &["n3/0", "n3/1"]).await, (1, 4, 2), "without a limit");
        let mut held: Vec<String> = place.ask(&["ZRANGE", USER, "0", "-1"]).await;
        held.sort_unstable();
        assert_eq!(held, ["n1/0", "n2/0", "n3/0", "n3/1"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_given_back_is_free_and_the_last_one_leaves_nothing() {
    everywhere(async |place| {
        lease(place, "60000", "2", &["a", "b"]).await;
        assert_eq!(lease(place, "0", "", &["a", "never"]).await, (1, 1, 1));
        assert_eq!(lease(place, "60000", "2", &["c"]).await, (1, 2, 1));
        assert_eq!(lease(place, "0", "", &["b", "c"]).await, (1, 0, 2));
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_renewed_expires_by_the_clock_of_the_server() {
    everywhere(async |place| {
        let before = place.time().await;
        lease(place, "60000", "", &["kept"]).await;
        lease(place, "1", "", &["killed"]).await;
        let score: f64 = place.ask(&["ZSCORE", USER, "kept"]).await;
        let range = before + 60_000..=place.time().await + 60_000;
        assert!(range.contains(&(score as u64)), "{score} {range:?}");
        let expiry: u64 = place.ask(&["PTTL", USER]).await;
        assert!((50_000..=60_000).contains(&expiry), "a shorter lease does not shorten the others: {expiry}");
        let place = tokio::sync::Mutex::new(place);
        eventually("the place of the one that was killed", async || {
            let mut place = place.lock().await;
            let answer = lease(*place, "60000", "2", &["next"]).await;
            (answer.0 == 1).then(|| assert_eq!(answer, (1, 2, 1)))
        })
        .await;
        let held: Vec<String> = place.lock().await.ask(&["ZRANGE", USER, "0", "-1"]).await;
        assert_eq!(held, ["kept", "next"]);
    })
    .await;
}

#[tokio::test]
async fn users_are_apart_and_partitions_have_their_own() {
    everywhere(async |place| {
        for key in ["sse.user:a", "sse.user:b", "app.user:a", "sse.user:user:a", "sse.user:한글"] {
            let cmd = place.call("sse_lease", &[key], &["60000", "1", "x"]);
            assert_eq!(place.run::<(u64, u64, u64)>(&cmd).await.unwrap(), (1, 1, 1), "{key}");
        }
        let cmd = place.call("sse_lease", &["sse.{7}.user:a"], &["60000", "1", "x"]);
        assert_eq!(place.run::<(u64, u64, u64)>(&cmd).await.unwrap(), (1, 1, 1));
    })
    .await;
}

#[tokio::test]
async fn wrong_input_is_refused_before_anything_is_written() {
    let long = "x".repeat(129);
    everywhere(async |place| {
        for (key, args, expected) in [
            (USER, &["1000", "3"][..], "a lease is missing"),
            (USER, &["-1", "3", "a"], "ttl_ms is not a whole number from 0 to 3600000"),
            (USER, &["3600001", "3", "a"], "ttl_ms is not a whole number from 0 to 3600000"),
            (USER, &["", "3", "a"], "ttl_ms is not a whole number from 0 to 3600000"),
            (USER, &["1000", "0", "a"], "limit is not a whole number from 1 to 1000000"),
            (USER, &["1000", "x", "a"], "limit is not a whole number from 1 to 1000000"),
            (USER, &["1000", "3", ""], "lease has 0 bytes, the limit is 1 to 128"),
            (USER, &["1000", "3", &long], "lease has 129 bytes, the limit is 1 to 128"),
            (USER, &["1000", "3", "a b"], "lease has a byte that is not printable ASCII, or a space"),
            (
                "sse:user:42",
                &["1000", "3", "a"],
                "key is not <prefix>.user:<id> or <prefix>.{<n>}.user:<id>, prefix 1 to 32 of A-Z a-z 0-9 _ -, n 0 to 16383",
            ),
            (
                "sse.user:",
                &["1000", "3", "a"],
                "key is not <prefix>.user:<id> or <prefix>.{<n>}.user:<id>, prefix 1 to 32 of A-Z a-z 0-9 _ -, n 0 to 16383",
            ),
            ("sse.user:a b", &["1000", "3", "a"], "key has a user with a control character, white space, {, } or *"),
        ] {
            assert_eq!(place.refusal("sse_lease", &[key], args).await, format!("ERR sse_lease: {expected}"), "{args:?}");
        }
        let many: Vec<String> = ["1000", ""].iter().map(ToString::to_string).chain((0..1_001).map(|n| n.to_string())).collect();
        let refusal = place.refusal("sse_lease", &[USER], &many).await;
        assert_eq!(refusal, "ERR sse_lease: leases are 1001, the limit is 1000");
        let most = &many[..1_002];
        let cmd = place.call("sse_lease", &[USER], most);
        assert_eq!(place.run::<(u64, u64, u64)>(&cmd).await.unwrap(), (1, 1_000, 1_000));
        place.ask::<Value>(&["DEL", USER]).await;
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}
