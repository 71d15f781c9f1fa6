//! Orders over Redis: entries of the streams `sse.control` and `sse.renewals`, the sorted set `sse.revoked`, and a key for each ticket.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, FutureExt};
use redis::{Cmd, FromRedisValue, Pipeline, cmd};
use shared::order::{FIELD, Order, Revocation};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::links::Link;
use super::tries::call;
use super::{Inner, Publisher, control};
use crate::PublishError;
use crate::orders::{Hear, MAX_REVOCATIONS, MAX_TICKET_TTL, Orders};

/// Orders that the stream keeps, about. One that is not read by then was given while a node heard nothing.
const KEPT: usize = 10_000;
/// The same for renewals, which nobody reads later.
const KEPT_RENEWALS: usize = 1_000;
/// How long the stream lives behind its last order.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
/// When to come back to a server that remembers as many revocations as it may.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(60);

impl Orders for Publisher {
    fn give<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            let text = order.to_json().map_err(|error| PublishError::Rejected { reason: error.to_string() })?;
            if let Order::Revoke(revocation) = order {
                self.remember(revocation).await?;
            }
            let inner = &self.inner;
            self.ask(|| {
                let (stream, kept) = match order {
                    Order::Renew(_) => (inner.keys.renewals(), KEPT_RENEWALS),
                    _ => (inner.keys.control(), KEPT),
                };
                let mut pipe = Pipeline::with_capacity(2);
                pipe.atomic();
                pipe.cmd("XADD").arg(&stream).arg("MAXLEN").arg("~").arg(kept).arg("*").arg(FIELD).arg(&text).ignore();
                pipe.cmd("EXPIRE").arg(&stream).arg(KEPT_FOR.as_secs()).ignore();
                Question::Pipe(pipe)
            })
            .await
        }
        .boxed()
    }

    fn keep_ticket<'a>(
        &'a self,
        digest: &'a str,
        stands_for: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            let key = self.inner.keys.ticket(digest);
            let ttl = u64::try_from(ttl.min(MAX_TICKET_TTL).as_millis()).unwrap_or(u64::MAX).max(1);
            let mut set = cmd("SET");
            set.arg(key).arg(stands_for).arg("PX").arg(ttl);
            self.ask(|| Question::Cmd(set.clone())).await
        }
        .boxed()
    }

    /// Not tried again once it may have been taken: a ticket whose answer was lost is lost.
    fn take_ticket<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<String>, PublishError>> {
        async move {
            let inner = &self.inner;
            let deadline = inner.primaries.deadline();
            let mut take = cmd("GETDEL");
            take.arg(inner.keys.ticket(digest));
            ask_once(inner, &Question::Cmd(take), deadline).await.map_err(|failure| {
                inner.primaries.note(0, &failure);
                failure.error
            })
        }
        .boxed()
    }

    fn hear(self: Arc<Self>, hear: Arc<dyn Hear>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move { control::read(&self.inner, &*hear, stop).await }.boxed()
    }
}

impl Publisher {
    /// Where nodes that start later read it. Before the order itself: a node that has heard that may ask.
    async fn remember(&self, revocation: &Revocation) -> Result<(), PublishError> {
        let member = revocation.to_json().map_err(|error| PublishError::Rejected { reason: error.to_string() })?;
        let (key, now) = (self.inner.keys.revoked(), unix_now());
        let forget = || {
            let mut pipe = Pipeline::with_capacity(2);
            pipe.atomic();
            pipe.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now).ignore();
            pipe.cmd("ZCARD").arg(&key);
            Question::Pipe(pipe)
        };
        let (count,): (usize,) = self.ask(forget).await?;
        if count >= MAX_REVOCATIONS {
            let reason = format!("{count} revocations are remembered, the limit");
            return Err(PublishError::Unavailable { reason, retry_after: FULL_RETRY_AFTER });
        }
        let mut add = cmd("ZADD");
        add.arg(&key).arg(revocation.until).arg(member);
        let _: usize = self.ask(|| Question::Cmd(add.clone())).await?;
        Ok(())
    }

    /// Asks, and asks again where that may help, until the deadline of a call. Only what may be done twice.
    async fn ask<T: FromRedisValue>(&self, question: impl Fn() -> Question) -> Result<T, PublishError> {
        call(&self.inner, 0, |deadline| {
            let question = question();
            async move { ask_once(&self.inner, &question, deadline).await }
        })
        .await
    }
}

enum Question {
    Cmd(Cmd),
    Pipe(Pipeline),
}

async fn ask_once<T: FromRedisValue>(inner: &Inner, question: &Question, deadline: Instant) -> Result<T, Failure> {
    let link = inner.primaries.of(0, deadline).await?.lend(deadline).await?;
    query(link, question, deadline).await
}

async fn query<T: FromRedisValue>(mut link: Link, question: &Question, deadline: Instant) -> Result<T, Failure> {
    let asked = async {
        match question {
            Question::Cmd(cmd) => cmd.query_async(link.connection()).await,
            Question::Pipe(pipe) => pipe.query_async(link.connection()).await,
        }
    };
    let failure = match timeout_at(deadline, asked).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => Failure::of(&error),
        Err(_) => Failure::late(),
    };
    link.end(&failure);
    Err(failure)
}

/// Unix seconds.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
