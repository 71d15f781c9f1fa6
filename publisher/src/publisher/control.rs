//! How a node hears what all nodes are told: it reads the streams `sse.control` and `sse.renewals` and waits at their ends, on a
//! connection of its own, and reads the sorted set `sse.revoked` when it begins, when it begins again, and every minute. A gateway
//! reads the stream `sse.questions` beside them, and says in between that it is there ([`node`](super::node)).
//!
//! A stream rather than a Pub/Sub channel: what is told while a node is without a connection is read when it has one again, and
//! a connection that is dead shows, since each read has an end. Orders of before the node began are nothing to it; revocations
//! are in the set.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};
use shared::order::{FIELD, Order, Revocation};
use shared::position::Position;
use shared::redis::{Server, describe};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::node::{self, Beating};
use super::orders::unix_now;
use super::tries::jittered;
use crate::orders::Hear;

/// How long one read waits for an order.
const WAIT: Duration = Duration::from_secs(2);
/// How often all revocations are read.
const REVOCATIONS_EVERY: Duration = Duration::from_secs(60);
/// Orders of one read.
const ORDERS: usize = 100;
/// Revocations of one read.
const REVOCATIONS: usize = 5_000;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An entry: its id, its fields and their values in turn.
type Entry = (String, Vec<Vec<u8>>);

/// Passes on what is told until `stop`, over one connection after the other.
pub(super) async fn read(inner: &Inner, hear: &dyn Hear, stop: CancellationToken) {
    let mut reader = Reader { inner, hear, heard: None, renewed: None, asked: None, beating: Beating::default() };
    reader.read(&stop).await;
    if let Some(myself) = hear.myself() {
        node::leave(inner, &myself).await;
    }
}
struct Reader<'a> {
    inner: &'a Inner,
    hear: &'a dyn Hear,
    /// Everything up to here was passed on, or is nothing to this node; `None` before its first connection.
    heard: Option<Position>,
    /// The same for renewals.
    renewed: Option<Position>,
    /// The same for questions.
    asked: Option<Position>,
    /// Of this node, where it is one.
    beating: Beating,
}

impl Reader<'_> {
    /// Until `stop`.
    async fn read(&mut self, stop: &CancellationToken) {
        let address = self.inner.client.address();
        let (mut failed, mut away) = (0_u32, None::<Instant>);
        loop {
            let session = async {
                let server = self.inner.client.server().await?;
                let mut connection = self.begin(&server).await?;
                let follow = self.follow(&mut connection, || {
                    failed = 0;
                    if let Some(since) = away.take() {
                        tracing::info!(after = ?since.elapsed(), "hearing orders again");
                    }
                });
                tokio::select! {
                    ended = follow => ended,
                    // At once: there is no other reason to wait with that.
                    () = server.left() => Ok(()),
                }
            };
            let error = tokio::select! {
                () = stop.cancelled() => return,
                ended = session => match ended {
                    Ok(()) => continue,
                    Err(error) => error,
                },
            };
            if away.is_none() {
                away = Some(Instant::now());
                tracing::warn!(reason = %describe(&error), address = address, "not hearing orders to all nodes (to disconnect, \
                to revoke); trying again until it works, and those given meanwhile are carried out then");
            }
            let longest = FIRST_PAUSE.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE);
            failed = failed.saturating_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(jittered(longest)) => {}
                () = self.inner.client.turns(0) => {}
            }
        }
    }
    /// Connects, and reads what is there to begin with: first the end of the stream, then the revocations, so that nothing is
    /// between the two.
    async fn begin(&mut self, server: &Server) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = server.connect().await?;
        let keys = &self.inner.keys;
        let last = end_of(&mut connection, &keys.control()).await?;
        // A stream that ends before what was heard has begun anew.
        self.heard = Some(self.heard.map_or(last, |heard| heard.min(last)));
        // Whoever wanted to renew meanwhile has come to the end of the token, or tries again.
        self.renewed = Some(end_of(&mut connection, &keys.renewals()).await?);
        self.revocations(&mut connection).await?;
        if let Some(myself) = self.hear.myself() {
            // Before the others know that it is there to be asked.
            self.asked = Some(end_of(&mut connection, &keys.questions()).await?);
            self.beating.beat(self.inner, &mut connection, &myself).await?;
        }
        Ok(connection)
    }

    /// `hears` is called once a read was answered, and may be again.
    async fn follow(
        &mut self,
        connection: &mut MultiplexedConnection,
        mut hears: impl FnMut(),
    ) -> Result<(), RedisError> {
        connection.set_response_timeout(WAIT + self.inner.client.settings().command_timeout);
        let keys = &self.inner.keys;
        let (control, renewals, questions) = (keys.control(), keys.renewals(), keys.questions());
        let mut revocations_at = Instant::now() + REVOCATIONS_EVERY;
        loop {
            let myself = self.hear.myself();
            let mut wait = WAIT;
            if let Some(myself) = &myself {
                self.beating.beat(self.inner, connection, myself).await?;
                wait = wait.min(self.beating.rests(Instant::now()));
            }
            let [heard, renewed, asked] =
                [self.heard, self.renewed, self.asked].map(|from| from.unwrap_or(Position::ZERO).to_string());
            let mut next = cmd("XREAD");
            // Zero would be for ever.
            let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            next.arg("COUNT").arg(ORDERS).arg("BLOCK").arg(wait).arg("STREAMS").arg(&control).arg(&renewals);
            // Whoever is no node is asked nothing.
            if myself.is_some() {
                next.arg(&questions).arg(heard).arg(renewed).arg(asked);
            } else {
                next.arg(heard).arg(renewed);
            }
            let streams: Option<Vec<(String, Vec<Entry>)>> = next.query_async(connection).await?;
            hears();
            for (stream, (id, fields)) in streams.into_iter().flatten().flat_map(entries_of) {
                let at = id.parse().ok();
                if stream == questions {
                    self.asked = at.or(self.asked);
                    node::answer(self.inner, connection, self.hear, &fields).await?;
                    continue;
                }
                if stream == control {
                    self.heard = at.or(self.heard);
                } else {
                    self.renewed = at.or(self.renewed);
                }
                match order_of(&fields) {
                    Some(order) => self.hear.order(order),
                    None => tracing::warn!(stream, id, "an order that this version does not know was left alone"),
                }
            }
            if Instant::now() >= revocations_at {
                revocations_at = Instant::now() + REVOCATIONS_EVERY;
                self.revocations(connection).await?;
                // One that has begun anew behind what was heard, by a hand or by a clock, would be waited at for ever.
                self.heard = self.heard.min(Some(end_of(connection, &control).await?));
                self.renewed = self.renewed.min(Some(end_of(connection, &renewals).await?));
                if myself.is_some() {
                    self.asked = self.asked.min(Some(end_of(connection, &questions).await?));
                }
            }
        }
    }

    async fn revocations(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let mut some = cmd("ZRANGEBYSCORE");
            some.arg(self.inner.keys.revoked()).arg(unix_now()).arg("+inf").arg("LIMIT").arg(from).arg(REVOCATIONS);
            let some: Vec<Vec<u8>> = some.query_async(connection).await?;
            from += some.len();
            all.extend(some.iter().filter_map(|member| Revocation::parse(member)));
            if some.len() < REVOCATIONS {
                break;
            }
        }
        self.hear.revocations(all);
        Ok(())
    }
}

/// The last entry's id; 0-0 where there is none.
async fn end_of(connection: &mut MultiplexedConnection, stream: &str) -> Result<Position, RedisError> {
    let last = cmd("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").arg(1).to_owned();
    let last: Vec<Entry> = last.query_async(connection).await?;
    Ok(last.first().and_then(|(id, _)| id.parse().ok()).unwrap_or(Position::ZERO))
}

fn entries_of((stream, entries): (String, Vec<Entry>)) -> impl Iterator<Item = (String, Entry)> {
    entries.into_iter().map(move |entry| (stream.clone(), entry))
}

fn order_of(fields: &[Vec<u8>]) -> Option<Order> {
    let pair = fields.chunks_exact(2).find(|pair| pair[0] == FIELD.as_bytes())?;
    Order::parse(&pair[1])
}
