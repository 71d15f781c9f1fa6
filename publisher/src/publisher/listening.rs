//! Listens for cancellations on behalf of all who wait in this process: one task and one connection, while somebody waits. Where there
//! are several partitions it only [looks](looks).
//!
//! A cancellation is a mark in Redis, and a message that tells of it. Whoever waits is woken by the message; that there is
//! a mark is read after each SUBSCRIBE, for those made before, and every few seconds, for those whose message was lost. When
//! the connection is lost another one takes its place, which begins from nothing: subscribes to everything, reads
//! everything.

mod hearing;
mod looks;
mod session;
mod telling;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::Client;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::session::Session;
use self::telling::Telling;
use super::primaries::Primaries;
use super::tries::jittered;
use crate::Waiters;

/// The pause before another connection is any part of a bound that doubles, so that processes which lost Redis together do
/// not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Shared by all clones of a publisher and by all who wait; the task that listens ends with the last of them.
pub(super) struct Listening {
    shared: Arc<Shared>,
    /// The task, or one that has ended. Written by [`start`](Self::start).
    task: Mutex<JoinSet<()>>,
}

/// What the task needs. It must not hold [`Listening`], which owns it.
struct Shared {
    client: Client,
    keys: Keys,
    primaries: Arc<Primaries>,
    waiters: Waiters,
    /// A task listens, and will look for those who wait before it ends. Set by [`Listening::start`], cleared by the task.
    runs: Mutex<bool>,
    /// Told when the task has ended though somebody waits.
    broke_off: Notify,
}

impl Listening {
    /// Connects to nothing.
    pub(super) fn new(client: &Client, keys: &Keys, primaries: &Arc<Primaries>) -> Arc<Self> {
        let shared = Shared {
            client: client.clone(),
            keys: keys.clone(),
            primaries: Arc::clone(primaries),
            waiters: Waiters::default(),
            runs: Mutex::new(false),
            broke_off: Notify::new(),
        };
        Arc::new(Self { shared: Arc::new(shared), task: Mutex::default() })
    }

    /// Is done when `channel` is cancelled. Wants a Tokio runtime.
    pub(super) async fn cancelled(self: Arc<Self>, channel: Channel) {
        let (waiter, _) = self.shared.waiters.wait(&channel);
        loop {
            let broke_off = self.shared.broke_off.notified();
            self.start();
            tokio::select! {
                () = waiter.cancelled() => return,
                // The runtime that it was started on was shut down, and ours was not.
                () = broke_off => sleep(jittered(FIRST_PAUSE)).await,
            }
        }
    }

    /// Sees to it that somebody listens. Those who are to be found have to wait already.
    fn start(&self) {
        let mut runs = self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if *runs {
            return;
        }
        let mut task = JoinSet::new();
        task.spawn(listen(Arc::clone(&self.shared)));
        *runs = true;
        let ended = std::mem::replace(&mut *self.task.lock().unwrap_or_else(PoisonError::into_inner), task);
        drop(runs);
        drop(ended);
    }
}

impl Shared {
    /// Whether nobody waits. Then the task has said that it ends, and whoever comes starts another.
    fn may_end(&self) -> bool {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let may_end = self.waiters.is_empty();
        *runs &= !may_end;
        may_end
    }
}

/// The task: a session after the other, until nobody waits.
async fn listen(shared: Arc<Shared>) {
    let mut running = Running { shared: &shared, in_order: false };
    let mut telling = Telling::default();
    if shared.keys.partitions() > 1 {
        looks::run(&shared, &mut telling).await;
        running.in_order = true;
        return;
    }
    let mut failed: u32 = 0;
    loop {
        let ended = match Session::open(&shared).await {
            Ok(session) => session.run(&mut telling, &mut failed).await,
            Err(lost) => Err(lost),
        };
        if let Err(lost) = ended {
            telling.lost(&lost, shared.client.address());
            tokio::select! {
                () = sleep(pause(failed)) => {}
                () = shared.client.turns(0) => {}
            }
            failed = failed.saturating_add(1);
        }
        if shared.may_end() {
            running.in_order = true;
            return;
        }
    }
}

/// Before the next try, after so many that failed.
fn pause(failed: u32) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE))
}

/// Says that the task has ended, however it does.
struct Running<'a> {
    shared: &'a Shared,
    in_order: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.in_order {
            *self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner) = false;
            self.shared.broke_off.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_pauses_double_up_to_the_longest() {
        for (failed, bound) in
            [(0, FIRST_PAUSE), (1, FIRST_PAUSE * 2), (5, FIRST_PAUSE * 32), (6, LONGEST_PAUSE), (99, LONGEST_PAUSE)]
        {
            let longest = (0..200).map(|_| pause(failed)).max().unwrap();
            assert!(longest <= bound && longest > bound / 2, "{failed}: {longest:?} of {bound:?}");
        }
    }
}
