//! A primary, a replica and three Sentinels that watch them.

use std::time::Duration;

use crate::patience::{PATIENCE, eventually_within};
use crate::redis::RedisServer;

/// By which the Sentinels know the primary.
pub const SENTINEL_NAME: &str = "main";
/// For a failover: the Sentinels have to agree first, and to come back to it where they did not.
const FAILOVER: Duration = PATIENCE.saturating_mul(3);

/// How to start [`Sentinels`].
#[derive(Debug, Default)]
pub struct SentinelsBuilder {
    of_servers: Vec<String>,
    of_sentinels: Vec<String>,
    tls: bool,
}

/// Servers that each test has for itself; dropping it kills all of them.
#[derive(Debug)]
pub struct Sentinels {
    /// The first primary and its replica.
    pub servers: Vec<RedisServer>,
    /// Three.
    pub sentinels: Vec<RedisServer>,
}

impl SentinelsBuilder {
    /// A line of both servers' configuration files.
    pub fn servers(mut self, line: &str) -> Self {
        self.of_servers.push(line.to_owned());
        self
    }

    /// A line of the Sentinels' configuration files.
    pub fn sentinels(mut self, line: &str) -> Self {
        self.of_sentinels.push(line.to_owned());
        self
    }

    /// Everything by TLS.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts all, and waits until the Sentinels know each other and the replica.
    pub async fn start(mut self) -> Sentinels {
        if self.tls {
            self.of_servers.push("tls-replication yes".to_owned());
            self.of_sentinels.push("tls-replication yes".to_owned());
        }
        let lines = |mut builder: crate::RedisServerBuilder, lines: &[String]| {
            for line in lines {
                builder = builder.config(line);
            }
            builder
        };
        let mut first = lines(RedisServer::builder(), &self.of_servers);
        if self.tls {
            first = first.tls();
        }
        let first = first.start().await;
        let at = format!("127.0.0.1 {}", first.port());
        let other = lines(RedisServer::builder().tls_as(&first), &self.of_servers);
        let other = other.start().await;
        // By word and not by its file: promoted, it is to be a primary after a restart too.
        let port = first.port().to_string();
        assert_eq!(other.cli(&["REPLICAOF", "127.0.0.1", &port]).await, "OK");
        let mut all = Sentinels { servers: vec![first, other], sentinels: Vec::new() };
        // They look for replicas when they come, and then every ten seconds.
        all.has_replica().await;
        let monitor = format!("sentinel monitor {SENTINEL_NAME} {at} 2");
        for _ in 0..3 {
            let mut sentinel = RedisServer::builder().sentinel().tls_as(&all.servers[0]).config(&monitor);
            for (what, ms) in [("down-after-milliseconds", 1_500), ("failover-timeout", 5_000)] {
                sentinel = sentinel.config(&format!("sentinel {what} {SENTINEL_NAME} {ms}"));
            }
            all.sentinels.push(lines(sentinel, &self.of_sentinels).start().await);
        }
        for sentinel in &all.sentinels {
            eventually_within(FAILOVER, "Sentinels that know each other", async || {
                let known = sentinel.sentinel().await;
                let is = |name: &str, value: &str| known.iter().any(|(key, it)| key == name && it == value);
                (is("flags", "master") && is("num-slaves", "1") && is("num-other-sentinels", "2")).then_some(())
            })
            .await;
        }
        all
    }
}

impl Sentinels {
    /// How to start some that are not as the defaults have it.
    pub fn builder() -> SentinelsBuilder {
        SentinelsBuilder::default()
    }

    /// Starts some without passwords and TLS.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// `redis+sentinel://127.0.0.1:<port>,127.0.0.1:<port>,127.0.0.1:<port>/main`; with TLS `rediss+sentinel://`. `user` is what
    /// stands before the hosts, such as `me:secret@`.
    pub fn url_as(&self, user: &str) -> String {
        let (scheme, _) =
            self.servers[0].url().split_once(':').map(|(scheme, rest)| (scheme.to_owned(), rest.to_owned())).unwrap();
        let places: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("{scheme}+sentinel://{user}{}/{SENTINEL_NAME}", places.join(","))
    }

    /// As whoever needs no password.
    pub fn url(&self) -> String {
        self.url_as("")
    }

    /// Which server is the primary, as all Sentinels that run name it.
    pub async fn primary(&self) -> usize {
        eventually_within(FAILOVER, "Sentinels that agree", async || {
            let mut named = Vec::new();
            for sentinel in &self.sentinels {
                let known = sentinel.sentinel().await;
                named.push(known.iter().find(|(key, _)| key == "port").map(|(_, port)| port.clone())?);
            }
            let port: u16 = named.first()?.parse().ok()?;
            let agree = named.iter().all(|one| *one == named[0]);
            self.servers.iter().position(|server| agree && server.port() == port)
        })
        .await
    }

    /// Waits until the Sentinels name another server than `before`, and that one takes writes. Returns which.
    pub async fn fails_over(&self, before: usize) -> usize {
        eventually_within(FAILOVER, "a failover", async || {
            let now = self.primary().await;
            (now != before && self.servers[now].is_primary().await).then_some(now)
        })
        .await
    }

    /// Waits until the Sentinels agree, and whoever they name is a primary with a replica that has all of its data. Returns which.
    pub async fn settles(&self) -> usize {
        eventually_within(FAILOVER * 2, "a primary and its replica", async || {
            let now = self.primary().await;
            let replication = self.servers[now].cli(&["INFO", "replication"]).await;
            (replication.contains("role:master") && replication.contains("state=online")).then_some(now)
        })
        .await
    }

    /// Waits until the primary has a replica that has all of its data.
    pub async fn has_replica(&self) {
        eventually_within(FAILOVER, "a replica", async || {
            for server in self.servers.iter().filter(|server| server.runs()) {
                let replication = server.cli(&["INFO", "replication"]).await;
                if replication.contains("role:master") && replication.contains("state=online") {
                    return Some(());
                }
            }
            None
        })
        .await;
    }
}

impl RedisServer {
    /// Whether it says that it is a primary.
    pub async fn is_primary(&self) -> bool {
        self.runs() && self.cli(&["INFO", "replication"]).await.contains("role:master")
    }

    /// What a Sentinel knows of the primary, by field.
    async fn sentinel(&self) -> Vec<(String, String)> {
        let answer = self.cli(&["SENTINEL", "MASTER", SENTINEL_NAME]).await;
        let lines: Vec<_> = answer.lines().collect();
        lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
    }
}
