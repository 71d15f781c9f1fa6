//! One connection, from opening it to whatever ends it. It hears and reads: an answer on it stands behind all messages that
//! came before, so a mark that is read and was not heard of shows that messages do not arrive.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use redis::aio::{MultiplexedConnection, SendError};
use shared::channel::Channel;
use shared::redis::Server;
use shared::redis::client::is_not_permitted;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::hearing::Hearing;
use super::telling::{Lost, Telling};

/// Names of one command at most: Redis queues all its answers before it sends the first, and serves nobody else meanwhile.
const BATCH: usize = 500;
/// How often all marks are read, for the case that a message did not arrive. Nobody listens any more once nobody waits at two
/// of these in a row.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The same where this process's user may not subscribe, and reading is all there is.
const BLIND_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// See above. Dropping it closes the connection.
pub(super) struct Session<'a> {
    shared: &'a Shared,
    server: Server,
    connection: MultiplexedConnection,
    hearing: Arc<Hearing>,
    /// Until the server says otherwise.
    may_subscribe: bool,
}

impl<'a> Session<'a> {
    /// Connects. Each call on the connection has the deadline of the client's settings.
    pub(super) async fn open(shared: &'a Shared) -> Result<Self, Lost> {
        let hearing = Arc::new(Hearing::new(shared.waiters.clone()));
        let push = {
            let hearing = Arc::clone(&hearing);
            move |info| {
                hearing.push(&info);
                Ok::<_, SendError>(())
            }
        };
        let server = shared.client.server().await?;
        let connection = server.connect_with_push(push).await?;
        Ok(Self { shared, server, connection, hearing, may_subscribe: true })
    }

    /// Listens for all who wait and who come, until nobody has for a while (`Ok`). `failed` begins again from 0 once all goes
    /// well.
    pub(super) async fn run(mut self, telling: &mut Telling, failed: &mut u32) -> Result<(), Lost> {
        let (hearing, waiters, server) = (Arc::clone(&self.hearing), self.shared.waiters.clone(), self.server.clone());
        waiters.renew();
        let (mut is_established, mut is_idle) = (false, false);
        let mut next_look = Instant::now() + LOOK_INTERVAL;
        loop {
            tokio::select! {
                biased;
                () = hearing.closed() => return Err(Lost::Closed),
                () = server.left() => return Err(Lost::Left),
                () = sleep_until(next_look) => {
                    self.look().await?;
                    *failed = 0;
                    if is_idle && waiters.is_empty() {
                        return Ok(());
                    }
                    is_idle = waiters.is_empty();
                    next_look = Instant::now() + self.interval();
                }
                channels = waiters.fresh(BATCH) => {
                    is_idle = false;
                    self.attach(channels, telling).await?;
                    next_look = next_look.min(Instant::now() + self.interval());
                }
                () = ready(()), if !is_established => {
                    is_established = true;
                    telling.established();
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        if self.may_subscribe { LOOK_INTERVAL } else { BLIND_LOOK_INTERVAL }
    }

    /// Subscribes, then reads. What is subscribed already was heard all the time.
    async fn attach(&mut self, channels: Vec<Channel>, telling: &mut Telling) -> Result<(), Lost> {
        let named = channels.into_iter().map(|channel| (self.shared.keys.cancel(&channel), channel));
        let unknown: Vec<(String, Channel)> = named.filter(|(name, _)| !self.hearing.knows(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.may_subscribe {
            let names: Vec<String> = unknown.iter().map(|(name, _)| name.clone()).collect();
            unknown.iter().for_each(|(name, channel)| self.hearing.listen(name, channel));
            match self.connection.subscribe(&names).await {
                Err(error) if is_not_permitted(&error) => {
                    telling.not_permitted(&error);
                    self.hearing.ignore(&names);
                    self.may_subscribe = false;
                }
                subscribed => subscribed?,
            }
        }
        for (name, channel) in self.marked(unknown).await? {
            self.hearing.found(&name, &channel);
        }
        Ok(())
    }

    /// Listens no more to what nobody waits for, and reads the marks of what somebody does.
    async fn look(&mut self) -> Result<(), Lost> {
        for names in self.hearing.unwanted().chunks(BATCH) {
            // First: who begins to wait meanwhile has to be subscribed again.
            self.hearing.ignore(names);
            self.connection.unsubscribe(names).await?;
        }
        let waiting = self.shared.waiters.channels();
        let mut is_deaf = false;
        for channels in waiting.chunks(BATCH) {
            let named = channels.iter().map(|channel| (self.shared.keys.cancel(channel), channel.clone()));
            for (name, channel) in self.marked(named.collect()).await? {
                is_deaf |= self.hearing.found(&name, &channel);
            }
        }
        if is_deaf { Err(Lost::Deaf) } else { Ok(()) }
    }

    /// Those that are marked as cancelled.
    async fn marked(&mut self, named: Vec<(String, Channel)>) -> Result<Vec<(String, Channel)>, RedisError> {
        let mut read = redis::cmd("MGET");
        named.iter().for_each(|(name, _)| _ = read.arg(name));
        let marks: Vec<Option<Vec<u8>>> = read.query_async(&mut self.connection).await?;
        Ok(named.into_iter().zip(marks).filter(|(_, mark)| mark.is_some()).map(|(named, _)| named).collect())
    }
}
