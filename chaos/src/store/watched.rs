//! A primary and a replica that Sentinels watch. After whatever is done to them we wait until one is the primary and the other one
//! follows it, or the next failover would have nobody to go to.

use std::path::Path;
use std::time::Duration;

use testkit::{RedisServer, SENTINEL_NAME, Sentinels};
use tokio::time::sleep;

use super::{CLOCK, DURABLE, forget};

pub(super) struct Watched {
    pub(super) all: Sentinels,
    /// Which of the servers is the primary, as of the last time that all had settled.
    primary: usize,
}

impl Watched {
    pub(super) async fn start(durable: bool) -> Self {
        let mut builder = Sentinels::builder().servers("shutdown-timeout 0").servers("repl-diskless-sync-delay 0");
        if durable {
            builder = DURABLE.iter().fold(builder, |builder, line| builder.servers(line));
        }
        Self { all: builder.start().await, primary: 0 }
    }

    pub(super) fn primary(&self) -> &RedisServer {
        &self.all.servers[self.primary]
    }

    fn primary_mut(&mut self) -> &mut RedisServer {
        &mut self.all.servers[self.primary]
    }

    /// Waits until the Sentinels agree, and whoever they name is a primary with a replica that has heard everything.
    pub(super) async fn settle(&mut self) {
        self.primary = self.all.settles().await;
    }

    pub(super) async fn restart(&mut self, gentle: bool, pause: Duration) {
        if gentle {
            self.primary_mut().stop().await;
        } else {
            self.primary_mut().kill().await;
        }
        sleep(pause).await;
        self.primary_mut().restart().await;
        self.settle().await;
    }

    pub(super) async fn restart_empty(&mut self, pause: Duration) -> Result<(), String> {
        self.primary_mut().kill().await;
        forget(self.primary())?;
        sleep(pause).await;
        self.primary_mut().restart().await;
        self.settle().await;
        Ok(())
    }

    /// The replica is cut off and let in no more. A proxy between the two would be another primary to the Sentinels.
    pub(super) async fn lag(&self) {
        let primary = self.primary();
        primary.cli(&["ACL", "SETUSER", "default", "-psync", "-sync"]).await;
        primary.cli(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    }

    pub(super) async fn promote(&mut self) -> bool {
        let (before, known) = (self.primary, self.primary().cli(&["GET", CLOCK]).await);
        self.primary_mut().kill().await;
        let now = self.all.fails_over(before).await;
        let lacked = self.all.servers[now].cli(&["GET", CLOCK]).await != known;
        // Its users are again as they were.
        self.all.servers[before].restart().await;
        self.settle().await;
        lacked
    }

    pub(super) async fn replace(&mut self) {
        let before = self.primary;
        let asked = self.all.sentinels[0].cli(&["SENTINEL", "FAILOVER", SENTINEL_NAME]).await;
        if asked == "OK" {
            self.all.fails_over(before).await;
        }
        self.settle().await;
    }

    pub(super) fn keep_logs(&self, folder: &Path) {
        let named = |name: &'static str, servers: &[RedisServer]| {
            let logs = servers.iter().map(RedisServer::log).enumerate();
            logs.map(|(at, log)| (format!("{name}-{}.log", at + 1), log)).collect::<Vec<_>>()
        };
        for (name, log) in [named("redis", &self.all.servers), named("sentinel", &self.all.sentinels)].concat() {
            let _ = std::fs::write(folder.join(name), log);
        }
    }
}
