//! A batch: of one server it is one list; of a Cluster it is split by partition, each a list of its own, some of them at once.
//!
//! Within a partition the order is that of the batch, for the reasons that [`pipeline`](super::pipeline) gives. Between partitions there
//! is none to keep: no stream could tell, since each partition has a clock of its own. What is given up in one partition is
//! published in the others all the same.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use shared::channel::Channel;

use super::failure::no_outcome;
use super::item::Item;
use super::{Inner, pipeline};
use crate::{Publication, PublishError, Receipt};

/// Partitions that are published to at once.
const AT_ONCE: usize = 16;

type Outcome = Result<Receipt, PublishError>;

/// Publishes in this order, as far as one is promised; an outcome each, in order.
pub(super) async fn publish(inner: &Inner, batch: Vec<(Channel, Publication)>) -> Vec<Outcome> {
    if inner.primaries.is_one() {
        let items = batch.into_iter().map(|publication| item(inner, publication)).collect();
        return publish_list(inner, 0, items).await.1.collect();
    }
    // Whoever has no Cluster does not carry it about.
    Box::pin(publish_lists(inner, batch)).await
}

async fn publish_lists(inner: &Inner, batch: Vec<(Channel, Publication)>) -> Vec<Outcome> {
    let mut places = Vec::with_capacity(batch.len());
    let mut lists: BTreeMap<u16, Vec<Item>> = BTreeMap::new();
    for publication in batch {
        let partition = inner.keys.partition(&publication.0);
        places.push(partition);
        lists.entry(partition).or_default().push(item(inner, publication));
    }
    // Collected first: a closure over borrows within the stream is more than the compiler can follow.
    let all: Vec<_> = lists.into_iter().map(|(partition, items)| publish_list(inner, partition, items)).collect();
    let mut outcomes: BTreeMap<u16, _> = stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
    let next = |partition: u16| outcomes.get_mut(&partition).and_then(Iterator::next);
    places.into_iter().map(next).map(|outcome| outcome.unwrap_or_else(|| Err(no_outcome()))).collect()
}

fn item(inner: &Inner, (channel, publication): (Channel, Publication)) -> Item {
    Item::new(&channel, publication, &inner.keys, &inner.own_keys)
}

async fn publish_list(inner: &Inner, partition: u16, mut items: Vec<Item>) -> (u16, impl Iterator<Item = Outcome>) {
    pipeline::publish(inner, partition, &mut items).await;
    let outcome = |item: Item| item.outcome.unwrap_or_else(|| Err(no_outcome()));
    (partition, items.into_iter().map(outcome))
}
