//! Who is there, over Redis: `sse.nodes` tells which nodes to expect, the stream `sse.questions` asks them, and each pushes its answer to
//! a list that is read here until all have answered or their time is up.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use redis::{Cmd, Pipeline, RedisError, cmd};
use shared::census::{Answer, Beat, FIELD, Of, Question};
use shared::keys::Keys;
use shared::redis::NodesReply;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::links::Link;
use super::tries::call;
use super::{Inner, Publisher};
use crate::PublishError;
use crate::census::{ANSWER_WITHIN, Census, Count, Myself, Seen};
use crate::random::hex_128;

/// Questions that wait for answers at a time; others wait until one of these is answered. Each holds a connection of the pool.
const AT_ONCE: usize = 8;
/// When to come back where so many wait that there was no turn.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Questions that the stream keeps, about: those of the last seconds, for nodes that are busy.
const KEPT: usize = 1_000;
/// How long the stream lives behind its last question, and a list of answers behind its last answer.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Turns to ask.
pub(super) struct Turns(Semaphore);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Census for Publisher {
    fn count<'a>(&'a self, of: &'a Of) -> BoxFuture<'a, Result<Count, PublishError>> {
        async move {
            let nodes = nodes(&self.inner).await?;
            if nodes.is_empty() {
                return Ok(Count::default());
            }
            let answers = ask(&self.inner, of, nodes.len()).await?;
            Ok(sum(&nodes, &answers))
        }
        .boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Seen>, PublishError>> {
        nodes(&self.inner).boxed()
    }
}

async fn nodes(inner: &Inner) -> Result<Vec<Seen>, PublishError> {
    call(inner, 0, |deadline| nodes_once(inner, deadline)).await.map(seen)
}

async fn nodes_once(inner: &Inner, deadline: Instant) -> Result<NodesReply, Failure> {
    let primary = inner.primaries.of(0, deadline).await?;
    let link = primary.lend(deadline).await?;
    let loaded = primary.functions();
    let asked = query(link, &loaded.functions.nodes(&inner.keys.nodes()), deadline).await;
    if asked.as_ref().is_err_and(|failure| failure.no_functions) {
        primary.load_again(&loaded, &inner.keys, deadline).await?;
    }
    asked
}

async fn query(mut link: Link, cmd: &Cmd, deadline: Instant) -> Result<NodesReply, Failure> {
    let failure = match timeout_at(deadline, cmd.query_async(link.connection())).await {
        Ok(Ok(reply)) => return Ok(reply),
        Ok(Err(error)) => Failure::of(&error),
        Err(_) => Failure::late(),
    };
    link.end(&failure);
    Err(failure)
}

/// What is no word of a node is left out.
fn seen(reply: NodesReply) -> Vec<Seen> {
    let time = reply.time_ms;
    let seen = reply.nodes.into_iter().filter_map(|(incarnation, said, text)| {
        let beat = Beat::parse(&text)?;
        Some(Seen { node: Myself { incarnation, beat }, age: Duration::from_millis(time.saturating_sub(said)) })
    });
    let mut seen: Vec<Seen> = seen.collect();
    let key = |seen: &Seen| (seen.node.beat.node.clone(), seen.node.incarnation.clone());
    seen.sort_by_key(key);
    seen
}

/// What each node answered, by its incarnation. Not tried again: half of the answers would be to another question.
async fn ask(inner: &Inner, of: &Of, expected: usize) -> Result<HashMap<String, u64>, PublishError> {
    let deadline = inner.primaries.deadline();
    let Ok(Ok(_turn)) = timeout_at(deadline, inner.turns.0.acquire()).await else {
        let reason = format!("{AT_ONCE} questions to all nodes wait for answers, the limit");
        return Err(PublishError::Unavailable { reason, retry_after: BUSY_RETRY_AFTER });
    };
    let id = hex_128().map_err(|error| rejected(&error))?;
    let question = Question { id, of: of.clone() };
    let text = question.to_json().map_err(|error| rejected(&error))?;
    let given_up = |failure: Failure| {
        inner.primaries.note(0, &failure);
        failure.error
    };
    let primary = inner.primaries.of(0, deadline).await.map_err(given_up)?;
    let link = primary.lend(deadline).await.map_err(given_up)?;
    let mut waiting = Waiting(Some(link));
    let until = deadline.min(Instant::now() + ANSWER_WITHIN);
    let mut answers = HashMap::with_capacity(expected);
    let asked = async {
        let Some(link) = &mut waiting.0 else { return Ok(()) };
        put(inner, link, &text).await?;
        read(link, &inner.keys.answers(&question.id), expected, until, &mut answers).await
    };
    // Redis itself ends the waiting; this is for one that does not answer.
    let failure = match timeout_at(until + ANSWER_WITHIN, asked).await {
        Ok(Ok(())) => {
            // Nothing is waited for on it any more.
            drop(waiting.0.take());
            return Ok(answers);
        }
        Ok(Err(error)) => Failure::of(&error),
        Err(_) => Failure::late(),
    };
    Err(given_up(failure))
}

/// A connection on which Redis is asked to wait. Whoever is given up in the midst of that, as with the request it was for, closes it: the
/// next to be lent it would wait too.
struct Waiting(Option<Link>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.end(&Failure::late());
        }
    }
}

async fn put(inner: &Inner, link: &mut Link, question: &str) -> Result<(), RedisError> {
    let stream = inner.keys.questions();
    let mut pipe = Pipeline::with_capacity(2);
    pipe.atomic();
    pipe.cmd("XADD").arg(&stream).arg("MAXLEN").arg("~").arg(KEPT).arg("*").arg(FIELD).arg(question).ignore();
    pipe.cmd("EXPIRE").arg(&stream).arg(KEPT_FOR.as_secs()).ignore();
    pipe.exec_async(link.connection()).await
}

/// Answers until there are `expected`, or until it is late.
async fn read(
    link: &mut Link,
    list: &str,
    expected: usize,
    until: Instant,
    answers: &mut HashMap<String, u64>,
) -> Result<(), RedisError> {
    while answers.len() < expected {
        let left = until.saturating_duration_since(Instant::now());
        // Zero would be for ever.
        if left < Duration::from_millis(1) {
            return Ok(());
        }
        let mut pop = cmd("BLPOP");
        pop.arg(list).arg(format!("{:.3}", left.as_secs_f64()));
        let popped: Option<(String, Vec<u8>)> = pop.query_async(link.connection()).await?;
        let Some((_, text)) = popped else { return Ok(()) };
        if let Some(answer) = Answer::parse(&text) {
            answers.insert(answer.incarnation, answer.connections);
        }
    }
    Ok(())
}

fn sum(nodes: &[Seen], answers: &HashMap<String, u64>) -> Count {
    let mut count = Count::default();
    for Seen { node, .. } in nodes {
        match answers.get(&node.incarnation) {
            Some(connections) => {
                count.connections = count.connections.saturating_add(*connections);
                count.nodes += usize::from(*connections > 0);
            }
            None => count.silent.push(node.beat.node.clone()),
        }
    }
    count
}

/// What a node says to its answer.
pub(super) fn answer_to(keys: &Keys, question: &Question, answer: &str) -> Pipeline {
    let list = keys.answers(&question.id);
    let mut pipe = Pipeline::with_capacity(2);
    pipe.atomic();
    pipe.cmd("RPUSH").arg(&list).arg(answer).ignore();
    pipe.cmd("EXPIRE").arg(&list).arg(KEPT_FOR.as_secs()).ignore();
    pipe
}

fn rejected(error: &dyn std::fmt::Display) -> PublishError {
    PublishError::Rejected { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use shared::census::Doing;

    use super::*;

    fn node(name: &str, incarnation: &str) -> Seen {
        let beat = Beat {
            node: name.to_owned(),
            version: "0.1.0".to_owned(),
            started: 1,
            state: Doing::Serving,
            connections: 7,
            channels: 3,
        };
        Seen { node: Myself { incarnation: incarnation.to_owned(), beat }, age: Duration::from_millis(400) }
    }

    #[test]
    fn those_who_answered_are_summed_and_those_who_did_not_are_named() {
        let nodes = [node("one", "a"), node("two", "b"), node("three", "c"), node("one", "d")];
        let answers = [("a", 2), ("b", 0), ("d", 5), ("nobody's", 9)].map(|(name, count)| (name.to_owned(), count));
        let count = sum(&nodes, &HashMap::from(answers));
        assert_eq!(count, Count { connections: 7, nodes: 2, silent: vec!["three".to_owned()] });
    }

    #[test]
    fn who_is_there_by_name_with_the_age_of_its_word() {
        let said = |name: &str| node(name, "").node.beat.to_json().unwrap().into_bytes();
        let nodes = vec![
            ("b".to_owned(), 600, said("two")),
            ("x".to_owned(), 600, b"by hand".to_vec()),
            ("a".to_owned(), 2_000, said("one")),
        ];
        let seen = seen(NodesReply { time_ms: 1_000, nodes });
        let expected = [Seen { age: Duration::ZERO, ..node("one", "a") }, node("two", "b")];
        assert_eq!(seen, expected, "one from the future is of just now");
    }
}
