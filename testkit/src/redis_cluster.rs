//! A Redis Cluster: primaries which share the slots, each with a replica or none.

mod agreement;
mod slots;
mod view;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use tokio::time::Instant;

use crate::redis::{RedisServer, RedisServerBuilder};

/// How many slots there are.
pub const SLOTS: u16 = 16_384;
/// An orderly failover is given up by the server after 5 s.
const MANUAL_FAILOVER: Duration = Duration::from_secs(6);

/// How to start a [`RedisCluster`].
#[derive(Debug)]
pub struct RedisClusterBuilder {
    server: RedisServerBuilder,
    primaries: usize,
    with_replicas: bool,
    tls: bool,
}

impl RedisClusterBuilder {
    /// How many primaries share the slots; 3 where nothing is said. Fewer elect no replica.
    pub fn primaries(mut self, count: usize) -> Self {
        self.primaries = count;
        self
    }

    /// How many replicas each primary has: none (the default) or one.
    ///
    /// # Panics
    /// When it is more.
    pub fn replicas(mut self, each: usize) -> Self {
        assert!(each <= 1, "a primary has one replica at most");
        self.with_replicas = each == 1;
        self
    }

    /// A line of all servers' configuration files; it wins over what is set for every cluster.
    pub fn servers(mut self, line: &str) -> Self {
        self.server = self.server.config(line);
        self
    }

    /// Everything by TLS.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The server to start; as [`RedisServerBuilder::program`] has it.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.server = self.server.program(program);
        self
    }

    /// Valkey; as [`RedisServerBuilder::valkey`] has it.
    pub fn valkey(mut self) -> Self {
        self.server = self.server.valkey();
        self
    }

    /// Starts all, and waits until every node knows all of them, has the slots covered, and replicas have their primary's data.
    pub async fn start(self) -> RedisCluster {
        let Self { mut server, primaries, with_replicas, tls } = self;
        if tls {
            server = server.config("tls-cluster yes").config("tls-replication yes").tls();
        }
        let first = server.clone().start().await;
        server = server.tls_as(&first);
        let mut all = RedisCluster {
            servers: Vec::new(),
            ids: Vec::new(),
            left: BTreeSet::new(),
            primaries,
            with_replicas,
            builder: server,
        };
        all.push(first).await;
        for _ in 1..(if with_replicas { 2 * primaries } else { primaries }) {
            let next = all.builder.clone().start().await;
            all.push(next).await;
        }
        all.become_one().await;
        all
    }
}

/// Servers that each test has for itself; dropping it kills all of them.
#[derive(Debug)]
pub struct RedisCluster {
    /// The first primaries, then the replica of each in the same order, then what was added. None goes: one that was removed is
    /// down.
    pub servers: Vec<RedisServer>,
    /// Of each server.
    ids: Vec<String>,
    /// Those that were removed.
    left: BTreeSet<usize>,
    /// How many there were at first.
    primaries: usize,
    with_replicas: bool,
    /// Of one more server.
    builder: RedisServerBuilder,
}

impl RedisCluster {
    /// How to start one that is not as the defaults have it.
    pub fn builder() -> RedisClusterBuilder {
        let server = RedisServer::builder()
            .cluster_node()
            // Failovers take some seconds; a server may stand still for as long without one.
            .config("cluster-node-timeout 1500")
            // A primary waits 5 s for more replicas before it sends its data, unless told not to.
            .config("repl-diskless-sync-delay 0");
        RedisClusterBuilder { server, primaries: 3, with_replicas: false, tls: false }
    }

    /// Starts three primaries without replicas, passwords and TLS.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// `redis+cluster://127.0.0.1:<port>,127.0.0.1:<port>,...`, all servers but those that were removed; with TLS
    /// `rediss+cluster://`. `user` is what stands before the hosts, such as `me:secret@`.
    pub fn url_as(&self, user: &str) -> String {
        let url = self.servers[0].url();
        let (scheme, _) = url.split_once(':').unwrap();
        let places: Vec<_> = self.members().map(|index| format!("127.0.0.1:{}", self.servers[index].port())).collect();
        format!("{scheme}+cluster://{user}{}", places.join(","))
    }

    /// As whoever needs no password.
    pub fn url(&self) -> String {
        self.url_as("")
    }

    /// By which the nodes know this one (CLUSTER MYID); the same after a restart.
    pub fn id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    /// Starts one more server, which joins as a primary without slots. Returns which. As servers have it by default, a primary
    /// that loses its last slot becomes a replica of who got it (`cluster-allow-replica-migration`).
    pub async fn add_primary(&mut self) -> usize {
        let next = self.builder.clone().start().await;
        self.push(next).await;
        let added = self.servers.len() - 1;
        self.meet(added).await;
        self.joined().await;
        added
    }

    /// Has all others forget a server, which must own no slots, and stops it.
    pub async fn remove_primary(&mut self, index: usize) {
        let mut known = self.views().await.into_iter().flat_map(|(_, nodes)| nodes);
        let owns_any = known.any(|node| node.id == self.ids[index] && !node.slots.is_empty());
        assert!(!owns_any, "server {index} still owns slots");
        self.left.insert(index);
        for other in self.members().filter(|other| self.reachable(*other)) {
            self.tell(other, &["CLUSTER", "FORGET", &self.ids[index]]).await;
        }
        self.servers[index].stop().await;
        self.joined().await;
    }

    /// Makes a replica the primary, and waits until all know it: orderly, where `how` is empty, so that nothing is lost; with
    /// `FORCE` although its primary is down; with `TAKEOVER` although most primaries are.
    pub async fn failover(&self, replica: usize, how: &str) {
        let before = self.partner(replica).expect("a server of a primary and its replica");
        let mut command = vec!["CLUSTER", "FAILOVER"];
        command.extend((!how.is_empty()).then_some(how));
        let mut asked: Option<Instant> = None;
        self.until("a failover that was asked for", async || {
            if self.servers[replica].is_primary().await {
                return Some(());
            }
            if asked.is_none_or(|at| at.elapsed() > MANUAL_FAILOVER) {
                self.tell(replica, &command).await;
                asked = Some(Instant::now());
            }
            None
        })
        .await;
        self.fails_over(before).await;
    }

    /// Slots for the first primaries, everybody's acquaintance, and replicas.
    async fn become_one(&self) {
        let begin = |index: usize| usize::from(SLOTS) * index / self.primaries;
        for index in 0..self.servers.len() {
            // Different ones from the start: else they have to settle who goes first.
            self.tell(index, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
            if index < self.primaries {
                let [first, last] = [begin(index), begin(index + 1) - 1].map(|slot| slot.to_string());
                self.tell(index, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            }
            self.meet(index).await;
        }
        for replica in self.primaries..self.servers.len() {
            let primary = self.id(replica - self.primaries);
            self.until("a replica that knows its primary", async || {
                (self.servers[replica].cli(&["CLUSTER", "REPLICATE", primary]).await == "OK").then_some(())
            })
            .await;
        }
        self.settles().await;
    }

    /// Introduces a server to all that came before it. One would be enough, but gossip takes its time.
    async fn meet(&self, index: usize) {
        let (port, bus_port) = (self.servers[index].port().to_string(), self.servers[index].bus_port().to_string());
        for other in self.members().filter(|other| *other < index && self.reachable(*other)) {
            self.tell(other, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]).await;
        }
    }

    /// All but those that were removed.
    fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.servers.len()).filter(|index| !self.left.contains(index))
    }

    /// Replica of a primary and primary of a replica, as they began.
    fn partner(&self, index: usize) -> Option<usize> {
        let of_primary = (index < self.primaries).then_some(index + self.primaries);
        let partner = of_primary.or_else(|| (index < 2 * self.primaries).then(|| index - self.primaries));
        partner.filter(|_| self.with_replicas)
    }

    async fn push(&mut self, server: RedisServer) {
        self.ids.push(server.cli(&["CLUSTER", "MYID"]).await);
        self.servers.push(server);
    }

    async fn tell(&self, index: usize, command: &[&str]) {
        assert_eq!(self.servers[index].cli(command).await, "OK", "of server {index}, to {command:?}");
    }
}
