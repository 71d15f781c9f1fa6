//! What the nodes of a cluster know, and when they agree.

use std::time::Duration;

use super::view::{self, Node};
use super::{RedisCluster, SLOTS};
use crate::patience::{PATIENCE, eventually_within};
use crate::redis::RedisServer;

/// For whatever the nodes have to agree about: a failover comes to nothing and begins anew when they are slow.
const AGREEMENT: Duration = PATIENCE.saturating_mul(3);

impl RedisCluster {
    /// Which server owns a slot, as soon as all that run agree. It may be one that is down.
    pub async fn owner_of_slot(&self, slot: u16) -> usize {
        self.until("an owner of a slot", async || {
            let mut owners = Vec::new();
            for (_, nodes) in self.views().await {
                owners.push(nodes.into_iter().find(|node| node.owns(slot))?.id);
            }
            let agree = owners.iter().all(|owner| *owner == owners[0]);
            self.ids.iter().position(|id| agree && Some(id) == owners.first())
        })
        .await
    }

    /// Which servers are primaries, as soon as all that run agree; also those without slots, or down.
    pub async fn primaries(&self) -> Vec<usize> {
        self.until("primaries on which all agree", async || {
            let views = self.views().await;
            let primaries = |nodes: &[Node]| -> Vec<_> {
                let is_one = |id: &str| nodes.iter().any(|node| node.id == id && node.replica_of.is_none());
                self.members().filter(|index| is_one(self.id(*index))).collect()
            };
            let known: Vec<_> = views.iter().map(|(_, nodes)| primaries(nodes)).collect();
            known.iter().all(|one| *one == known[0]).then(|| known.into_iter().next())?
        })
        .await
    }

    /// Waits until the other one of a primary and its replica owns the slots that were those of `index`, as all others that run
    /// know, and takes writes. Returns which.
    ///
    /// # Panics
    /// When it began without a replica, and was none.
    pub async fn fails_over(&self, index: usize) -> usize {
        let other = self.partner(index).expect("a server of a primary and its replica");
        self.until("a failover", async || {
            let views = self.views().await;
            let has_any = |nodes: &[Node], index: usize| {
                nodes.iter().any(|node| node.id == self.ids[index] && !node.slots.is_empty())
            };
            let mut known = views.iter().filter(|(by, _)| *by != index);
            let all_know = known.all(|(_, nodes)| has_any(nodes, other) && !has_any(nodes, index));
            (all_know && self.is_ok(other).await && self.servers[other].is_primary().await).then_some(other)
        })
        .await
    }

    /// Waits until all servers that run know the same and that nothing fails, and each primary that began with a replica, or is
    /// one that took its primary's place, has a replica that has all of its data.
    pub async fn settles(&self) {
        self.until("a cluster that has settled", async || {
            let views = self.views().await;
            let (_, first) = views.first()?;
            if views.iter().any(|(_, nodes)| nodes != first) || !self.all_joined(&views).await {
                return None;
            }
            for (index, _) in &views {
                let owns = first.iter().any(|node| node.id == self.ids[*index] && !node.slots.is_empty());
                if owns && self.partner(*index).is_some() && !self.servers[*index].has_replica_online().await {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Waits until all servers that run know each other, and take requests.
    pub(super) async fn joined(&self) {
        self.until("nodes that know each other", async || {
            let views = self.views().await;
            self.all_joined(&views).await.then_some(())
        })
        .await;
    }

    async fn all_joined(&self, views: &[(usize, Vec<Node>)]) -> bool {
        let knows = |nodes: &[Node], index: usize| nodes.iter().any(|node| node.id == self.ids[index] && node.is_well);
        let complete = |nodes: &[Node]| {
            let all = views.iter().all(|(index, _)| knows(nodes, *index));
            all && nodes.len() == self.members().count() && nodes.iter().map(Node::count).sum::<u16>() == SLOTS
        };
        if !views.iter().all(|(_, nodes)| complete(nodes)) {
            return false;
        }
        for (index, _) in views {
            if !self.is_ok(*index).await {
                return false;
            }
        }
        true
    }

    pub(super) async fn is_ok(&self, index: usize) -> bool {
        self.reachable(index) && self.servers[index].cli(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
    }

    /// What each server that can be asked knows.
    pub(super) async fn views(&self) -> Vec<(usize, Vec<Node>)> {
        let mut views = Vec::new();
        for index in self.members().filter(|index| self.reachable(*index)) {
            views.push((index, view::parse(&self.servers[index].cli(&["CLUSTER", "NODES"]).await)));
        }
        views
    }

    pub(super) fn reachable(&self, index: usize) -> bool {
        self.servers[index].runs() && !self.servers[index].is_paused()
    }

    pub(super) async fn until<T>(&self, what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
        eventually_within(AGREEMENT, what, check).await
    }
}

impl RedisServer {
    /// Whether it is a primary with a replica that has all of its data.
    async fn has_replica_online(&self) -> bool {
        let replication = self.cli(&["INFO", "replication"]).await;
        replication.contains("role:master") && replication.contains("state=online")
    }
}
