//! A Redis Cluster of three primaries with a replica each, and one more primary without slots where somebody wants it. After whatever is
//! done to it we wait until all nodes know the same and every primary has its replica again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::keys::Keys;
use testkit::{RedisCluster, RedisServer};
use tokio::time::sleep;

use super::{Aim, DURABLE, Needs, forget};
use crate::partitions::Partitions;

/// Primaries that share the slots at first. The replica of each is as many places behind it, and what was added behind both.
const PRIMARIES: usize = 3;
/// In how many steps a slot's keys move where they move step by step.
const STEPS: usize = 8;

/// The cluster. Dropping it kills the servers.
pub struct Clustered {
    pub(super) all: RedisCluster,
    partitions: Arc<Partitions>,
    /// Which server has each partition, and which are primaries with slots, as of the last time that all had settled.
    known: Owners,
    /// It joined without slots.
    spare: Option<usize>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Owners {
    of_partitions: Vec<usize>,
    all: Vec<usize>,
    /// Primaries without slots.
    idle: Vec<usize>,
}

impl Clustered {
    pub(super) async fn start(needs: Needs, partitions: Arc<Partitions>) -> Self {
        let mut builder = RedisCluster::builder().primaries(PRIMARIES).replicas(1).servers("shutdown-timeout 0");
        if needs.disk {
            builder = DURABLE.iter().fold(builder, |builder, line| builder.servers(line));
        }
        let mut all = builder.start().await;
        // From the start, so that every process has a proxy to it before a node names it.
        let spare = if needs.spare { Some(all.add_primary().await) } else { None };
        let mut cluster = Self { all, partitions, known: Owners::default(), spare };
        cluster.settle().await;
        cluster
    }

    /// One of the partitions that have channels; with `replaceable`, of those whose primary has a replica.
    pub(super) fn aim(&self, rng: &mut fastrand::Rng, replaceable: bool) -> Option<Aim> {
        let mut used = self.partitions.used();
        used.retain(|partition| !replaceable || partner(self.owner(Aim(*partition))).is_some());
        (!used.is_empty()).then(|| Aim(used[rng.usize(..used.len())]))
    }

    /// All partitions of its primary.
    pub(super) fn hit(&self, aim: Aim) -> Vec<u16> {
        (0..self.partitions.count()).filter(|partition| self.owner(Aim(*partition)) == self.owner(aim)).collect()
    }

    pub(super) fn primary(&self, aim: Aim) -> &RedisServer {
        &self.all.servers[self.owner(aim)]
    }

    fn owner(&self, aim: Aim) -> usize {
        self.known.of_partitions[usize::from(aim.0)]
    }

    /// Waits until all know the same, and takes note of it.
    pub(super) async fn settle(&mut self) {
        let known = async || {
            self.all.settles().await;
            let asked = &self.all.servers[0];
            let place = |name: &str| (0..self.all.servers.len()).find(|index| self.all.id(*index) == name);
            owners(&asked.cli(&["CLUSTER", "NODES"]).await, place, self.partitions.count())
        };
        self.known = testkit::eventually("every partition is somewhere", known).await;
    }

    pub(super) async fn restart(&mut self, aim: Aim, gentle: bool, pause: Duration) {
        let owner = self.owner(aim);
        if gentle {
            self.all.servers[owner].stop().await;
        } else {
            self.all.servers[owner].kill().await;
        }
        sleep(pause).await;
        self.all.servers[owner].restart().await;
        self.settle().await;
    }

    pub(super) async fn restart_empty(&mut self, aim: Aim, pause: Duration) -> Result<(), String> {
        let owner = self.owner(aim);
        self.all.servers[owner].kill().await;
        forget(&self.all.servers[owner])?;
        sleep(pause).await;
        self.all.servers[owner].restart().await;
        self.settle().await;
        Ok(())
    }

    /// The replica is cut off and let in no more.
    pub(super) async fn lag(&self, aim: Aim) {
        let primary = self.primary(aim);
        primary.cli(&["ACL", "SETUSER", "default", "-psync", "-sync"]).await;
        primary.cli(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    }

    pub(super) async fn promote(&mut self, aim: Aim) -> bool {
        let (before, clock) = (self.owner(aim), self.partitions.clock(aim.0));
        let known = self.primary(aim).cli(&["GET", &clock]).await;
        self.all.servers[before].kill().await;
        let now = self.all.fails_over(before).await;
        let lacked = self.all.servers[now].cli(&["GET", &clock]).await != known;
        // Its users are again as they were.
        self.all.servers[before].restart().await;
        self.settle().await;
        lacked
    }

    /// The replica asks for it, and gets it when it has heard everything.
    pub(super) async fn replace(&mut self, aim: Aim) -> Result<(), String> {
        let replica = partner(self.owner(aim)).ok_or("its primary has no replica")?;
        self.all.failover(replica, "").await;
        self.settle().await;
        Ok(())
    }

    /// Another primary with slots than the one that has the partition.
    pub(crate) fn elsewhere(&self, aim: Aim, rng: &mut fastrand::Rng) -> Option<usize> {
        let others: Vec<usize> = self.known.all.iter().copied().filter(|other| *other != self.owner(aim)).collect();
        (!others.is_empty()).then(|| others[rng.usize(..others.len())])
    }

    /// The primary that joined without slots, as long as it has none. Whoever loses its last slot is a primary no more.
    pub(crate) fn spare(&self) -> Option<usize> {
        self.spare.filter(|spare| self.known.idle.contains(spare))
    }

    /// Moves the partition's slot, all at once or so that there is a `pause` after every eighth of its keys.
    pub(crate) async fn move_slot(&mut self, aim: Aim, to: usize, pause: Option<Duration>) {
        let slot = Keys::slot(aim.0);
        let Some(pause) = pause else {
            self.all.move_slot(slot, to).await;
            return self.settle().await;
        };
        self.all.begin_move(slot, to).await;
        let keys = self.primary(aim).cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await;
        let some = keys.parse().unwrap_or(0_usize).div_ceil(STEPS).max(1);
        while self.all.migrate_some(slot, to, some).await > 0 {
            sleep(pause).await;
        }
        self.all.finish_move(slot, to).await;
        self.settle().await;
    }

    pub(super) fn keep_logs(&self, folder: &Path) {
        for (at, server) in self.all.servers.iter().enumerate() {
            let _ = std::fs::write(folder.join(format!("redis-{}.log", at + 1)), server.log());
        }
    }
}

/// The replica of a primary or the other way round, as they began.
fn partner(index: usize) -> Option<usize> {
    (index < 2 * PRIMARIES).then_some((index + PRIMARIES) % (2 * PRIMARIES))
}

/// What a node answers to CLUSTER NODES; `place`: which server has this name. `None`: some partition is nowhere.
fn owners(answer: &str, place: impl Fn(&str) -> Option<usize>, partitions: u16) -> Option<Owners> {
    let (mut primaries, mut idle) = (Vec::new(), Vec::new());
    for line in answer.lines() {
        // <name> <place> <flags> <primary> <ping> <pong> <epoch> <link> <slot>...; in brackets: on its way.
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_primary = words.get(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "master"));
        let Some(index) = words.first().and_then(|name| place(name)).filter(|_| is_primary) else { continue };
        let ranges: Vec<(u16, u16)> = words.iter().skip(8).filter_map(|word| range(word)).collect();
        if ranges.is_empty() { idle.push(index) } else { primaries.push((index, ranges)) }
    }
    // In the servers' order: nodes name each other in any.
    primaries.sort_unstable();
    let owner = |slot: u16| {
        let has = |ranges: &[(u16, u16)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        primaries.iter().find(|(_, ranges)| has(ranges)).map(|(index, _)| *index)
    };
    let of_partitions = (0..partitions).map(|partition| owner(Keys::slot(partition))).collect::<Option<_>>()?;
    Some(Owners { of_partitions, all: primaries.iter().map(|(index, _)| *index).collect(), idle })
}

fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_who_has_which_partition() {
        let answer = "d 127.0.0.1:4@14 master - 0 0 9 connected\n\
                      c 127.0.0.1:3@13,, master - 0 0 3 connected 10001-16383 [9842->-a]\n\
                      b 127.0.0.1:2@12 slave a 0 0 1 connected\n\
                      a 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-9999 10000\n";
        let place = |name: &str| ["a", "b", "c", "d"].iter().position(|one| *one == name);
        // Slots 13907, 9842, 5649, 1584.
        let expected = Owners { of_partitions: vec![2, 0, 0, 0], all: vec![0, 2], idle: vec![3] };
        assert_eq!(owners(answer, place, 4), Some(expected));
        assert_eq!(owners(&answer.replace("0-9999", "6000-9999"), place, 4), None, "slots that nobody has");
    }

    #[test]
    fn partners_are_each_others() {
        assert_eq!([0, 2, 3, 5, 6].map(partner), [Some(3), Some(5), Some(0), Some(2), None]);
    }
}
