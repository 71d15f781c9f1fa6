//! A primary, and a replica where one has to stand by. We say which of them processes are led to.

use std::path::Path;
use std::time::Duration;

use testkit::{Proxy, RedisServer, RedisServerBuilder};
use tokio::time::sleep;

use super::{CLOCK, DURABLE, forget};

/// A primary, by our own word.
pub(super) struct Alone {
    pub(super) primary: RedisServer,
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
    pub(super) async fn start(durable: bool, with_replica: bool) -> Self {
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
    pub(super) async fn restart(&mut self, gentle: bool, pause: Duration) {
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
    pub(super) async fn restart_empty(&mut self, pause: Duration) -> Result<(), String> {
        self.primary.kill().await;
        forget(&self.primary)?;
        sleep(pause).await;
        self.primary.restart().await;
        Ok(())
    }

    /// From now on the replica hears nothing more of its primary.
    pub(super) fn lag(&self) {
        if let Some(replica) = &self.replica {
            replica.link.blackhole();
        }
    }

    /// Kills the primary and promotes the replica. Returns whether the replica lacked anything.
    ///
    /// # Errors
    /// There is no replica.
    pub(super) async fn promote(&mut self) -> Result<bool, String> {
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
    pub(super) fn keep_logs(&self, folder: &Path) {
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
