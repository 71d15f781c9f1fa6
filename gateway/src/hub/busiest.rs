//! Which channels have the most connections here.
//!
//! The table's lock is held only for as long as it takes to note which channels there are; that is longer the more there are, and nobody
//! attaches meanwhile. So on a node with many it is not done for whoever looks on, but when logs are aged, which goes through all anyway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::PoisonError;

use shared::channel::Channel;

use super::Hub;

/// Channels that are told.
pub const BUSIEST: usize = 20;
/// So many channels are looked through whenever somebody asks.
const FEW: usize = 10_000;

impl Hub {
    /// The [`BUSIEST`] channels with the most connections, those first; of equal ones by name. Without those that linger.
    ///
    /// Of now, or with more than 10,000 channels as they were up to 15 s ago.
    #[must_use]
    pub fn busiest(&self) -> Vec<(Channel, usize)> {
        let table = self.lock();
        if table.channels.len() > FEW {
            drop(table);
            return self.busiest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        let locals = table.all();
        drop(table);
        let mut top = Top::new(BUSIEST);
        for local in &locals {
            top.note(&local.channel, local.lock().listeners.len());
        }
        top.sorted()
    }

    /// For those who ask where there are many channels.
    pub(super) fn note_busiest(&self, busiest: Vec<(Channel, usize)>) {
        *self.busiest.lock().unwrap_or_else(PoisonError::into_inner) = busiest;
    }
}

/// Those with the most connections of all that were noted.
pub(super) struct Top<'a> {
    most: usize,
    /// The least of them is on top.
    kept: BinaryHeap<Reverse<(usize, Reverse<&'a Channel>)>>,
}

impl<'a> Top<'a> {
    /// Of `most` channels.
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::with_capacity(most + 1) }
    }

    /// A channel without connections is none of them.
    pub(super) fn note(&mut self, channel: &'a Channel, connections: usize) {
        if connections == 0 {
            return;
        }
        self.kept.push(Reverse((connections, Reverse(channel))));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// Those with the most first; of equal ones by name.
    pub(super) fn sorted(self) -> Vec<(Channel, usize)> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted.map(|Reverse((connections, Reverse(channel)))| (channel.clone(), connections)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::keys::Keys;
    use tokio::time::Instant;

    use super::*;
    use crate::hub::{HubSettings, Subscription, Wakeup};
    use crate::metrics::HubMetrics;

    fn hub() -> Arc<Hub> {
        Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new()).0
    }

    fn attach(hub: &Arc<Hub>, name: &str) -> Subscription {
        hub.attach(&Channel::parse(name).unwrap(), &Arc::new(Wakeup::default())).unwrap()
    }

    fn said(found: &[(Channel, usize)]) -> Vec<String> {
        found.iter().map(|(channel, connections)| format!("{} {connections}", channel.as_str())).collect()
    }

    #[test]
    fn those_with_the_most_connections_by_count_then_by_name() {
        let hub = hub();
        let mut subscriptions = Vec::new();
        for (name, connections) in [("b", 2), ("d", 1), ("a", 2), ("c", 5), ("e", 1), ("gone", 9)] {
            subscriptions.extend((0..connections).map(|_| attach(&hub, name)));
        }
        // Only lingers from now on.
        subscriptions.truncate(11);
        assert_eq!(said(&hub.busiest()), ["c 5", "a 2", "b 2", "d 1", "e 1"]);
        subscriptions.extend((0..BUSIEST).map(|n| attach(&hub, &format!("f{n:02}"))));
        let found = said(&hub.busiest());
        assert_eq!((found.len(), &*found[4], &*found[5], &*found[BUSIEST - 1]), (BUSIEST, "e 1", "f00 1", "f14 1"));
    }

    #[test]
    fn no_more_than_are_wanted() {
        let channels = ["a", "b"].map(|name| Channel::parse(name).unwrap());
        let top = |most| {
            let mut top = Top::new(most);
            channels.iter().zip([1, 2]).for_each(|(channel, connections)| top.note(channel, connections));
            said(&top.sorted())
        };
        assert_eq!(
            (top(0), top(1), top(9)),
            (vec![], vec!["b 2".to_owned()], vec!["b 2".to_owned(), "a 1".to_owned()])
        );
    }

    /// Whoever looks on holds up nobody.
    #[test]
    fn many_channels_are_gone_through_only_when_logs_are_aged() {
        let hub = hub();
        let mut subscriptions: Vec<_> = (0..FEW).map(|n| attach(&hub, &format!("c{n}"))).collect();
        subscriptions.push(attach(&hub, "c1"));
        assert_eq!(said(&hub.busiest())[..2], ["c1 2", "c0 1"]);
        subscriptions.push(attach(&hub, "one-more"));
        assert_eq!(said(&hub.busiest()), Vec::<String>::new(), "not gone through yet");
        hub.trim(Instant::now());
        assert_eq!(said(&hub.busiest())[..2], ["c1 2", "c0 1"]);
        subscriptions.extend((0..2).map(|_| attach(&hub, "c2")));
        assert_eq!(said(&hub.busiest())[0], "c1 2");
        hub.trim(Instant::now());
        assert_eq!(said(&hub.busiest())[..2], ["c2 3", "c1 2"]);
    }
}
