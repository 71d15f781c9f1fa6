//! The Redis of a round: a primary, a replica where one has to stand by, and what is done to them as a whole. Either we say who is the
//! primary, or [`Sentinels`] do.

mod watched;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use testkit::{Proxy, RedisServer, RedisServerBuilder, SENTINEL_NAME, Sentinels};
use tokio::time::sleep;

use self::watched::Watched;

/// The partition's clock.
const CLOCK: &str = "sse.clock";
/// Moves the clock's milliseconds by ARGV[1], and nothing else of it.
const MOVE_CLOCK: &str = "local ms, rest = (redis.call('GET', KEYS[1]) or ''):match('^(%d+)(.*)$') \
     return ms and redis.call('SET', KEYS[1], ('%.0f'):format(ms + ARGV[1]) .. rest)";
/// What is written to disk before anything is acknowledged.
const DURABLE: [&str; 2] = ["appendonly yes", "appendfsync always"];
/// Where the server keeps that.
const DURABLE_FOLDER: &str = "appendonlydir";

/// Who says which server is the primary; `single` or `sentinel` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redis {
    /// We do.
    Single,
    /// Three Sentinels, which watch a primary and a replica.
    Sentinel,
}

impl FromStr for Redis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "single" => Ok(Self::Single),
            "sentinel" => Ok(Self::Sentinel),
            _ => Err("is none of single, sentinel".to_owned()),
        }
    }
}

/// The servers. Dropping it kills them.
pub struct Store(Kind);

enum Kind {
    Alone(Box<Alone>),
    Watched(Box<Watched>),
}

impl Store {
    /// Starts a primary that is `durable` or not, and a replica that has heard all of it where one is wanted.
    pub async fn start(redis: Redis, durable: bool, with_replica: bool) -> Self {
        Self(match redis {
            Redis::Single => Kind::Alone(Box::new(Alone::start(durable, with_replica).await)),
            Redis::Sentinel => Kind::Watched(Box::new(Watched::start(durable).await)),
        })
    }

    /// Port of the primary.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.primary().port()
    }

    /// The primary.
    #[must_use]
    pub fn primary(&self) -> &RedisServer {
        match &self.0 {
            Kind::Alone(alone) => &alone.primary,
            Kind::Watched(watched) => watched.primary(),
        }
    }

    /// Ports of the Sentinels and of all servers, and the primary's name, where there are some.
    #[must_use]
    pub fn sentinels(&self) -> Option<(Vec<u16>, Vec<u16>, &'static str)> {
        let Kind::Watched(watched) = &self.0 else { return None };
        let Sentinels { servers, sentinels } = &watched.all;
        let ports = |servers: &[RedisServer]| servers.iter().map(RedisServer::port).collect();
        Some((ports(sentinels), ports(servers), SENTINEL_NAME))
    }

    /// Ends the primary, by SIGTERM where it is to be `gentle`, and starts it again after `pause`.
    pub async fn restart(&mut self, gentle: bool, pause: Duration) {
        match &mut self.0 {
            Kind::Alone(alone) => alone.restart(gentle, pause).await,
            Kind::Watched(watched) => watched.restart(gentle, pause).await,
        }
    }

    /// Kills the primary, and starts it again after `pause` without anything it ever knew.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub async fn restart_empty(&mut self, pause: Duration) -> Result<(), String> {
        match &mut self.0 {
            Kind::Alone(alone) => alone.restart_empty(pause).await,
            Kind::Watched(watched) => watched.restart_empty(pause).await,
        }
    }

    /// The primary stands still for so long.
    pub async fn pause(&mut self, time: Duration) {
        self.primary().pause().await;
        sleep(time).await;
        self.primary().resume().await;
        if let Kind::Watched(watched) = &mut self.0 {
            watched.settle().await;
        }
    }

    /// From now on the replica hears nothing more of its primary.
    pub async fn lag(&self) {
        match &self.0 {
            Kind::Alone(alone) => alone.lag(),
            Kind::Watched(watched) => watched.lag().await,
        }
    }

    /// Kills the primary, and the replica takes its place. Returns whether the replica lacked anything.
    ///
    /// # Errors
    /// There is no replica.
    pub async fn promote(&mut self) -> Result<bool, String> {
        match &mut self.0 {
            Kind::Alone(alone) => alone.promote().await,
            Kind::Watched(watched) => Ok(watched.promote().await),
        }
    }

    /// The replica takes the place of the primary, which is well.
    ///
    /// # Errors
    /// There are no Sentinels to ask for it.
    pub async fn replace(&mut self) -> Result<(), String> {
        match &mut self.0 {
            Kind::Alone(_) => Err("there are no Sentinels".to_owned()),
            Kind::Watched(watched) => {
                watched.replace().await;
                Ok(())
            }
        }
    }

    /// Moves the partition's clock, and leaves its epoch alone. Where there is none, as just after a loss, it waits for it:
    /// the next publish makes one.
    pub async fn move_clock(&self, by: Duration) {
        let ms = by.as_millis().to_string();
        let moved = async || (self.primary().cli(&["EVAL", MOVE_CLOCK, "1", CLOCK, &ms]).await == "OK").then_some(());
        testkit::eventually("the clock is moved", moved).await;
    }

    /// Writes the servers' logs into `folder`. What cannot be written is missing there.
    pub fn keep_logs(&self, folder: &Path) {
        match &self.0 {
            Kind::Alone(alone) => alone.keep_logs(folder),
            Kind::Watched(watched) => watched.keep_logs(folder),
        }
    }
}

/// Takes what a primary that does not run has on disk.
fn forget(primary: &RedisServer) -> Result<(), String> {
    let folder = primary.folder().join(DURABLE_FOLDER);
    if folder.exists() {
        let removed = std::fs::remove_dir_all(&folder);
        removed.map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    Ok(())
}

/// A primary, by our own word.
struct Alone {
    primary: RedisServer,
    replica: Option<Replica>,
    /// The primary before this one, for its log.
    former: Option<RedisServer>,
}

struct Replica {
    server: RedisServer,
    /// Between it and its primary.
    link: Proxy,
}

impl Alone {
    /// Starts a primary that is `durable` or not, and a replica that has heard all of it where one is wanted.
    async fn start(durable: bool, with_replica: bool) -> Self {
        let primary = builder(durable).start().await;
        let mut replica = None;
        if with_replica {
            let link = Proxy::to(primary.port()).await;
            let server = builder(durable).start().await;
            // By word and not by its file: promoted, it is to be a primary after a restart too.
            server.cli(&["REPLICAOF", "127.0.0.1", &link.port().to_string()]).await;
            let up =
                async || server.cli(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(());
            testkit::eventually("a replica that has heard everything", up).await;
            replica = Some(Replica { server, link });
        }
        Self { primary, replica, former: None }
    }

    /// Ends the primary, by SIGTERM where it is to be `gentle`, and starts it again after `pause`.
    async fn restart(&mut self, gentle: bool, pause: Duration) {
        if gentle {
            self.primary.stop().await;
        } else {
            self.primary.kill().await;
        }
        sleep(pause).await;
        self.primary.restart().await;
    }

    /// Kills the primary, and starts it again after `pause` without anything it ever knew.
    ///
    /// # Errors
    /// Its files cannot be removed.
    async fn restart_empty(&mut self, pause: Duration) -> Result<(), String> {
        self.primary.kill().await;
        forget(&self.primary)?;
        sleep(pause).await;
        self.primary.restart().await;
        Ok(())
    }

    /// From now on the replica hears nothing more of its primary.
    fn lag(&self) {
        if let Some(replica) = &self.replica {
            replica.link.blackhole();
        }
    }

    /// Kills the primary and promotes the replica. Returns whether the replica lacked anything.
    ///
    /// # Errors
    /// There is no replica.
    async fn promote(&mut self) -> Result<bool, String> {
        let Some(replica) = self.replica.take() else { return Err("there is no replica to promote".to_owned()) };
        let known = self.primary.cli(&["GET", CLOCK]).await;
        self.primary.kill().await;
        // Not while it loads what it was sent as a whole.
        let promoted = async || (replica.server.cli(&["REPLICAOF", "NO", "ONE"]).await == "OK").then_some(());
        testkit::eventually("a replica is promoted", promoted).await;
        let lacked = replica.server.cli(&["GET", CLOCK]).await != known;
        self.former = Some(std::mem::replace(&mut self.primary, replica.server));
        Ok(lacked)
    }

    /// Writes the servers' logs into `folder`. What cannot be written is missing there.
    fn keep_logs(&self, folder: &Path) {
        let replica = self.replica.as_ref().map(|replica| &replica.server);
        let servers =
            [("redis.log", Some(&self.primary)), ("replica.log", replica), ("former.log", self.former.as_ref())];
        for (name, server) in servers {
            if let Some(server) = server {
                let _ = std::fs::write(folder.join(name), server.log());
            }
        }
    }
}

fn builder(durable: bool) -> RedisServerBuilder {
    // A primary that is to stop does not wait for its replica.
    let builder = RedisServer::builder().config("shutdown-timeout 0").config("repl-diskless-sync-delay 0");
    if durable { DURABLE.iter().fold(builder, |builder, line| builder.config(line)) } else { builder }
}
