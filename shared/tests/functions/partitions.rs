//! Keys with a partition as their hash tag: sharded Pub/Sub, one slot, and the names that `Keys` gives.

use redis::{PushKind, Value};
use shared::channel::Channel;
use shared::keys::Keys;
use testkit::eventually;

use crate::support::{Place, everywhere, everywhere_with};

/// All three functions on a channel of partition 7, and the node's own channel.
async fn call_all(place: &mut Place) {
    place.publish("sse:{7}:a", &["x", "", "", "k"]).await;
    let cmd = place.call("sse_clock", &["sse.{7}.clock"], &["n"]);
    place.run::<Value>(&cmd).await.unwrap();
    let cmd = place.call::<_, &str>("sse_cancel", &["sse:{7}:a"], &[]);
    place.run::<Value>(&cmd).await.unwrap();
}

#[tokio::test]
async fn sharded_subscribers_hear_all_of_a_partition() {
    everywhere(async |place| {
        for name in ["sse:{7}:a", "sse.{7}.node:n", "sse.{7}.cancel:a"] {
            place.listen("SSUBSCRIBE", name).await;
        }
        call_all(place).await;
        for expected in ["sse:{7}:a", "sse.{7}.node:n", "sse.{7}.cancel:a"] {
            let (kind, name, _) = place.heard().await;
            assert_eq!((kind, name.as_str()), (PushKind::SMessage, expected));
        }
        assert_eq!(place.publish("sse:{7}:a", &["x"]).await.1, 1);
    })
    .await;
}

#[tokio::test]
async fn plain_subscribers_hear_none_of_it() {
    everywhere(async |place| {
        for name in ["sse:{7}:a", "sse.{7}.node:n", "sse.{7}.cancel:a"] {
            place.listen("SUBSCRIBE", name).await;
        }
        call_all(place).await;
        place.nothing_was_heard("sse:{7}:a").await;
    })
    .await;
}

#[tokio::test]
async fn partitions_have_clocks_of_their_own() {
    everywhere(async |place| {
        place.publish("sse:{0}:a", &["x"]).await;
        place.publish("sse:{16383}:b", &["x"]).await;
        place.publish("sse:c", &["x"]).await;
        let clocks = ["sse.{0}.clock", "sse.{16383}.clock", "sse.clock"];
        assert_eq!(place.ask::<u64>(&[&["EXISTS"], &clocks[..]].concat()).await, 3);
    })
    .await;
}

#[tokio::test]
async fn names_are_those_of_keys() {
    everywhere(async |place| {
        for (prefix, partitions) in [("sse", 1), ("A-z_0", 1), ("sse", 16_384), ("A-z_0", 3)] {
            place.ask::<()>(&["FLUSHDB"]).await;
            let keys = Keys::new(prefix, partitions).unwrap();
            let channel = Channel::parse("user:42/한글").unwrap();
            let partition = keys.partition(&channel);
            let listen = if partitions == 1 { "SUBSCRIBE" } else { "SSUBSCRIBE" };
            place.listen(listen, &keys.node(partition, "n1")).await;

            place.publish(&keys.channel(&channel), &["x", "", "", "once:1"]).await;
            let cmd = place.call("sse_clock", &[&keys.clock(partition)], &["n1"]);
            place.run::<Value>(&cmd).await.unwrap();
            let cmd = place.call::<_, &str>("sse_cancel", &[&keys.cancel(&channel)], &[]);
            place.run::<Value>(&cmd).await.unwrap();

            assert_eq!(place.heard().await.1, keys.node(partition, "n1"));
            let mut stored: Vec<String> = place.ask(&["KEYS", "*"]).await;
            let mut expected = vec![
                keys.channel(&channel),
                keys.last(&channel),
                keys.once(&channel, "once:1"),
                keys.clock(partition),
                keys.cancel(&channel),
            ];
            stored.sort();
            expected.sort();
            assert_eq!(stored, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn all_of_a_partition_is_in_one_slot_of_a_cluster() {
    everywhere_with(
        |server| server.config("cluster-enabled yes"),
        async |place| {
            place.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
            // A cluster of one, as soon as it has looked at itself.
            eventually("the cluster works", async || {
                place.server.cli(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok").then_some(())
            })
            .await;
            place.listen("SSUBSCRIBE", "sse:{7}:a").await;
            call_all(place).await;
            assert_eq!(place.heard().await.1, "sse:{7}:a");
        },
    )
    .await;
}

/// Once something is written behind it, nobody could tell any more whether a clock was here when its server started.
#[tokio::test]
async fn a_publish_behind_a_clock_of_another_server_leaves_the_epoch_to_end() {
    everywhere(async |place| {
        let now: Vec<u64> = place.ask(&["TIME"]).await;
        let position = format!("{}-0", now[0] * 1_000);
        let stored = format!("{position} abcd another");
        place.ask::<Value>(&["SET", "sse.{7}.clock", &stored]).await;
        place.publish("sse:{7}:a", &["x"]).await;
        let after: String = place.stored("sse.{7}.clock").await.unwrap();
        assert!(after.ends_with(" abcd 0"), "{after}");
        place.publish("sse:{7}:a", &["x"]).await;
        assert!(place.stored("sse.{7}.clock").await.unwrap().ends_with(" abcd 0"));
        let (_, epoch, _) = place.clock("sse.{7}.clock").await;
        assert_ne!(epoch, "abcd");
    })
    .await;
}
