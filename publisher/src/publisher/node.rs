//! A node's side of the census, on the connection on which it hears orders: it says that it is there, and answers questions.

use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use shared::census::{Answer, FIELD, Question};
use shared::redis::{Functions, first_error};
use tokio::time::{Instant, timeout_at};

use super::Inner;
use super::census::answer_to;
use super::failure::Failure;
use crate::census::{BEAT_EVERY, BEAT_TTL, Myself};
use crate::orders::Hear;

/// When a node says next that it is there.
#[derive(Default)]
pub(super) struct Beating {
    /// `None` before the first time.
    said: Option<Instant>,
    /// The log has said that it cannot be said.
    told: bool,
}

impl Beating {
    /// How long until it is due again, at `now`.
    pub(super) fn rests(&self, now: Instant) -> Duration {
        self.said.map_or(Duration::ZERO, |said| (said + BEAT_EVERY).saturating_duration_since(now))
    }

    /// Says it where that is due. A server that refuses it, as by an ACL that is older, ends nothing: orders are heard all the same.
    pub(super) async fn beat(
        &mut self,
        inner: &Inner,
        connection: &mut MultiplexedConnection,
        myself: &Myself,
    ) -> Result<(), RedisError> {
        let now = Instant::now();
        if !self.rests(now).is_zero() {
            return Ok(());
        }
        self.said = Some(now);
        let Ok(text) = myself.beat.to_json() else { return Ok(()) };
        let Err(error) = say(inner, connection, &myself.incarnation, &text).await else {
            self.told = false;
            return Ok(());
        };
        if first_error(&error).code().is_none() {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            let reason = Failure::of(&error).into_reason();
            tracing::warn!(
                reason,
                "cannot say that this node is there; it is not counted among the nodes until that works"
            );
        }
        Ok(())
    }
}

async fn say(
    inner: &Inner,
    connection: &mut MultiplexedConnection,
    incarnation: &str,
    text: &str,
) -> Result<(), RedisError> {
    let deadline = inner.primaries.deadline();
    // Where nobody says who has the first partition, this connection will not be for long either.
    let Ok(primary) = inner.primaries.of(0, deadline).await else { return Ok(()) };
    let loaded = primary.functions();
    let beat = |functions: &Functions| functions.beat(&inner.keys.nodes(), BEAT_TTL, incarnation, text);
    let said = beat(&loaded.functions).exec_async(connection).await;
    let Err(error) = said else { return Ok(()) };
    if !Failure::of(&error).no_functions {
        return Err(error);
    }
    // Said again the next time, or now, if they can be had.
    primary.load_again(&loaded, &inner.keys, deadline).await.map_err(|_| error)?;
    beat(&primary.functions().functions).exec_async(connection).await
}

/// It is there no longer, as far as that can still be said.
pub(super) async fn leave(inner: &Inner, myself: &Myself) {
    let deadline = inner.primaries.deadline();
    let leave = async {
        let primary = inner.primaries.of(0, deadline).await?;
        let leave = primary.functions().functions.beat(&inner.keys.nodes(), BEAT_TTL, &myself.incarnation, "");
        primary.ask(&leave, deadline).await
    };
    // Whoever cannot say it is gone a little later.
    let _ = timeout_at(deadline, leave).await;
}

/// Answers a question, if it is one.
pub(super) async fn answer(
    inner: &Inner,
    connection: &mut MultiplexedConnection,
    hear: &dyn Hear,
    fields: &[Vec<u8>],
) -> Result<(), RedisError> {
    let question = fields.chunks_exact(2).find(|pair| pair[0] == FIELD.as_bytes());
    let Some(question) = question.and_then(|pair| Question::parse(&pair[1])) else {
        tracing::debug!("a question that this version does not know was left alone");
        return Ok(());
    };
    let (Some(myself), Some(connections)) = (hear.myself(), hear.asked(&question.of)) else { return Ok(()) };
    let Ok(text) = (Answer { incarnation: myself.incarnation, connections }).to_json() else { return Ok(()) };
    answer_to(&inner.keys, &question, &text).exec_async(connection).await
}
