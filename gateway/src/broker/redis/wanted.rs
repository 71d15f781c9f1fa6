//! What the hub wants, and what of it a session has still to say to Redis. Pure.

use std::collections::HashMap;

use shared::channel::Channel;

use super::super::Interest;

/// Most names of one SUBSCRIBE: Redis queues all its answers before it sends the first.
pub(super) const BATCH: usize = 500;

/// The channels that somebody is on. Lives across sessions.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// With the generation that is to be answered.
    channels: HashMap<Channel, u64>,
}

/// What to say next: each channel in at most one of both.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) unsubscribe: Vec<Channel>,
    pub(super) subscribe: Vec<(Channel, u64)>,
}

impl Wanted {
    /// Takes note; nothing is said to anybody.
    pub(super) fn note(&mut self, interest: Interest) {
        match interest {
            Interest::Subscribe { channel, generation } => _ = self.channels.insert(channel, generation),
            Interest::Unsubscribe { channel } => _ = self.channels.remove(&channel),
        }
    }

    /// Takes note of several, and says what changed by all of them. Of a channel that came and went only the end counts; one
    /// that went and came again is subscribed once more, so that its new life is answered.
    pub(super) fn apply(&mut self, interest: Vec<Interest>) -> Changes {
        let mut order = Vec::with_capacity(interest.len());
        let mut touched: HashMap<Channel, bool> = HashMap::with_capacity(interest.len());
        for item in interest {
            let (Interest::Subscribe { channel, .. } | Interest::Unsubscribe { channel }) = &item;
            if !touched.contains_key(channel) {
                touched.insert(channel.clone(), self.channels.contains_key(channel));
                order.push(channel.clone());
            }
            self.note(item);
        }
        let mut changes = Changes::default();
        for channel in order {
            match self.channels.get(&channel) {
                Some(generation) => changes.subscribe.push((channel, *generation)),
                // One that came and went within this call was never subscribed.
                None if touched.get(&channel) == Some(&true) => changes.unsubscribe.push(channel),
                None => {}
            }
        }
        changes
    }

    /// All of them, for a new session.
    pub(super) fn all(&self) -> Vec<(Channel, u64)> {
        self.channels.iter().map(|(channel, generation)| (channel.clone(), *generation)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn subscribe(name: &str, generation: u64) -> Interest {
        Interest::Subscribe { channel: channel(name), generation }
    }

    fn unsubscribe(name: &str) -> Interest {
        Interest::Unsubscribe { channel: channel(name) }
    }

    fn apply(wanted: &mut Wanted, interest: &[Interest]) -> (Vec<String>, Vec<(String, u64)>) {
        let changes = wanted.apply(interest.to_vec());
        let text = |channel: &Channel| channel.as_str().to_owned();
        (
            changes.unsubscribe.iter().map(text).collect(),
            changes.subscribe.iter().map(|(channel, generation)| (text(channel), *generation)).collect(),
        )
    }

    #[test]
    fn only_the_end_counts() {
        let mut wanted = Wanted::default();
        assert_eq!(
            apply(&mut wanted, &[subscribe("a", 1), subscribe("b", 2)]),
            (vec![], vec![("a".into(), 1), ("b".into(), 2)])
        );
        assert_eq!(apply(&mut wanted, &[subscribe("c", 3), unsubscribe("c")]), (vec![], vec![]), "came and went");
        assert_eq!(apply(&mut wanted, &[unsubscribe("a"), subscribe("a", 4)]), (vec![], vec![("a".into(), 4)]));
        assert_eq!(
            apply(&mut wanted, &[unsubscribe("a"), subscribe("a", 5), unsubscribe("a")]),
            (vec!["a".into()], vec![])
        );
        assert_eq!(wanted.all(), [(channel("b"), 2)]);
    }

    #[test]
    fn between_two_sessions_it_only_takes_note() {
        let mut wanted = Wanted::default();
        wanted.note(subscribe("a", 1));
        wanted.note(subscribe("b", 2));
        wanted.note(unsubscribe("a"));
        wanted.note(subscribe("b", 3));
        assert_eq!(wanted.all(), [(channel("b"), 3)]);
    }
}
