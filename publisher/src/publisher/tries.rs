//! How often a call is tried, and how long it waits in between.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Inner;
use super::failure::Failure;
use crate::PublishError;

/// Tries within one deadline.
const TRIES: u32 = 3;
/// Longest pause before the second try; twice that before the third. The pause is any part of it, so that those who
/// failed together do not come back together.
const BACKOFF: Duration = Duration::from_millis(50);
/// Shortest and longest pause while a partition is on its way to another server of a Cluster, or while a Cluster takes nothing. Each
/// such try is refused at once, and did nothing: there are as many as there is time for.
const ON_THE_WAY: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];

/// Of one call.
pub(super) struct Tries {
    /// When it has to be over.
    pub(super) deadline: Instant,
    /// Those that count.
    failed: u32,
    /// Why the latest of the others did nothing.
    undone: Option<PublishError>,
}

impl Tries {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, failed: 0, undone: None }
    }

    /// Waits for the next try, or says that there is none.
    pub(super) async fn again(&mut self, failure: &Failure) -> Result<(), PublishError> {
        let pause = self.pause(failure).filter(|pause| failure.may_pass && Instant::now() + *pause < self.deadline);
        if let Some(pause) = pause {
            sleep(pause).await;
            return Ok(());
        }
        // Of a try that the deadline cut short, those before it say more.
        let undone = self.undone.as_ref().filter(|_| Instant::now() >= self.deadline);
        Err(undone.unwrap_or(&failure.error).clone())
    }

    fn pause(&mut self, failure: &Failure) -> Option<Duration> {
        if failure.is_undone {
            self.undone = Some(failure.error.clone());
            let [shortest, longest] = ON_THE_WAY;
            return Some(shortest + jittered(longest - shortest));
        }
        self.failed += 1;
        // Where only the functions were missing, they are there by now.
        let pause = if failure.no_functions { Duration::ZERO } else { jittered(BACKOFF * self.failed) };
        (self.failed < TRIES).then_some(pause)
    }
}

/// Any part of it.
pub(super) fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(fastrand::f64())
}

/// Of a call that may be repeated: tries until its deadline, on the server that has `partition` each time.
pub(super) async fn call<T, F>(inner: &Inner, partition: u16, once: impl Fn(Instant) -> F) -> Result<T, PublishError>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut tries = Tries::until(inner.primaries.deadline());
    loop {
        let failure = match once(tries.deadline).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        inner.primaries.note(partition, &failure);
        tries.again(&failure).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_any_part_of_the_longest() {
        let pauses: Vec<_> = (0..1_000).map(|_| jittered(BACKOFF)).collect();
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF));
        assert!(pauses.iter().any(|pause| *pause < BACKOFF / 4) && pauses.iter().any(|pause| *pause > BACKOFF / 4 * 3));
    }

    #[test]
    fn there_are_three_tries_and_those_beside_that_did_nothing() {
        let mut tries = Tries::until(Instant::now());
        let undone = Failure { is_undone: true, ..Failure::away(String::new()) };
        for _ in 0..100 {
            let pause = tries.pause(&undone).unwrap();
            assert!(pause >= ON_THE_WAY[0] && pause <= ON_THE_WAY[1], "{pause:?}");
        }
        let away = Failure::away(String::new());
        let missing = Failure { no_functions: true, ..away.clone() };
        assert_eq!(tries.pause(&missing), Some(Duration::ZERO));
        assert!(tries.pause(&away).is_some_and(|pause| pause <= BACKOFF * 2));
        assert_eq!(tries.pause(&away), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_again_after_the_deadline() {
        let mut tries = Tries::until(Instant::now() + Duration::from_secs(3));
        let undone = Failure { is_undone: true, ..Failure::away("moved".to_owned()) };
        let mut tried = 0;
        while tries.again(&undone).await.is_ok() {
            tried += 1;
        }
        assert!((20..=60).contains(&tried) && Instant::now() < tries.deadline, "{tried}");
        let told = |outcome: Result<(), PublishError>| outcome.unwrap_err().to_string();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(told(tries.again(&Failure::late()).await).ends_with("moved"), "why there was no answer in time");
        let final_one = Failure { may_pass: false, ..undone };
        assert!(Tries::until(Instant::now() + Duration::from_secs(3)).again(&final_one).await.is_err());
    }
}
