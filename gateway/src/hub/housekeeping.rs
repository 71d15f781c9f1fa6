//! What the hub does by itself, again and again: channels that nobody came back to are unsubscribed, logs are aged.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::busiest::{BUSIEST, Top};
use super::{Hub, replay, set_count};
use crate::broker::spare::Spare as _;
use crate::broker::{Broker, Interest};

/// How often [`Hub::run`] looks for channels whose linger is over.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often it looks for old events in the logs, which takes the table's lock to note which channels there are.
const TRIM_INTERVAL: Duration = Duration::from_secs(15);

impl Hub {
    /// Unsubscribes channels whose linger is over, ages the logs, and reads by `broker` the past that connections ask for,
    /// until `stop`. Called once.
    pub async fn run(self: Arc<Self>, broker: Arc<dyn Broker>, stop: CancellationToken) {
        let queue = self.replay_queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let replays = async {
            if let Some(queue) = queue {
                replay::run(self.clone(), broker, queue, stop.clone()).await;
            }
        };
        tokio::join!(replays, self.housekeeping(stop.clone()));
    }

    async fn housekeeping(&self, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let mut trim = tokio::time::interval(TRIM_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        trim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => self.sweep(Instant::now()),
                _ = trim.tick() => self.trim(Instant::now()),
            }
        }
    }

    /// Unsubscribes channels whose linger was over by `now`. A log goes with its channel.
    pub fn sweep(&self, now: Instant) {
        let mut table = self.lock();
        while let Some((due, local)) = table.lingering.pop_front_if(|(due, _)| *due <= now) {
            // Whoever came and went in between has put the channel into the queue again, for later.
            let mut state = local.lock();
            if state.lingers_until == Some(due) {
                state.lingers_until = None;
                drop(state);
                // One that was dismissed is out of the table, and another by its name may be in it.
                if local.is_dismissed() {
                    continue;
                }
                table.channels.remove(&local.channel);
                table.send(Interest::Unsubscribe { channel: local.channel.clone() });
            }
        }
        table.lingering.give_back();
        table.channels.give_back();
        set_count(&self.metrics.broker_subscriptions, table.channels.len());
    }

    /// Ages the logs of all channels by `now`, and notes which channels have the most connections.
    pub(super) fn trim(&self, now: Instant) {
        self.may_tell.store(true, Ordering::Relaxed);
        let locals = self.lock().all();
        let (mut events, mut bytes, mut top) = (0, 0, Top::new(BUSIEST));
        for local in &locals {
            let mut state = local.lock();
            top.note(&local.channel, state.listeners.len());
            state.log.trim(now, &self.settings.log);
            (events, bytes) = (events + state.log.len(), bytes + state.log.bytes());
            if let Some(replays) = &mut state.replays {
                replays.trim(now);
            }
        }
        self.metrics.logs(events, bytes);
        self.note_busiest(top.sorted());
    }
}
