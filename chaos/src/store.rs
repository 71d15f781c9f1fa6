//! The Redis of a round: a primary, a replica where one has to stand by, and what is done to them as a whole. Either we say who is the
//! primary, or [`Sentinels`] do, or there are several with a part of the channels each, and the nodes of a cluster say who they are.

mod alone;
mod clustered;
mod watched;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use testkit::{RedisServer, SENTINEL_NAME, Sentinels};
use tokio::time::sleep;

use self::alone::Alone;
use self::clustered::Clustered;
use self::watched::Watched;
use crate::fault::Fault;
use crate::partitions::Partitions;
use crate::plan::Plan;

/// The clock where there is one partition.
const CLOCK: &str = "sse.clock";
/// Moves the clock's milliseconds by ARGV[1], and nothing else of it.
const MOVE_CLOCK: &str = "local ms, rest = (redis.call('GET', KEYS[1]) or ''):match('^(%d+)(.*)$') \
     return ms and redis.call('SET', KEYS[1], ('%.0f'):format(ms + ARGV[1]) .. rest)";
/// What is written to disk before anything is acknowledged.
const DURABLE: [&str; 2] = ["appendonly yes", "appendfsync always"];
/// Where the server keeps that.
const DURABLE_FOLDER: &str = "appendonlydir";

/// How many partitions channels are spread over in a Redis Cluster.
const PARTITIONS: u16 = 16;

/// Who says which server is the primary; `single`, `sentinel` or `cluster` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redis {
    /// We do.
    Single,
    /// Three Sentinels, which watch a primary and a replica.
    Sentinel,
    /// The nodes of a Redis Cluster, of which there are several.
    Cluster,
}

impl Redis {
    /// How many partitions it has.
    #[must_use]
    pub fn partitions(self) -> u16 {
        if self == Self::Cluster { PARTITIONS } else { 1 }
    }
}

impl FromStr for Redis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "single" => Ok(Self::Single),
            "sentinel" => Ok(Self::Sentinel),
            "cluster" => Ok(Self::Cluster),
            _ => Err("is none of single, sentinel, cluster".to_owned()),
        }
    }
}

/// What the faults of a round want of it.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Everything acknowledged is on disk.
    pub disk: bool,
    /// A replica stands by, also where there would be none without.
    pub replica: bool,
    /// A primary without slots stands by, in a Redis Cluster.
    pub spare: bool,
}

impl From<&Plan> for Needs {
    fn from(plan: &Plan) -> Self {
        let needs = |what| plan.needs(what);
        Self { disk: needs(Fault::needs_disk), replica: needs(Fault::needs_replica), spare: needs(Fault::needs_spare) }
    }
}

/// The partition whose primary is meant, whichever server that is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim(pub u16);

/// Where a process finds the servers.
pub enum Way<'a> {
    /// Where we lead it: to this port.
    Ours(u16),
    /// Sentinels on the first ports say which of those on the others is the primary of this name.
    Sentinels(Vec<u16>, Vec<u16>, &'a str),
    /// All are nodes of a cluster, and say who has what.
    Nodes(Vec<u16>),
}

/// The servers. Dropping it kills them.
pub struct Store(Kind);

enum Kind {
    Alone(Box<Alone>),
    Watched(Box<Watched>),
    Clustered(Box<Clustered>),
}

impl Store {
    /// Starts them, replicas having heard everything.
    pub async fn start(redis: Redis, needs: Needs, partitions: &Arc<Partitions>) -> Self {
        Self(match redis {
            Redis::Single => Kind::Alone(Box::new(Alone::start(needs.disk, needs.replica).await)),
            Redis::Sentinel => Kind::Watched(Box::new(Watched::start(needs.disk).await)),
            Redis::Cluster => Kind::Clustered(Box::new(Clustered::start(needs, partitions.clone()).await)),
        })
    }

    /// One of the partitions that have channels; with `replaceable`, of those whose primary has a replica.
    ///
    /// # Errors
    /// There is none.
    pub fn aim(&self, rng: &mut fastrand::Rng, replaceable: bool) -> Result<Aim, String> {
        match &self.0 {
            Kind::Alone(_) | Kind::Watched(_) => Ok(Aim(0)),
            Kind::Clustered(clustered) => {
                clustered.aim(rng, replaceable).ok_or_else(|| "no primary has a replica".to_owned())
            }
        }
    }

    /// All partitions that the primary of `aim` has.
    #[must_use]
    pub fn hit(&self, aim: Aim) -> Vec<u16> {
        match &self.0 {
            Kind::Alone(_) | Kind::Watched(_) => vec![aim.0],
            Kind::Clustered(clustered) => clustered.hit(aim),
        }
    }

    /// Whether a replica, which may not have heard everything, takes the place of a primary that is away, without being told to.
    #[must_use]
    pub fn replaces_by_itself(&self) -> bool {
        !matches!(self.0, Kind::Alone(_))
    }

    /// The cluster, where it is one.
    pub fn cluster(&mut self) -> Option<&mut Clustered> {
        if let Kind::Clustered(clustered) = &mut self.0 { Some(clustered) } else { None }
    }

    /// The primary.
    #[must_use]
    pub fn primary(&self, aim: Aim) -> &RedisServer {
        match &self.0 {
            Kind::Alone(alone) => &alone.primary,
            Kind::Watched(watched) => watched.primary(),
            Kind::Clustered(clustered) => clustered.primary(aim),
        }
    }

    /// Where a process finds them.
    #[must_use]
    pub fn way(&self) -> Way<'_> {
        let ports = |servers: &[RedisServer]| servers.iter().map(RedisServer::port).collect();
        match &self.0 {
            Kind::Alone(alone) => Way::Ours(alone.primary.port()),
            Kind::Watched(watched) => {
                let Sentinels { servers, sentinels } = &watched.all;
                Way::Sentinels(ports(sentinels), ports(servers), SENTINEL_NAME)
            }
            Kind::Clustered(clustered) => Way::Nodes(ports(&clustered.all.servers)),
        }
    }

    /// Ends the primary, by SIGTERM where it is to be `gentle`, and starts it again after `pause`.
    pub async fn restart(&mut self, aim: Aim, gentle: bool, pause: Duration) {
        match &mut self.0 {
            Kind::Alone(alone) => alone.restart(gentle, pause).await,
            Kind::Watched(watched) => watched.restart(gentle, pause).await,
            Kind::Clustered(clustered) => clustered.restart(aim, gentle, pause).await,
        }
    }

    /// Kills the primary, and starts it again after `pause` without anything it ever knew.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub async fn restart_empty(&mut self, aim: Aim, pause: Duration) -> Result<(), String> {
        match &mut self.0 {
            Kind::Alone(alone) => alone.restart_empty(pause).await,
            Kind::Watched(watched) => watched.restart_empty(pause).await,
            Kind::Clustered(clustered) => clustered.restart_empty(aim, pause).await,
        }
    }

    /// The primary stands still for so long.
    pub async fn pause(&mut self, aim: Aim, time: Duration) {
        self.primary(aim).pause().await;
        sleep(time).await;
        self.primary(aim).resume().await;
        match &mut self.0 {
            Kind::Alone(_) => {}
            Kind::Watched(watched) => watched.settle().await,
            Kind::Clustered(clustered) => clustered.settle().await,
        }
    }

    /// From now on the replica hears nothing more of its primary.
    pub async fn lag(&self, aim: Aim) {
        match &self.0 {
            Kind::Alone(alone) => alone.lag(),
            Kind::Watched(watched) => watched.lag().await,
            Kind::Clustered(clustered) => clustered.lag(aim).await,
        }
    }

    /// Kills the primary, and the replica takes its place. Returns whether the replica lacked anything.
    ///
    /// # Errors
    /// There is no replica.
    pub async fn promote(&mut self, aim: Aim) -> Result<bool, String> {
        match &mut self.0 {
            Kind::Alone(alone) => alone.promote().await,
            Kind::Watched(watched) => Ok(watched.promote().await),
            Kind::Clustered(clustered) => Ok(clustered.promote(aim).await),
        }
    }

    /// The replica takes the place of the primary, which is well.
    ///
    /// # Errors
    /// There is nobody to ask for it.
    pub async fn replace(&mut self, aim: Aim) -> Result<(), String> {
        match &mut self.0 {
            Kind::Alone(_) => Err("there are no Sentinels".to_owned()),
            Kind::Watched(watched) => {
                watched.replace().await;
                Ok(())
            }
            Kind::Clustered(clustered) => clustered.replace(aim).await,
        }
    }

    /// Moves this clock, and leaves its epoch alone. Where there is none, as just after a loss, it waits for it: the next publish
    /// makes one.
    pub async fn move_clock(&self, aim: Aim, clock: &str, by: Duration) {
        let ms = by.as_millis().to_string();
        let moved =
            async || (self.primary(aim).cli(&["EVAL", MOVE_CLOCK, "1", clock, &ms]).await == "OK").then_some(());
        testkit::eventually("the clock is moved", moved).await;
    }

    /// Writes the servers' logs into `folder`. What cannot be written is missing there.
    pub fn keep_logs(&self, folder: &Path) {
        match &self.0 {
            Kind::Alone(alone) => alone.keep_logs(folder),
            Kind::Watched(watched) => watched.keep_logs(folder),
            Kind::Clustered(clustered) => clustered.keep_logs(folder),
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
