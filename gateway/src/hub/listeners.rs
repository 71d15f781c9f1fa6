//! The connections on a channel, and how all of them are told that there is something new.

use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use super::channel::LocalChannel;
use super::inbox::Inbox;
use super::wakeup::Wakeup;

/// Most tasks that are woken between two locks: what a publish takes for it is the same for one and for ten thousand.
const BATCH: usize = 64;

/// Most keys that are looked at for one token that is to be found: a channel that many have left holds its lock no longer.
const KEYS: usize = 8;

/// Part of a channel's state. An entry is made by `Hub::attach` and ends with its `Subscription`.
///
/// Most channels have one connection, on an event loop: that one takes no allocation.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// Connections that tasks of their own drive; `None` before the first.
    tasks: Option<Box<Slab<Arc<Wakeup>>>>,
    /// Those on event loops; a loop without any is not in it.
    loops: SmallVec<[OnLoop; 1]>,
}

#[derive(Debug)]
struct OnLoop {
    inbox: Arc<Inbox>,
    /// By what its loop knows them.
    tokens: Tokens,
    /// The loop has been told, and has not begun to go through them.
    called: bool,
}

/// Tokens by keys, which stay the same while others come and go.
#[derive(Debug)]
enum Tokens {
    /// Its key is 0.
    One(u32),
    Many(Box<Slab<u32>>),
}

impl Tokens {
    /// Returns its key.
    fn insert(&mut self, token: u32) -> usize {
        if let Self::One(first) = *self {
            let mut tokens = Slab::with_capacity(2);
            tokens.insert(first);
            *self = Self::Many(Box::new(tokens));
        }
        match self {
            Self::One(_) => 0,
            Self::Many(tokens) => tokens.insert(token),
        }
    }

    /// Returns whether none is left.
    fn remove(&mut self, key: usize) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(tokens) => {
                tokens.try_remove(key);
                tokens.is_empty()
            }
        }
    }

    fn get(&self, key: usize) -> Option<u32> {
        match self {
            Self::One(token) => (key == 0).then_some(*token),
            Self::Many(tokens) => tokens.get(key).copied(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(tokens) => tokens.len(),
        }
    }

    /// All keys are below it.
    fn end(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(tokens) => tokens.capacity(),
        }
    }
}

impl Listeners {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.as_ref().is_none_or(|tasks| tasks.is_empty()) && self.loops.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let on_loops = self.loops.iter().map(|on_loop| on_loop.tokens.len());
        self.tasks.as_ref().map_or(0, |tasks| tasks.len()) + on_loops.sum::<usize>()
    }

    /// Returns the key by which to remove it.
    pub(super) fn insert(&mut self, wakeup: &Arc<Wakeup>) -> usize {
        let Some((inbox, token)) = wakeup.on() else {
            return self.tasks.get_or_insert_default().insert(wakeup.clone());
        };
        if let Some(on_loop) = self.find(inbox) {
            return on_loop.tokens.insert(token);
        }
        self.loops.push(OnLoop { inbox: inbox.clone(), tokens: Tokens::One(token), called: false });
        0
    }

    pub(super) fn remove(&mut self, wakeup: &Arc<Wakeup>, key: usize) {
        let Some((inbox, _)) = wakeup.on() else {
            if let Some(tasks) = &mut self.tasks {
                tasks.try_remove(key);
            }
            return;
        };
        let Some(index) = self.loops.iter().position(|on_loop| Arc::ptr_eq(&on_loop.inbox, inbox)) else { return };
        if self.loops[index].tokens.remove(key) {
            self.loops.swap_remove(index);
        }
    }

    /// Every connection that a task drives, and one wakeup for each loop: enough to close all.
    pub(super) fn for_closing(&self) -> (Vec<Arc<Wakeup>>, Vec<Arc<Inbox>>) {
        let tasks = self.tasks.iter().flat_map(|tasks| tasks.iter()).map(|(_, wakeup)| wakeup.clone()).collect();
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
        let Some(tasks) = self.tasks.as_ref().filter(|tasks| !tasks.is_empty()) else { return (Vec::new(), None) };
        let (mut batch, mut key) = (Vec::with_capacity(BATCH.min(tasks.len())), from);
        while batch.len() < BATCH && key < tasks.capacity() {
            batch.extend(tasks.get(key).cloned());
            key += 1;
        }
        (batch, (key < tasks.capacity()).then_some(key))
    }

    /// Up to `limit` tokens, which may be none though there are more, of the loop of `inbox` from key `from` on. Returns the key behind them if there may be more. With
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
        let (end, mut key, mut left) = (on_loop.tokens.end(), from, limit);
        let most = from.saturating_add(limit.saturating_mul(KEYS));
        while left > 0 && key < end.min(most) {
            if let Some(token) = on_loop.tokens.get(key) {
                tokens.push(token);
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
