//! What a session waits for.

use shared::position::Position;

use super::super::ended::Ended;
use super::{Hearing, Missed, Suspicion};

impl Hearing {
    /// Waits until the session is established.
    pub(crate) async fn established(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().established {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a message that cannot be one of this session.
    pub(crate) async fn suspicious(&self) -> Suspicion {
        loop {
            let changed = self.changed.notified();
            if let Some(suspicion) = self.lock().suspicion.take() {
                return suspicion;
            }
            changed.await;
        }
    }

    /// Waits for live channels of which messages did not arrive. They are not live any more.
    pub(crate) async fn missed(&self) -> Missed {
        loop {
            let changed = self.changed.notified();
            let missed = std::mem::take(&mut self.lock().missed);
            if !missed.is_empty() {
                return missed;
            }
            changed.await;
        }
    }

    /// Waits until `clock` is heard.
    pub(crate) async fn barrier_at(&self, clock: Position) {
        loop {
            let rose = self.barrier_rose.notified();
            if self.lock().barrier >= clock {
                return;
            }
            rose.await;
        }
    }

    /// Waits until nothing is passed on any more. Returns why.
    pub(crate) async fn ended(&self) -> Ended {
        loop {
            let changed = self.changed.notified();
            if let Some(ended) = &self.lock().ended {
                return ended.clone();
            }
            changed.await;
        }
    }

    /// Waits until the server has said that each of `names` is subscribed, or the session has ended. Where partitions share a
    /// connection, an answer to the command itself proves nothing: the client library takes what a server says of a partition that
    /// it gives away for the answer to whatever was asked last.
    pub(crate) async fn acknowledged(&self, names: &[String]) {
        loop {
            let changed = self.changed.notified();
            if self.are_acknowledged(names) {
                return;
            }
            changed.await;
        }
    }

    fn are_acknowledged(&self, names: &[String]) -> bool {
        let state = self.lock();
        let is = |name: &String| state.channels.get(name.as_bytes()).is_none_or(|listened| listened.acknowledged);
        state.ended.is_some() || names.iter().all(is)
    }
}
