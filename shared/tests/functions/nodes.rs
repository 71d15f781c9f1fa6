//! `sse_nodes`: who is there, and who is not any more.

use redis::Value;
use shared::redis::functions::NodesReply;
use testkit::eventually;

use crate::support::{Place, everywhere};

const NODES: &str = "sse.nodes";

async fn beat(place: &mut Place, ttl_ms: &str, incarnation: &str, text: &str) -> u64 {
    let cmd = place.call("sse_nodes", &[NODES], &[ttl_ms, incarnation, text]);
    place.run(&cmd).await.unwrap()
}

async fn there(place: &mut Place) -> NodesReply {
    let cmd = place.call("sse_nodes", &[NODES], &[] as &[&str]);
    let mut reply: NodesReply = place.run(&cmd).await.unwrap();
    reply.nodes.sort();
    reply
}

fn names(reply: &NodesReply) -> Vec<&str> {
    reply.nodes.iter().map(|(name, ..)| name.as_str()).collect()
}

#[tokio::test]
async fn whoever_beats_is_there_with_what_it_said_last() {
    everywhere(async |place| {
        let before = place.time().await;
        assert_eq!(there(place).await.nodes, []);
        assert_eq!(beat(place, "60000", "a", "{\"n\": 1}").await, 1);
        assert_eq!(beat(place, "60000", "b", "two \n lines").await, 2);
        assert_eq!(beat(place, "60000", "a", "again").await, 2);
        let reply = there(place).await;
        let texts: Vec<_> = reply.nodes.iter().map(|(_, _, text)| String::from_utf8_lossy(text)).collect();
        assert_eq!((names(&reply), texts), (vec!["a", "b"], vec!["again".into(), "two \n lines".into()]));
        let after = place.time().await;
        assert!(reply.nodes.iter().all(|(_, said, _)| (before..=reply.time_ms).contains(said)), "{reply:?}");
        assert!((before..=after).contains(&reply.time_ms));
        let expiry: u64 = place.ask(&["PTTL", NODES]).await;
        assert!((50_000..=60_000).contains(&expiry), "{expiry}");
    })
    .await;
}

#[tokio::test]
async fn whoever_does_not_is_over_and_does_not_stay() {
    everywhere(async |place| {
        beat(place, "60000", "lives", "x").await;
        beat(place, "1", "killed", "x").await;
        let place = tokio::sync::Mutex::new(place);
        eventually("the one that was killed is over", async || {
            let mut place = place.lock().await;
            (names(&there(*place).await) == ["lives"]).then_some(())
        })
        .await;
        let mut place = place.lock().await;
        assert_eq!(beat(*place, "60000", "lives", "y").await, 1, "it is taken out by whoever beats");
    })
    .await;
}

#[tokio::test]
async fn whoever_leaves_is_gone_at_once_and_the_last_one_leaves_nothing() {
    everywhere(async |place| {
        beat(place, "60000", "a", "x").await;
        beat(place, "60000", "b", "x").await;
        assert_eq!(beat(place, "60000", "a", "").await, 1);
        assert_eq!(names(&there(place).await), ["b"]);
        assert_eq!(beat(place, "60000", "b", "").await, 0);
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_written() {
    everywhere(async |place| {
        let long = "x".repeat(65);
        let big = "x".repeat(1_025);
        for (args, expected) in [
            (&["1", "a"][..], "arguments are 2, the limit is 0 or 3"),
            (&["1", "a", "x", "y"], "arguments are 4, the limit is 0 or 3"),
            (&["0", "a", "x"], "ttl_ms is not a whole number from 1 to 3600000"),
            (&["3600001", "a", "x"], "ttl_ms is not a whole number from 1 to 3600000"),
            (&["1", "", "x"], "incarnation is not 1 to 64 of A-Z a-z 0-9 _ . -"),
            (&["1", "a b", "x"], "incarnation is not 1 to 64 of A-Z a-z 0-9 _ . -"),
            (&["1", &long, "x"], "incarnation is not 1 to 64 of A-Z a-z 0-9 _ . -"),
            (&["1", "a", &big], "text has 1025 bytes, the limit is 1024"),
        ] {
            assert_eq!(place.refusal("sse_nodes", &[NODES], args).await, format!("ERR sse_nodes: {expected}"));
        }
        for key in ["sse:nodes", "sse.node", ".nodes", "a b.nodes", "sse.{7}.nodes"] {
            let refusal = place.refusal("sse_nodes", &[key], &["1", "a", "x"]).await;
            assert!(refusal.starts_with("ERR sse_nodes: key is not <prefix>.nodes"), "{refusal}");
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
        // What somebody wrote by hand is nobody.
        place.ask::<Value>(&["HSET", NODES, "by hand", "hello", "other", "1 9"]).await;
        assert_eq!(there(place).await.nodes, []);
        assert_eq!(beat(place, "60000", "a", "x").await, 1);
    })
    .await;
}

#[tokio::test]
async fn there_is_room_for_a_thousand() {
    everywhere(async |place| {
        for number in 0..1_000 {
            beat(place, "60000", &format!("n{number}"), "x").await;
        }
        let refusal = place.refusal("sse_nodes", &[NODES], &["1", "more", "x"]).await;
        assert_eq!(refusal, "ERR sse_nodes: nodes are 1000, the limit is 1000");
        assert_eq!(beat(place, "60000", "n7", "y").await, 1_000);
        assert_eq!(there(place).await.nodes.len(), 1_000);
    })
    .await;
}
