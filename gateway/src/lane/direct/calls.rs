//! Who is called, and lets look in slices: what the hub has, channel by channel or one by one, and all of them at the end.

use super::event_loop::{EventLoop, SLICE};
use super::slot::Slot;
use crate::hub::{Calls, Round};

impl EventLoop {
    /// Takes what the hub has for this loop. A channel whose connections are being gone through waits for the end of that.
    pub(super) fn take_calls(&mut self) {
        let mut calls = Calls::default();
        self.inbox.take(&mut calls);
        let worked = !calls.rounds.is_empty() || !calls.tokens.is_empty() || !self.later.is_empty();
        for round in std::mem::take(&mut self.later).into_iter().chain(calls.rounds) {
            let goes_on = self.begun.iter().any(|begun| begun.is_of(&round));
            if goes_on { self.later.push(round) } else { self.rounds.push_back(round) }
        }
        if worked {
            self.rest.works(self.now);
        }
        if !self.closes && self.inbox.closing().is_some() {
            (self.closes, self.closing) = (true, Some(0));
        }
        for token in calls.tokens {
            self.call(token);
        }
    }

    /// Has a connection look in this turn or one of the next.
    pub(super) fn call(&mut self, token: u32) {
        if let Some(Slot::Stream(stream)) = self.slots.get_mut(token as usize)
            && std::mem::replace(&mut stream.is_called, true)
        {
            return;
        }
        self.single.push_back(token);
    }

    /// Lets a slice of those who were called one by one look.
    pub(super) fn look_single(&mut self) {
        for _ in 0..SLICE.min(self.single.len()) {
            let Some(token) = self.single.pop_front() else { return };
            if let Some(Slot::Stream(stream)) = self.slots.get_mut(token as usize) {
                stream.is_called = false;
            }
            self.look(token);
        }
    }

    /// Goes through the connections of channels that have something new, for a slice; a channel with many waits for its next
    /// turn behind the others.
    pub(super) fn go_round(&mut self) {
        let mut left = SLICE;
        while left > 0
            && let Some(round) = self.begun.pop_front()
        {
            left = left.saturating_sub(self.go_on(round, left));
        }
        let mut left = SLICE;
        while left > 0
            && let Some(round) = self.rounds.pop_front()
        {
            left = left.saturating_sub(self.go_on(round, left));
        }
    }

    /// Lets up to `most` connections of a round look. Returns what that counts for.
    fn go_on(&mut self, mut round: Round, most: usize) -> usize {
        let mut tokens = std::mem::take(&mut self.tokens);
        if round.next(&self.inbox, &mut tokens, most) {
            self.begun.push_back(round);
        }
        let count = tokens.len().max(1);
        for token in tokens.drain(..) {
            self.look(token);
        }
        self.tokens = tokens;
        count
    }

    /// Has some of the connections choose their moment to end.
    pub(super) fn close_some(&mut self) {
        let Some(from) = self.closing else { return };
        let to = (from + SLICE).min(self.slots.capacity());
        for key in from..to {
            self.look(key as u32);
        }
        // Those that come now are turned away by the router.
        self.closing = (to < self.slots.capacity()).then_some(to);
    }
}
