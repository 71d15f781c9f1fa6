//! What keeps the leases of a node in Redis: a session after the other, each on connections of its own.

use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisError;
use futures_util::future::join_all;
use shared::redis::functions::is_missing;
use shared::redis::{Functions, LeaseReply, describe};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::backoff::Backoff;
use super::errors::{ask, is_about_one_key, left};
use super::purpose::{self, Purpose};
use super::wires::{Wire, Wires};
use super::{Change, Connected, Registry, Releases, TAKE_DEADLINE};
use crate::broker::leases::{Leases, PARTS};

/// How often it is looked for users who have gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Calls on their way together.
const BATCH: usize = 256;

/// Renews what `leases` hold, and gives back what ended, until `stop`. Does nothing for those without a registry.
pub async fn keep(leases: Arc<Leases>, releases: Releases, stop: CancellationToken) {
    let Some(registry) = leases.registry() else { return stop.cancelled().await };
    let mut keeper = Keeper {
        leases: &leases,
        registry,
        changes: releases.0,
        changed: Vec::new(),
        is_told: false,
        is_told_of_key: false,
    };
    let mut backoff = Backoff::default();
    let kept = async {
        loop {
            let ended = keeper.session(&mut backoff).await;
            *registry.connected() = None;
            keeper.tell(&ended);
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = registry.client.turns(0) => {}
            }
        }
    };
    tokio::select! {
        () = kept => {}
        () = stop.cancelled() => {}
    }
    let last = registry.connected().take();
    if let Some(Connected { wires, .. }) = last {
        // What does not reach Redis any more expires.
        let _ = timeout(TAKE_DEADLINE, keeper.pass_on_some(&wires, usize::MAX)).await;
    }
}

struct Keeper<'a> {
    leases: &'a Leases,
    registry: &'a Registry,
    changes: mpsc::Receiver<Change>,
    /// On their way to Redis, in the order in which they happened.
    changed: Vec<Change>,
    /// The log has said that it cannot. Unset when all was registered again.
    is_told: bool,
    /// The log has said of this session that a user's key cannot be used.
    is_told_of_key: bool,
}

impl Keeper<'_> {
    /// From one connection's opening to whatever ends it.
    async fn session(&mut self, backoff: &mut Backoff) -> RedisError {
        match self.serve(backoff).await {
            Err(error) => error,
            Ok(()) => (::redis::ErrorKind::Io, "somebody found the connection broken").into(),
        }
    }

    async fn serve(&mut self, backoff: &mut Backoff) -> Result<(), RedisError> {
        let registry = self.registry;
        let wires = Wires::open(&registry.client, registry.keys.partitions()).await?;
        self.is_told_of_key = false;
        // First, so that whoever comes from now on is counted there too, and what is registered below is all there is besides.
        let broken = CancellationToken::new();
        *registry.connected() = Some(Connected { wires: wires.clone(), broken: broken.clone() });
        for part in 0..PARTS {
            self.renew(&wires, part).await?;
        }
        self.pass_on_some(&wires, PARTS).await?;
        // Now rather than in a second: what may not be done at all is to be known before it is said that all is well.
        let failed = purpose::look(registry, &wires).await?;
        self.tell_of_key(failed);
        backoff.reset();
        self.is_told = false;
        let mut part = 0;
        let mut turn = interval(registry.lease / 3 / PARTS as u32);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = broken.cancelled() => return Ok(()),
                () = wires.left() => return Err(left()),
                _ = turn.tick() => {
                    if part == 0 {
                        // Where nothing is held, a connection that is dead is found here, and not by who comes next.
                        for wire in wires.all() {
                            ::redis::cmd("PING").exec_async(&mut wire.connection.clone()).await?;
                        }
                    }
                    let calls = self.renew(&wires, part).await?;
                    part = (part + 1) % PARTS;
                    // Where a part takes longer than its turn, the next one is there already.
                    self.pass_on_some(&wires, calls.max(1)).await?;
                }
                _ = self.changes.recv_many(&mut self.changed, BATCH) => self.pass_on(&wires).await?,
                _ = look.tick(), if registry.purpose != Purpose::Limit => {
                    let failed = purpose::look(registry, &wires).await?;
                    self.tell_of_key(failed);
                }
            }
        }
    }

    /// The log speaks once, until it works again.
    fn tell(&mut self, ended: &RedisError) {
        let reason = describe(ended);
        if std::mem::replace(&mut self.is_told, true) {
            return tracing::debug!(reason, "cannot keep users' leases in Redis");
        }
        match self.registry.purpose {
            Purpose::Limit => {
                tracing::warn!(reason, "cannot keep users' leases in Redis; this node's own count decides meanwhile");
            }
            Purpose::Presence(_) => {
                tracing::warn!(reason, "cannot tell Redis who is online; what changes meanwhile is told later");
            }
        }
    }

    /// The log speaks once a session, and names nobody.
    fn tell_of_key(&mut self, failed: Option<RedisError>) {
        let Some(error) = failed else { return };
        let reason = describe(&error);
        if std::mem::replace(&mut self.is_told_of_key, true) {
            return tracing::debug!(reason, "cannot keep a user's leases in Redis");
        }
        tracing::warn!(reason, "cannot keep some user's leases in Redis; for this one each node's own count decides");
    }

    /// Renews one part of what is held. Neither the limit nor anything else is a reason to close a stream that is open.
    /// Returns how many calls that took.
    async fn renew(&mut self, wires: &Wires, part: usize) -> Result<usize, RedisError> {
        let registry = self.registry;
        let held = self.leases.held(part);
        let batches = held.chunks(BATCH);
        let calls = batches.len();
        for users in batches {
            let renewals = users.iter().map(|(user, held)| Call {
                user: user.clone(),
                time: registry.lease,
                names: held.iter().map(|number| registry.name(*number)).collect(),
            });
            let (replies, failed) = self.send(wires, renewals).await?;
            self.tell_of_key(failed);
            for LeaseReply { held, added, .. } in replies {
                let over = held.saturating_sub(self.leases.limit() as u64).min(added);
                if over > 0 {
                    self.leases.metrics().leases_over.increment(over);
                }
            }
        }
        Ok(calls)
    }

    /// Passes on what is in `changed`, which keeps it until that is done.
    async fn pass_on(&mut self, wires: &Wires) -> Result<(), RedisError> {
        let change = |Change { user, number, ends }: &Change| {
            let time = if *ends { Duration::ZERO } else { self.registry.lease };
            Call { user: user.clone(), time, names: vec![self.registry.name(*number)] }
        };
        let (_, failed) = self.send(wires, self.changed.iter().map(change)).await?;
        self.changed.clear();
        self.tell_of_key(failed);
        Ok(())
    }

    /// Passes on what waits for it, by so many calls at most.
    async fn pass_on_some(&mut self, wires: &Wires, calls: usize) -> Result<(), RedisError> {
        for _ in 0..calls {
            while self.changed.len() < BATCH
                && let Ok(one) = self.changes.try_recv()
            {
                self.changed.push(one);
            }
            if self.changed.is_empty() {
                return Ok(());
            }
            self.pass_on(wires).await?;
        }
        Ok(())
    }

    /// What the calls are answered, in no order, and one of the errors of those that fail for their own key: nobody else's lease is to
    /// end for that.
    async fn send(
        &self,
        wires: &Wires,
        calls: impl Iterator<Item = Call>,
    ) -> Result<(Vec<LeaseReply>, Option<RedisError>), RedisError> {
        let mut by_wire: Vec<Vec<Call>> = wires.all().iter().map(|_| Vec::new()).collect();
        for call in calls {
            let partition = self.registry.purpose.partition(&self.registry.keys, &call.user);
            if let Some(calls) = by_wire.get_mut(wires.place(partition)) {
                calls.push(call);
            }
        }
        let asked = wires.all().iter().zip(&by_wire).filter(|(_, calls)| !calls.is_empty());
        let asked = join_all(asked.map(|(wire, calls)| self.ask(wire, calls))).await;
        let (mut replies, mut failed) = (Vec::new(), None);
        for answers in asked {
            for answer in answers? {
                match answer {
                    Ok(reply) => replies.push(reply),
                    Err(error) if is_about_one_key(&error) => failed = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((replies, failed))
    }

    /// Of one server. The functions are loaded again where they are gone; to renew or to give back twice does no harm.
    async fn ask(&self, wire: &Wire, calls: &[Call]) -> Result<Vec<Result<LeaseReply, RedisError>>, RedisError> {
        let Registry { library, keys, .. } = self.registry;
        let build = |functions: &Functions| {
            let mut pipeline = ::redis::pipe();
            for Call { user, time, names } in calls {
                pipeline.add_command(self.registry.command(functions, user, *time, None, names));
            }
            pipeline
        };
        let loaded = library.on(wire.server.address());
        let answers = ask(&mut wire.connection.clone(), build(&loaded.functions)).await?;
        if !answers.iter().any(|answer| answer.as_ref().is_err_and(is_missing)) {
            return Ok(answers);
        }
        let loaded = library.reload(&loaded, &wire.server, keys, wire.partition).await?;
        ask(&mut wire.connection.clone(), build(&loaded.functions)).await
    }
}

/// What one user's leases are told.
struct Call {
    user: Arc<str>,
    time: Duration,
    names: Vec<String>,
}
