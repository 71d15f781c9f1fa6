//! What one connection hears: names in Redis into channels, and which of them are cancelled. Called by the client library on
//! the task that reads the socket.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{PushInfo, PushKind, Value};
use shared::channel::Channel;
use tokio::sync::Notify;

use crate::Waiters;

/// Shared by a session and its connection.
///
/// Lock order: this, then that of the waiters.
pub(super) struct Hearing {
    waiters: Waiters,
    state: Mutex<State>,
    /// Told when `State::closed` is set.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What is subscribed, by its name in Redis. Written by the session: before SUBSCRIBE is sent, and before UNSUBSCRIBE is.
    channels: HashMap<Vec<u8>, Heard>,
    /// The connection has ended. Set once.
    closed: bool,
}

struct Heard {
    channel: Channel,
    /// Its cancellation was heard or read. Kept for those who begin to wait again while it is subscribed, seconds after the
    /// last one at most.
    cancelled: bool,
}

impl Hearing {
    pub(super) fn new(waiters: Waiters) -> Self {
        Self { waiters, state: Mutex::default(), changed: Notify::new() }
    }

    /// Messages by this name are of `channel`.
    pub(super) fn listen(&self, name: &str, channel: &Channel) {
        let heard = Heard { channel: channel.clone(), cancelled: false };
        self.lock().channels.insert(name.as_bytes().to_vec(), heard);
    }

    /// Nothing more is known of these.
    pub(super) fn ignore(&self, names: &[String]) {
        let mut state = self.lock();
        names.iter().for_each(|name| _ = state.channels.remove(name.as_bytes()));
    }

    /// Somebody waits for a channel who did not: whether it is subscribed, and all that came since was heard.
    pub(super) fn knows(&self, name: &str) -> bool {
        let state = self.lock();
        let Some(heard) = state.channels.get(name.as_bytes()) else { return false };
        if heard.cancelled {
            self.waiters.wake(&heard.channel);
        }
        true
    }

    /// The mark was read: wakes whoever waits. Whether the message that came before it should have been heard and was not.
    pub(super) fn found(&self, name: &str, channel: &Channel) -> bool {
        let mut state = self.lock();
        let heard = state.channels.get_mut(name.as_bytes());
        let unheard = heard.is_some_and(|heard| !std::mem::replace(&mut heard.cancelled, true));
        self.waiters.wake(channel);
        unheard
    }

    /// What is subscribed and nobody waits for, by name.
    pub(super) fn unwanted(&self) -> Vec<String> {
        let state = self.lock();
        let unwanted = state.channels.iter().filter(|(_, heard)| !self.waiters.has(&heard.channel));
        unwanted.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Takes what the server pushed.
    pub(super) fn push(&self, info: &PushInfo) {
        let mut state = self.lock();
        match info.kind {
            PushKind::Message => {
                let Some(Value::BulkString(name)) = info.data.first() else { return };
                let Some(heard) = state.channels.get_mut(name) else { return };
                heard.cancelled = true;
                self.waiters.wake(&heard.channel);
            }
            PushKind::Disconnection => {
                state.closed = true;
                self.changed.notify_waiters();
            }
            _ => {}
        }
    }

    /// Waits for the connection's end.
    pub(super) async fn closed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().closed {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
