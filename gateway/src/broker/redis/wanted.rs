//! What the hub wants, and what of it a session has still to say to Redis. Pure.
//!
//! By level, not by edge: what is said is the difference between what is wanted and what was said, so that whatever came and
//! went while Redis was slow or away costs nothing.

use std::collections::{HashMap, HashSet, VecDeque};

use shared::channel::Channel;

use super::super::Interest;
use super::super::spare::Spare as _;

/// Most names of one SUBSCRIBE: Redis queues all its answers before it sends the first.
pub(crate) const BATCH: usize = 500;

/// The channels that somebody is on. Lives across sessions.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// With the generation that is to be answered.
    channels: HashMap<Channel, u64>,
    /// What this session has said to Redis. Begun anew by `new_session`.
    said: HashMap<Channel, Said>,
    /// Channels of which the two may differ, each once, in the order in which they were touched.
    touched: VecDeque<Channel>,
    is_touched: HashSet<Channel>,
}

#[derive(Debug)]
struct Said {
    /// As it was wanted then.
    generation: u64,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Subscribed,
    /// To be subscribed once more, in the same life.
    Again,
    /// Redis refused it, and it is not asked for again in this session.
    LeftOut,
}

/// What to say next: each channel in at most one of both.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) unsubscribe: Vec<Channel>,
    pub(crate) subscribe: Vec<(Channel, u64)>,
}

impl Wanted {
    /// Takes note; nothing is said to anybody.
    pub(crate) fn note(&mut self, interest: Interest) {
        match interest {
            Interest::Subscribe { channel, generation } => {
                self.touch(channel.clone());
                self.channels.insert(channel, generation);
            }
            Interest::Unsubscribe { channel } => {
                self.channels.remove(&channel);
                self.channels.give_back();
                self.touch(channel);
            }
        }
    }

    /// Nothing has been said to Redis yet.
    pub(crate) fn new_session(&mut self) {
        self.said.clear();
        self.touched = self.channels.keys().cloned().collect();
        self.is_touched = self.channels.keys().cloned().collect();
    }

    /// How many channels that is.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is something to be said, or may be.
    pub(crate) fn is_behind(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Something to say, at most [`BATCH`] names of each kind, and takes it as said. A channel that went and came again is
    /// subscribed once more, so that its new life is answered.
    pub(crate) fn take(&mut self) -> Changes {
        let mut changes = Changes::default();
        while changes.subscribe.len() < BATCH && changes.unsubscribe.len() < BATCH {
            let Some(channel) = self.touched.pop_front() else { break };
            self.is_touched.remove(&channel);
            match (self.channels.get(&channel), self.said.get(&channel)) {
                (Some(wanted), Some(said)) if *wanted == said.generation && said.standing != Standing::Again => {}
                (Some(&generation), _) => {
                    self.said.insert(channel.clone(), Said { generation, standing: Standing::Subscribed });
                    changes.subscribe.push((channel, generation));
                }
                (None, Some(_)) => {
                    self.said.remove(&channel);
                    changes.unsubscribe.push(channel);
                }
                (None, None) => {}
            }
        }
        self.said.give_back();
        self.touched.give_back();
        self.is_touched.give_back();
        changes
    }

    /// A life of `channel` that was subscribed is to be subscribed once more, unless it is over by now.
    pub(crate) fn again(&mut self, channel: Channel, generation: u64) {
        let Some(said) = self.said.get_mut(&channel) else { return };
        if said.generation == generation && said.standing == Standing::Subscribed {
            said.standing = Standing::Again;
            self.touch(channel);
        }
    }

    /// Redis refused `channel`.
    pub(crate) fn leave_out(&mut self, channel: &Channel) {
        if let Some(said) = self.said.get_mut(channel) {
            said.standing = Standing::LeftOut;
        }
    }

    /// All that is subscribed, in no order.
    pub(crate) fn subscribed(&self) -> Vec<Channel> {
        let subscribed = self.said.iter().filter(|(_, said)| said.standing == Standing::Subscribed);
        subscribed.map(|(channel, _)| channel.clone()).collect()
    }

    /// The generation in which `channel` is subscribed.
    pub(crate) fn subscribed_as(&self, channel: &Channel) -> Option<u64> {
        let said = self.said.get(channel)?;
        (said.standing == Standing::Subscribed).then_some(said.generation)
    }

    fn touch(&mut self, channel: Channel) {
        if self.is_touched.insert(channel.clone()) {
            self.touched.push_back(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn note(wanted: &mut Wanted, interest: &[(&str, Option<u64>)]) {
        for (name, generation) in interest {
            let channel = channel(name);
            wanted.note(match generation {
                Some(generation) => Interest::Subscribe { channel, generation: *generation },
                None => Interest::Unsubscribe { channel },
            });
        }
    }

    fn changes(unsubscribe: &[&str], subscribe: &[(&str, u64)]) -> Changes {
        let subscribe = subscribe.iter().map(|(name, generation)| (channel(name), *generation)).collect();
        Changes { unsubscribe: unsubscribe.iter().map(|name| channel(name)).collect(), subscribe }
    }

    #[test]
    fn only_the_difference_is_said() {
        let mut wanted = Wanted::default();
        note(&mut wanted, &[("a", Some(1)), ("b", Some(2))]);
        assert_eq!(wanted.take(), changes(&[], &[("a", 1), ("b", 2)]));
        assert!(!wanted.is_behind());
        note(&mut wanted, &[("c", Some(3)), ("c", None)]);
        assert_eq!(wanted.take(), changes(&[], &[]), "came and went");
        note(&mut wanted, &[("a", None), ("a", Some(4))]);
        assert_eq!(wanted.take(), changes(&[], &[("a", 4)]), "a new life is answered");
        note(&mut wanted, &[("a", None), ("a", Some(5)), ("a", None)]);
        assert_eq!(wanted.take(), changes(&["a"], &[]));
        assert_eq!(wanted.take(), changes(&[], &[]), "nothing is said twice");
    }

    #[test]
    fn a_new_session_is_told_everything_that_is_wanted_then() {
        let mut wanted = Wanted::default();
        note(&mut wanted, &[("a", Some(1)), ("b", Some(2))]);
        wanted.take();
        note(&mut wanted, &[("a", None), ("b", None), ("b", Some(3))]);
        wanted.new_session();
        assert_eq!(wanted.take(), changes(&[], &[("b", 3)]));
    }

    #[test]
    fn what_is_said_again_stays_said() {
        let mut wanted = Wanted::default();
        note(&mut wanted, &[("a", Some(1)), ("b", Some(2)), ("c", Some(3)), ("d", Some(4))]);
        wanted.take();
        for (name, generation) in [("a", 1), ("a", 1), ("b", 9), ("c", 3), ("d", 4), ("e", 5)] {
            wanted.again(channel(name), generation);
        }
        assert_eq!((wanted.subscribed(), wanted.subscribed_as(&channel("a"))), (vec![channel("b")], None));
        note(&mut wanted, &[("c", None), ("d", None), ("d", Some(6))]);
        assert_eq!(wanted.take(), changes(&["c"], &[("a", 1), ("d", 6)]), "once; one that went is unsubscribed");
        assert_eq!(wanted.subscribed_as(&channel("a")), Some(1));
        note(&mut wanted, &[("a", None)]);
        assert_eq!(wanted.take(), changes(&["a"], &[]));
    }

    #[test]
    fn what_was_refused_is_left_out_until_its_next_life() {
        let mut wanted = Wanted::default();
        note(&mut wanted, &[("a", Some(1))]);
        wanted.take();
        wanted.leave_out(&channel("a"));
        wanted.again(channel("a"), 1);
        assert_eq!((wanted.take(), wanted.subscribed()), (changes(&[], &[]), vec![]));
        note(&mut wanted, &[("a", None), ("a", Some(2))]);
        assert_eq!(wanted.take(), changes(&[], &[("a", 2)]));
        assert_eq!(wanted.subscribed_as(&channel("a")), Some(2));
    }

    #[test]
    fn batches_are_bounded() {
        let mut wanted = Wanted::default();
        let names: Vec<String> = (0..BATCH + 3).map(|i| i.to_string()).collect();
        for (generation, name) in names.iter().enumerate() {
            note(&mut wanted, &[(name, Some(generation as u64))]);
        }
        assert_eq!(wanted.take().subscribe.len(), BATCH);
        assert!(wanted.is_behind());
        assert_eq!(wanted.take().subscribe.len(), 3);
        names.iter().for_each(|name| note(&mut wanted, &[(name, None)]));
        assert_eq!(wanted.take().unsubscribe.len(), BATCH);
        assert_eq!(wanted.take().unsubscribe.len(), 3);
    }
}
