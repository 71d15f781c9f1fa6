//! `sse_presence` and `sse_absent`: one event when a user comes, one when they have been gone for a while, and none in between.

use serde_json::Value as Json;
use testkit::eventually;

use crate::support::{Place, everywhere};

const CHANNEL: &str = "sse:presence:42";
const LEAVING: &str = "sse.leaving";

/// Granted, held, added.
async fn lease(place: &mut Place, ttl_ms: &str, grace_ms: &str, leases: &[&str]) -> (u64, u64, u64) {
    let args = [&[ttl_ms, grace_ms], leases].concat();
    let cmd = place.call("sse_presence", &[CHANNEL], &args);
    place.run(&cmd).await.unwrap()
}

async fn look(place: &mut Place, grace_ms: &str) -> u64 {
    let cmd = place.call("sse_absent", &[LEAVING], &[grace_ms, "100"]);
    place.run(&cmd).await.unwrap()
}

/// What was told of the user so far.
async fn told(place: &mut Place) -> Vec<String> {
    let entries: Vec<(String, Vec<String>)> = place.ask(&["XRANGE", CHANNEL, "-", "+"]).await;
    let event = |(_, fields): (String, Vec<String>)| {
        let payload: Json = serde_json::from_str(&fields[3]).unwrap();
        assert_eq!(payload["data"]["user"], "42");
        payload["event"].as_str().unwrap().to_owned()
    };
    entries.into_iter().map(event).collect()
}

#[tokio::test]
async fn who_comes_is_online_once_however_many_connections_there_are() {
    everywhere(async |place| {
        assert_eq!(lease(place, "60000", "60000", &["n1/0"]).await, (1, 1, 1));
        assert_eq!(lease(place, "60000", "60000", &["n2/0", "n2/1"]).await, (1, 3, 2));
        assert_eq!(lease(place, "60000", "60000", &["n1/0"]).await, (1, 3, 0), "renewed");
        assert_eq!(told(place).await, ["online"]);
        assert_eq!(look(place, "60000").await, 0, "nobody is due");
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_within_the_grace_was_never_away() {
    everywhere(async |place| {
        lease(place, "60000", "60000", &["a", "b"]).await;
        assert_eq!(lease(place, "0", "60000", &["a", "b", "never"]).await, (1, 0, 2));
        assert_eq!(look(place, "60000").await, 0);
        lease(place, "60000", "60000", &["c"]).await;
        assert_eq!(look(place, "60000").await, 0);
        assert_eq!(told(place).await, ["online"]);
    })
    .await;
}

#[tokio::test]
async fn who_leaves_is_offline_after_the_grace_and_leaves_nothing_but_what_was_told() {
    everywhere(async |place| {
        lease(place, "60000", "1", &["a", "b"]).await;
        lease(place, "0", "1", &["a"]).await;
        assert_eq!(look(place, "1").await, 0, "one is left");
        lease(place, "0", "1", &["b"]).await;
        let place = tokio::sync::Mutex::new(place);
        eventually("it is offline", async || {
            let mut place = place.lock().await;
            look(*place, "1").await;
            (told(*place).await == ["online", "offline"]).then_some(())
        })
        .await;
        let mut place = place.lock().await;
        assert_eq!(look(*place, "1").await, 0, "told once");
        assert_eq!(place.ask::<u64>(&["EXISTS", LEAVING, "sse.present:42"]).await, 0);
        lease(*place, "60000", "1", &["c"]).await;
        assert_eq!(told(*place).await, ["online", "offline", "online"]);
        // What is heard later has the greater position.
        let entries: Vec<(String, Vec<String>)> = place.ask(&["XRANGE", CHANNEL, "-", "+"]).await;
        assert!(entries.windows(2).all(|pair| pair[1].1[1] == pair[0].0), "each follows on the one before");
    })
    .await;
}

#[tokio::test]
async fn leases_of_a_node_that_was_killed_run_out() {
    everywhere(async |place| {
        lease(place, "1", "1", &["killed"]).await;
        let place = tokio::sync::Mutex::new(place);
        eventually("it is offline", async || {
            let mut place = place.lock().await;
            look(*place, "1").await;
            (told(*place).await == ["online", "offline"]).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn partitions_have_their_own() {
    everywhere(async |place| {
        if place.is_script() {
            return;
        }
        let cmd = place.call("sse_presence", &["sse:{7}:presence:42"], &["60000", "0", "x"]);
        assert_eq!(place.run::<(u64, u64, u64)>(&cmd).await.unwrap(), (1, 1, 1));
        assert_eq!(place.ask::<u64>(&["XLEN", "sse:{7}:presence:42"]).await, 1);
        assert_eq!(place.ask::<u64>(&["EXISTS", "sse.{7}.leaving", "sse.{7}.present:42"]).await, 2);
        let cmd = place.call("sse_presence", &["sse:{7}:presence:42"], &["0", "0", "x"]);
        place.run::<(u64, u64, u64)>(&cmd).await.unwrap();
        let cmd = place.call("sse_absent", &["sse.{7}.leaving"], &["0", "10"]);
        assert_eq!(place.run::<u64>(&cmd).await.unwrap(), 1);
        assert_eq!(place.ask::<u64>(&["XLEN", "sse:{7}:presence:42"]).await, 2);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_written() {
    everywhere(async |place| {
        for (key, args, expected) in [
            ("sse:user:42", &["1", "1", "a"][..], "key is not <prefix>:presence:<id>"),
            ("sse:presence:", &["1", "1", "a"], "key is not <prefix>:presence:<id>"),
            (CHANNEL, &["1", "1"], "a lease is missing"),
            (CHANNEL, &["x", "1", "a"], "ttl_ms is not a whole number from 0 to 3600000"),
            (CHANNEL, &["1", "-1", "a"], "grace_ms is not a whole number from 0 to 3600000"),
            (CHANNEL, &["1", "1", "a b"], "lease has a byte"),
        ] {
            let refusal = place.refusal("sse_presence", &[key], args).await;
            assert!(refusal.starts_with(&format!("ERR sse_presence: {expected}")), "{refusal}");
        }
        for (key, args, expected) in [
            ("sse:leaving", &["1", "1"][..], "key is not <prefix>.leaving"),
            (LEAVING, &[], "grace_ms is not a whole number from 0 to 3600000"),
            (LEAVING, &["1"], "limit is not a whole number from 1 to 1000"),
            (LEAVING, &["1", "1001"], "limit is not a whole number from 1 to 1000"),
            (LEAVING, &["1", "1", "1"], "arguments are 3, the limit is 2"),
        ] {
            let refusal = place.refusal("sse_absent", &[key], args).await;
            assert!(refusal.starts_with(&format!("ERR sse_absent: {expected}")), "{refusal}");
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}
