//! A cluster of the kit's is a real one: slots move, replicas take over, nodes come and go.

#![cfg(test)]

use testkit::{RedisCluster, RedisServer, SLOTS, eventually};

/// A key of which server `index` owns the slot.
async fn key_of(all: &RedisCluster, index: usize) -> String {
    for number in 0.. {
        let key = format!("key-{number}");
        if all.owner_of_slot(all.slot_of(&key).await).await == index {
            return key;
        }
    }
    unreachable!()
}

/// Asks one server, which says where else to ask; redis-cli does (`-c`).
async fn ask(server: &RedisServer, args: &[&str]) -> String {
    server.cli(&[&["-c"], args].concat()).await
}

#[tokio::test]
async fn three_primaries_share_the_slots() {
    let all = RedisCluster::start().await;
    assert_eq!(all.servers.len(), 3);
    let ports: Vec<_> = all.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    assert_eq!(all.url(), format!("redis+cluster://{}", ports.join(",")));
    assert_eq!(all.url_as("me:secret@"), format!("redis+cluster://me:secret@{}", ports.join(",")));
    assert_eq!(all.primaries().await, [0, 1, 2]);
    for (slot, owner) in [(0, 0), (SLOTS / 2, 1), (SLOTS - 1, 2)] {
        assert_eq!(all.owner_of_slot(slot).await, owner);
    }
    assert_eq!(all.slot_of("{user:1}a").await, all.slot_of("user:1").await);
    for (index, server) in all.servers.iter().enumerate() {
        assert_eq!(server.cli(&["CLUSTER", "MYID"]).await, all.id(index));
        assert_eq!(ask(server, &["SET", &format!("a{index}"), "1"]).await, "OK");
    }
    let key = key_of(&all, 1).await;
    assert!(all.servers[0].cli(&["GET", &key]).await.starts_with("MOVED "));
}

#[tokio::test]
async fn a_slot_moves_with_its_keys() {
    let all = RedisCluster::start().await;
    let slot = all.slot_of("{a}").await;
    let from = all.owner_of_slot(slot).await;
    let to = (from + 1) % 3;
    let keys: Vec<_> = (0..250).map(|number| format!("{{a}}{number}")).collect();
    let pairs: Vec<_> = keys.iter().flat_map(|key| [key.as_str(), "value"]).collect();
    assert_eq!(all.servers[from].cli(&[&["MSET"], &pairs[..]].concat()).await, "OK");
    let readable = async || {
        for key in [&keys[0], &keys[124], &keys[249]] {
            assert_eq!(ask(&all.servers[(to + 1) % 3], &["GET", key]).await, "value");
        }
    };

    all.begin_move(slot, to).await;
    assert_eq!(all.migrate_some(slot, to, 30).await, 30);
    assert_eq!(all.servers[to].cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await, "30");
    assert_eq!(all.owner_of_slot(slot).await, from);
    readable().await;
    while all.migrate_some(slot, to, 100).await > 0 {}
    readable().await;
    all.finish_move(slot, to).await;
    assert_eq!(all.owner_of_slot(slot).await, to);
    readable().await;

    all.move_slot(slot, from).await;
    assert_eq!(all.owner_of_slot(slot).await, from);
    assert_eq!(all.servers[from].cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await, "250");
    readable().await;
}

#[tokio::test]
async fn a_replica_takes_the_place_of_a_primary_that_is_killed() {
    let mut all = RedisCluster::builder().replicas(1).start().await;
    let key = key_of(&all, 0).await;
    assert_eq!(all.servers[0].cli(&["SET", &key, "value"]).await, "OK");
    assert_eq!(all.servers[0].cli(&["WAIT", "1", "5000"]).await, "1");
    let bus_port = all.servers[0].bus_port();
    all.servers[0].kill().await;
    assert_eq!(all.fails_over(0).await, 3);
    assert_eq!(ask(&all.servers[1], &["GET", &key]).await, "value");

    all.servers[0].restart().await;
    assert_eq!(all.servers[0].bus_port(), bus_port);
    all.settles().await;
    assert_eq!(all.primaries().await, [1, 2, 3]);
    assert_eq!(all.servers[0].cli(&["CLUSTER", "MYID"]).await, all.id(0));
    assert!(!all.servers[0].is_primary().await);

    all.failover(0, "").await;
    all.settles().await;
    assert_eq!(all.primaries().await, [0, 1, 2]);
    assert_eq!(ask(&all.servers[1], &["GET", &key]).await, "value");
}

#[tokio::test]
async fn a_primary_that_stands_still_is_replaced() {
    let all = RedisCluster::builder().replicas(1).start().await;
    all.servers[1].pause().await;
    assert_eq!(all.fails_over(1).await, 4);
    all.servers[1].resume().await;
    all.settles().await;
    assert_eq!(all.primaries().await, [0, 2, 4]);
}

#[tokio::test]
async fn a_replica_is_promoted_by_force() {
    let mut all = RedisCluster::builder().replicas(1).start().await;
    all.servers[0].kill().await;
    all.servers[1].kill().await;
    // The one primary that is left elects nobody.
    for replica in [3, 4] {
        all.failover(replica, "TAKEOVER").await;
    }
    eventually("requests are taken again", async || {
        (ask(&all.servers[2], &["GET", "a"]).await.is_empty()).then_some(())
    })
    .await;
    for index in [0, 1] {
        all.servers[index].restart().await;
    }
    all.settles().await;
    assert_eq!(all.primaries().await, [2, 3, 4]);
    all.failover(0, "FORCE").await;
    all.settles().await;
    assert_eq!(all.primaries().await, [0, 2, 4]);
}

#[tokio::test]
async fn a_primary_comes_and_goes() {
    let mut all = RedisCluster::start().await;
    let slot = all.slot_of("a").await;
    let first = all.owner_of_slot(slot).await;
    ask(&all.servers[0], &["SET", "a", "value"]).await;
    let added = all.add_primary().await;
    assert_eq!(added, 3);
    assert_eq!(all.primaries().await, [0, 1, 2, 3]);
    all.move_slot(slot, added).await;
    assert_eq!(all.servers[added].cli(&["GET", "a"]).await, "value");

    all.move_slot(slot, first).await;
    all.remove_primary(added).await;
    assert!(!all.servers[added].runs());
    assert_eq!(all.primaries().await, [0, 1, 2]);
    assert!(!all.url().contains(&all.servers[added].port().to_string()));
    assert_eq!(ask(&all.servers[0], &["GET", "a"]).await, "value");
}

#[tokio::test]
#[should_panic(expected = "still owns slots")]
async fn a_primary_with_slots_stays() {
    RedisCluster::start().await.remove_primary(0).await;
}

#[tokio::test]
async fn tls_is_spoken_by_all() {
    let all = RedisCluster::builder().replicas(1).tls().start().await;
    assert!(all.url().starts_with("rediss+cluster://127.0.0.1:"));
    let slot = all.slot_of("a").await;
    ask(&all.servers[0], &["SET", "a", "value"]).await;
    let to = (all.owner_of_slot(slot).await + 1) % 3;
    all.move_slot(slot, to).await;
    assert_eq!(ask(&all.servers[0], &["GET", "a"]).await, "value");
}

#[tokio::test]
async fn a_cluster_may_be_of_valkey() {
    let all = RedisCluster::builder().valkey().start().await;
    assert!(all.servers[0].cli(&["INFO", "server"]).await.contains("server_name:valkey"));
    let slot = all.slot_of("a").await;
    let to = (all.owner_of_slot(slot).await + 1) % 3;
    all.move_slot(slot, to).await;
}
