//! The connections on a channel, and how all of them are told that there is something new.

use std::sync::Arc;

use slab::Slab;

use super::channel::LocalChannel;
use super::inbox::Inbox;
use super::wakeup::Wakeup;

/// Most tasks that are woken between two locks: what a publish takes for it is the same for one and for ten thousand.
const BATCH: usize = 64;

/// Part of a channel's state. An entry is made by `Hub::attach` and ends with its `Subscription`.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// Connections that tasks of their own drive.
    tasks: Slab<Arc<Wakeup>>,
    /// Those on event loops; a loop without any is not in it.
    loops: Vec<OnLoop>,
}

#[derive(Debug)]
struct OnLoop {
    inbox: Arc<Inbox>,
    /// By what its loop knows them.
    tokens: Slab<u32>,
    /// The loop has been told, and has not begun to go through them.
    called: bool,
}

impl Listeners {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.loops.is_empty()
    }

    /// Returns the key by which to remove it.
    pub(super) fn insert(&mut self, wakeup: &Arc<Wakeup>) -> usize {
        let Some((inbox, token)) = wakeup.on() else { return self.tasks.insert(wakeup.clone()) };
        if let Some(on_loop) = self.find(inbox) {
            return on_loop.tokens.insert(token);
        }
        // Most channels have one connection: no room for others until they come.
        let mut tokens = Slab::with_capacity(1);
        let key = tokens.insert(token);
        self.loops.reserve_exact(1);
        self.loops.push(OnLoop { inbox: inbox.clone(), tokens, called: false });
        key
    }

    pub(super) fn remove(&mut self, wakeup: &Arc<Wakeup>, key: usize) {
        let Some((inbox, _)) = wakeup.on() else {
            self.tasks.try_remove(key);
            return;
        };
        let Some(index) = self.loops.iter().position(|on_loop| Arc::ptr_eq(&on_loop.inbox, inbox)) else { return };
        let on_loop = &mut self.loops[index];
        on_loop.tokens.try_remove(key);
        if on_loop.tokens.is_empty() {
            self.loops.swap_remove(index);
        }
    }

    /// Every connection that a task drives, and one wakeup for each loop: enough to close all.
    pub(super) fn for_closing(&self) -> (Vec<Arc<Wakeup>>, Vec<Arc<Inbox>>) {
        let tasks = self.tasks.iter().map(|(_, wakeup)| wakeup.clone()).collect();
        (tasks, self.loops.iter().map(|on_loop| on_loop.inbox.clone()).collect())
    }

    /// Loops that have to be told. They count as told.
    fn untold(&mut self) -> Vec<Arc<Inbox>> {
        let tell = |on_loop: &mut OnLoop| {
            let told = std::mem::replace(&mut on_loop.called, true);
            (!told).then(|| on_loop.inbox.clone())
        };
        self.loops.iter_mut().filter_map(tell).collect()
    }

    /// Up to [`BATCH`] tasks from key `from` on, and the key behind them if there may be more.
    fn tasks(&self, from: usize) -> (Vec<Arc<Wakeup>>, Option<usize>) {
        if self.tasks.is_empty() {
            return (Vec::new(), None);
        }
        let (mut batch, mut key) = (Vec::with_capacity(BATCH.min(self.tasks.len())), from);
        while batch.len() < BATCH && key < self.tasks.capacity() {
            batch.extend(self.tasks.get(key).cloned());
            key += 1;
        }
        (batch, (key < self.tasks.capacity()).then_some(key))
    }

    /// Up to `limit` tokens of the loop of `inbox` from key `from` on. Returns the key behind them if there may be more. With
    /// `begins`, whatever is new from now on has to be told again.
    pub(super) fn on_loop(
        &mut self,
        inbox: &Arc<Inbox>,
        begins: bool,
        from: usize,
        limit: usize,
        tokens: &mut Vec<u32>,
    ) -> Option<usize> {
        let on_loop = self.find(inbox)?;
        if begins {
            on_loop.called = false;
        }
        let (end, mut key, mut left) = (on_loop.tokens.capacity(), from, limit);
        while left > 0 && key < end {
            if let Some(token) = on_loop.tokens.get(key) {
                tokens.push(*token);
                left -= 1;
            }
            key += 1;
        }
        (key < end).then_some(key)
    }

    fn find(&mut self, inbox: &Arc<Inbox>) -> Option<&mut OnLoop> {
        self.loops.iter_mut().find(|on_loop| Arc::ptr_eq(&on_loop.inbox, inbox))
    }
}

impl LocalChannel {
    /// Has every connection here look. Not under any lock: a waker may run or drop a connection, which comes back here.
    ///
    /// Those who come while it goes on have found what is new by themselves.
    pub(super) fn call(self: &Arc<Self>) {
        let mut state = self.lock();
        let untold = state.listeners.untold();
        let (mut batch, mut next) = state.listeners.tasks(0);
        drop(state);
        for inbox in untold {
            inbox.call_all(self);
        }
        loop {
            for wakeup in batch {
                wakeup.call();
            }
            let Some(from) = next else { return };
            (batch, next) = self.lock().listeners.tasks(from);
        }
    }
}
