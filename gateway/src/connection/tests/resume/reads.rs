//! Reads of the hub's worker: they come back when the model says so, or fail, as those of the broker on Redis do.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::channel::Channel;
use shared::position::Epoch;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::redis::Primary;
use crate::broker::redis::ended::Ended;
use crate::broker::redis::hearing::Hearing;
use crate::broker::{Between, Broker, BrokerError, InterestQueue, Partition, Sink, Snapshot};

/// A session, for those who read.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) line: u64,
    pub(super) hearing: Arc<Hearing>,
    pub(super) epoch: Epoch,
}

struct Ask {
    partition: Partition,
    channel: Channel,
    between: Between,
    limit: usize,
    current: Current,
    /// What the server said, on its way here.
    answer: Option<(Snapshot, Epoch)>,
    done: oneshot::Sender<Result<Snapshot, BrokerError>>,
}

#[derive(Default)]
pub(super) struct Reads(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    current: Vec<Option<Current>>,
    asked: Vec<Ask>,
}

fn failed() -> BrokerError {
    BrokerError { reason: "the model says so".into() }
}

/// Which partition a channel is in, and the reads.
pub(super) struct Reading {
    pub(super) keys: shared::keys::Keys,
    pub(super) reads: Arc<Reads>,
}

impl Reads {
    pub(super) fn set(&self, partition: Partition, current: Option<Current>) {
        let mut inner = self.0.lock().unwrap();
        let index = usize::from(partition);
        if inner.current.len() <= index {
            inner.current.resize_with(index + 1, || None);
        }
        inner.current[index] = current;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().asked.is_empty()
    }

    /// Brings one read on by a step: to the server, or back.
    pub(super) fn advance(&self, primaries: &mut [Primary], which: usize, fail: bool) {
        let mut inner = self.0.lock().unwrap();
        if inner.asked.is_empty() {
            return;
        }
        let index = which % inner.asked.len();
        let ask = &mut inner.asked[index];
        if ask.answer.is_none() && !fail {
            let primary = &mut primaries[usize::from(ask.partition)];
            if primary.lines.get(&ask.current.line).is_some_and(|line| line.commands) {
                ask.answer = Some(primary.read(ask.current.line, &ask.channel, ask.between, ask.limit));
                return;
            }
        }
        let ask = inner.asked.remove(index);
        let now = inner.current[usize::from(ask.partition)].as_ref();
        let is_current = now.is_some_and(|now| now.epoch == ask.current.epoch);
        let answer = match ask.answer {
            Some((_, epoch)) if !fail && epoch != ask.current.epoch => {
                ask.current.hearing.end(Ended::Epoch);
                Err(failed())
            }
            Some((snapshot, _)) if !fail && is_current => Ok(snapshot),
            _ => Err(failed()),
        };
        let _ = ask.done.send(answer);
    }
}

impl Broker for Reading {
    fn run(self: Arc<Self>, _: InterestQueue, _: Arc<dyn Sink>, _: CancellationToken) -> BoxFuture<'static, ()> {
        unreachable!("the model is the session")
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        between: Between,
        limit: usize,
    ) -> BoxFuture<'a, Result<Snapshot, BrokerError>> {
        let partition = self.keys.partition(channel);
        let mut inner = self.reads.0.lock().unwrap();
        let Some(current) = inner.current.get(usize::from(partition)).cloned().flatten() else {
            return std::future::ready(Err(failed())).boxed();
        };
        let (done, answer) = oneshot::channel();
        let channel = channel.clone();
        inner.asked.push(Ask { partition, channel, between, limit, current, answer: None, done });
        async move { answer.await.unwrap_or_else(|_| Err(failed())) }.boxed()
    }
}
