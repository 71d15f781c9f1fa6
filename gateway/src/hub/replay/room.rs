//! The budget over all results of reading the past: who wants to read waits for room, and results that connections have been
//! given go to make it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::super::channel::LocalChannel;
use super::Replays;

/// How often results are looked through while there is no room.
const MAKE_ROOM: Duration = Duration::from_millis(50);
/// A read that finds no room for so long fails, so that others have their turn at trying.
const NO_ROOM: Duration = Duration::from_secs(10);
/// What the budget is counted in, in bytes.
pub(super) const UNIT: usize = 1_024;

/// Room for results, in units of the budget.
pub(super) struct Room {
    budget: Arc<Semaphore>,
    /// Looked through when there is no room, and by itself as it grows. The worker's own.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Those that may hold a result, each once.
    channels: Vec<Weak<LocalChannel>>,
    /// How many there may be until those that hold nothing any more are left out.
    most: usize,
}

impl Room {
    pub(super) fn new(max_bytes: usize) -> Self {
        let units = (max_bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self { budget: Arc::new(Semaphore::new(units)), held: Mutex::default() }
    }

    /// Room for `units`, made by letting results go where there is none; `None` when connections hold all of it for too long.
    pub(super) async fn take(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        let since = Instant::now();
        while since.elapsed() < NO_ROOM {
            // It is never closed.
            if let Ok(room) = timeout(MAKE_ROOM, self.budget.clone().acquire_many_owned(units)).await {
                return room.ok();
            }
            let now = Instant::now();
            self.keep(|replays| {
                replays.make_room(now);
                replays.is_held()
            });
        }
        None
    }

    /// `local` has a result now.
    pub(super) fn is_taken_by(&self, local: &Arc<LocalChannel>) {
        let listed = |replays: &mut Box<Replays>| std::mem::replace(&mut replays.listed, true);
        // One that was never asked for anything has nothing.
        if local.lock().replays.as_mut().is_none_or(listed) {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.channels.push(Arc::downgrade(local));
        if held.channels.len() <= held.most {
            return;
        }
        drop(held);
        self.keep(|replays| replays.is_held());
    }

    fn keep(&self, keep: impl Fn(&mut Replays) -> bool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.channels.retain(|local| {
            let Some(local) = local.upgrade() else { return false };
            let mut state = local.lock();
            let Some(replays) = &mut state.replays else { return false };
            replays.listed = keep(replays);
            replays.listed
        });
        held.most = (held.channels.len() * 2).max(1_024);
    }
}
