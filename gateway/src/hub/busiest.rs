//! Which channels have the most connections here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use shared::channel::Channel;

use super::Hub;

impl Hub {
    /// The `most` channels with the most connections, those first; of equal ones by name. Without those that linger.
    ///
    /// It asks each channel in turn, and holds the table's lock only for as long as it takes to note which there are.
    #[must_use]
    pub fn busiest(&self, most: usize) -> Vec<(Channel, usize)> {
        let locals = self.lock().all();
        // The least of those that were kept is on top.
        let mut kept = BinaryHeap::with_capacity(most + 1);
        for local in &locals {
            let connections = local.lock().listeners.len();
            if connections > 0 {
                kept.push(Reverse((connections, Reverse(&local.channel))));
            }
            if kept.len() > most {
                kept.pop();
            }
        }
        let sorted = kept.into_sorted_vec().into_iter();
        sorted.map(|Reverse((connections, Reverse(channel)))| (channel.clone(), connections)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::keys::Keys;

    use super::*;
    use crate::hub::{HubSettings, Wakeup};
    use crate::metrics::HubMetrics;

    #[test]
    fn those_with_the_most_connections_by_count_then_by_name() {
        let (hub, _interest) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
        let wakeup = Arc::new(Wakeup::default());
        let mut subscriptions = Vec::new();
        for (name, connections) in [("b", 2), ("d", 1), ("a", 2), ("c", 5), ("e", 1), ("gone", 9)] {
            let channel = Channel::parse(name).unwrap();
            subscriptions.extend((0..connections).map(|_| hub.attach(&channel, &wakeup).unwrap()));
        }
        // Only lingers from now on.
        subscriptions.truncate(11);
        let busiest = |most| {
            let found = hub.busiest(most).into_iter();
            found.map(|(channel, connections)| format!("{} {connections}", channel.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(busiest(4), ["c 5", "a 2", "b 2", "d 1"]);
        assert_eq!(busiest(100), ["c 5", "a 2", "b 2", "d 1", "e 1"]);
        assert_eq!(busiest(0), Vec::<String>::new());
    }
}
