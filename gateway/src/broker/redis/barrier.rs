//! What this node says to itself through the server, and whether it hears it: a node that does not is deaf.

use std::time::Duration;

use shared::position::Position;
use tokio::time::{Instant, sleep_until};

use super::ended::Ended;
use super::hearing::Progress;

/// A node that hears neither itself nor anything else for so long is deaf.
const HEAR_DEADLINE: Duration = Duration::from_secs(10);
/// So often the deadline begins anew because other messages came: a backlog stands before the barrier, but not for ever.
const HEAR_TRIES: u32 = 3;

/// The barrier that was said last, and not heard yet as far as anybody looked.
#[derive(Default)]
pub(super) struct Barrier(Option<Awaited>);

struct Awaited {
    position: Position,
    /// Messages that had been heard when this was last looked at.
    messages: u64,
    deadline: Instant,
    tries: u32,
}

impl Barrier {
    /// This node said `position` to itself. One that is still awaited keeps its deadline.
    pub(super) fn said(&mut self, position: Position, progress: Progress) {
        if self.0.is_some() && !self.is_heard(progress) {
            return;
        }
        let deadline = Instant::now() + HEAR_DEADLINE;
        self.0 = Some(Awaited { position, messages: progress.messages, deadline, tries: 0 });
    }

    /// This node said something to itself, and heard it.
    pub(super) fn is_heard(&self, progress: Progress) -> bool {
        self.0.as_ref().is_some_and(|awaited| progress.barrier >= awaited.position)
    }

    /// When it has to have been heard; never, where none is awaited.
    pub(super) async fn due(&self) {
        match &self.0 {
            Some(awaited) => sleep_until(awaited.deadline).await,
            None => std::future::pending().await,
        }
    }

    /// At the deadline: heard, or at least something was (a backlog in front of it), or deaf.
    pub(super) fn check(&mut self, progress: Progress) -> Result<(), Ended> {
        let Some(awaited) = &mut self.0 else { return Ok(()) };
        if progress.barrier >= awaited.position {
            self.0 = None;
            return Ok(());
        }
        // Behind a later event no earlier barrier comes any more.
        let overtaken = progress.heard > awaited.position;
        if overtaken || progress.messages == awaited.messages || awaited.tries == HEAR_TRIES {
            return Err(Ended::Deaf);
        }
        awaited.messages = progress.messages;
        awaited.deadline = Instant::now() + HEAR_DEADLINE;
        awaited.tries += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Position {
        Position { ms, seq: 0 }
    }

    fn progress(messages: u64, heard: u64, barrier: u64) -> Progress {
        Progress { messages, heard: at(heard), barrier: at(barrier) }
    }

    #[tokio::test(start_paused = true)]
    async fn heard_in_time() {
        let mut barrier = Barrier::default();
        barrier.said(at(5), progress(0, 1, 1));
        assert!(!barrier.is_heard(progress(0, 4, 1)) && barrier.is_heard(progress(0, 5, 5)));
        assert_eq!(barrier.check(progress(0, 5, 5)), Ok(()));
        assert!(!barrier.is_heard(progress(0, 5, 5)), "none is awaited");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_deafness_and_a_backlog_is_not_for_a_while() {
        let mut barrier = Barrier::default();
        barrier.said(at(5), progress(7, 1, 1));
        barrier.due().await;
        assert_eq!(barrier.check(progress(7, 1, 1)), Err(Ended::Deaf));
        for tries in 0..3 {
            assert_eq!(barrier.check(progress(8 + tries, 1, 1)), Ok(()));
            barrier.due().await;
        }
        assert_eq!(barrier.check(progress(20, 1, 1)), Err(Ended::Deaf));
        let mut barrier = Barrier::default();
        barrier.said(at(5), progress(7, 1, 1));
        assert_eq!(barrier.check(progress(8, 6, 1)), Err(Ended::Deaf), "a later event has overtaken it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_awaited_keeps_its_deadline() {
        let mut barrier = Barrier::default();
        let start = Instant::now();
        barrier.said(at(5), progress(0, 1, 1));
        tokio::time::advance(Duration::from_secs(6)).await;
        barrier.said(at(9), progress(0, 1, 1));
        barrier.due().await;
        assert_eq!(start.elapsed(), HEAR_DEADLINE);
        barrier.said(at(20), progress(0, 5, 5));
        barrier.due().await;
        assert_eq!(start.elapsed(), HEAR_DEADLINE * 2);
    }
}
