//! Slots of a cluster that go from one primary to another, as `redis-cli --cluster reshard` moves them; at once or step by step.

use std::iter;

use super::RedisCluster;

/// Keys that go in one step of a whole move.
const BATCH: usize = 100;
/// For one batch, in milliseconds; less than what one waits for redis-cli.
const MIGRATE_WITHIN: &str = "5000";

impl RedisCluster {
    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        let server = self.members().find(|index| self.reachable(*index)).expect("no server of the cluster runs");
        self.servers[server].cli(&["CLUSTER", "KEYSLOT", key]).await.parse().unwrap()
    }

    /// Moves a slot with its keys to server `to`, which is a primary, and waits until all know it.
    pub async fn move_slot(&self, slot: u16, to: usize) {
        self.begin_move(slot, to).await;
        while self.migrate_some(slot, to, BATCH).await > 0 {}
        self.finish_move(slot, to).await;
    }

    /// The slot is still its owner's, but what is not there is asked for at `to` (ASK).
    pub async fn begin_move(&self, slot: u16, to: usize) {
        let from = self.owner_of_slot(slot).await;
        assert_ne!(from, to, "slot {slot} is there already");
        self.tell(to, &["CLUSTER", "SETSLOT", &slot.to_string(), "IMPORTING", self.id(from)]).await;
        self.tell(from, &["CLUSTER", "SETSLOT", &slot.to_string(), "MIGRATING", self.id(to)]).await;
    }

    /// Moves at most `count` keys of a slot whose move has begun. Returns how many it were; 0 when none is left. Their names
    /// must have no line breaks.
    pub async fn migrate_some(&self, slot: u16, to: usize, count: usize) -> usize {
        let from = &self.servers[self.owner_of_slot(slot).await];
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &count.to_string()]).await;
        let keys: Vec<_> = keys.lines().collect();
        if keys.is_empty() {
            return 0;
        }
        let port = self.servers[to].port().to_string();
        let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MIGRATE_WITHIN, "KEYS"];
        command.extend(&keys);
        let answer = from.cli(&command).await;
        // No key: all of them have expired or were deleted meanwhile.
        assert!(answer == "OK" || answer == "NOKEY", "keys of slot {slot} do not move: {answer}");
        keys.len()
    }

    /// Makes `to` the owner of a slot whose keys have moved, and waits until all know it.
    pub async fn finish_move(&self, slot: u16, to: usize) {
        let from = self.owner_of_slot(slot).await;
        let primaries = self.primaries().await;
        let others = primaries.into_iter().filter(|index| ![from, to].contains(index) && self.reachable(*index));
        // The new owner first: were it the last, nobody would be the owner if all ended half-way.
        self.tell(to, &["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", self.id(to)]).await;
        for index in iter::once(from).chain(others) {
            let command = ["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", self.id(to)];
            let answer = self.servers[index].cli(&command).await;
            // Who had no other slot may have heard of it meanwhile, and be a replica.
            let heard = answer.contains("only with masters");
            assert!(heard || answer == "OK", "server {index} to {command:?}: {answer}");
        }
        self.until("the new owner of a slot", async || (self.owner_of_slot(slot).await == to).then_some(())).await;
    }
}
