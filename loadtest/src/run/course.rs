//! What happens while events are published: measuring begins, connections drop, streams come to their end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::readings::Reading;
use super::{Run, SETTLE, left};
use crate::args::{Args, Scenario};
use crate::clock::unix_ns;
use crate::fleet::Fleet;
use crate::layout::is_in_share;
use crate::publish::schedule::{Schedule, Steady, Tokens};
use crate::publish::{Account as Publishing, Counters, Course};
use crate::report::Round;
use crate::worker::message::{Command, Stats};

/// How long connections that dropped may take to catch up; they give up a little earlier.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take until all processes have dropped theirs.
const DROP_LIMIT: Duration = Duration::from_secs(5);
/// How long processes may take to know what to measure.
const TELL_LIMIT: Duration = Duration::from_secs(60);
/// Between two rounds of dropping.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);
/// How much longer than its life a stream of tokens may take.
const STREAM_LIMIT: Duration = Duration::from_secs(20);

impl Run<'_> {
    /// Publishes, and begins to measure when the warm-up is over. Nothing is published if nobody is there to receive it.
    pub(super) async fn publish(&mut self) -> Result<Publishing, String> {
        let nothing = Publishing::nothing(self.layout.keys());
        if self.fleet.stats().opened == 0 || self.interrupts.stop.is_cancelled() {
            return Ok(nothing);
        }
        let Some(publisher) = self.publisher.clone() else {
            self.begin_measuring(Duration::ZERO).await?;
            self.readings.measure = Some(self.reading());
            self.pause("idle", self.args.duration).await?;
            return Ok(nothing);
        };
        let warmup = if self.args.once { Duration::ZERO } else { self.args.warmup };
        let measure_at = self.begin_measuring(warmup).await?;
        let counters = Arc::new(Counters::default());
        let stop = self.interrupts.stop.child_token();
        let course = Course { start: Instant::now(), stop: stop.clone(), counters: Arc::clone(&counters) };
        let schedule = self.schedule();
        let view = self.fleet.view();
        let status = || {
            let (sent, unsure) = (counters.sent.load(Ordering::Relaxed), counters.unsure.load(Ordering::Relaxed));
            format!("publishing: {sent} sent, {unsure} unsure, {} delivered", view.stats().delivered)
        };
        let (args, start) = (self.args, course.start);
        let Self { fleet, readings, rounds, progress, interrupts, .. } = self;
        let mut control = Control {
            args,
            fleet,
            start,
            measure_at,
            stop: stop.clone(),
            interrupted: interrupts.stop.clone(),
            rounds,
        };
        let both = async {
            let controlled = async {
                let controlled = control.run().await;
                if control.ends_publishing() || controlled.is_err() {
                    stop.cancel();
                }
                controlled
            };
            let (published, controlled) = tokio::join!(publisher.run(schedule, course), controlled);
            controlled.map(|measure| (published, measure))
        };
        let both = async {
            tokio::select! {
                both = both => both,
                error = view.gone() => Err(error),
            }
        };
        let (published, measure) = progress.during(both, status).await?;
        readings.measure = measure;
        Ok(published)
    }

    /// Tells all processes from when on to measure, and waits until they know: nothing is published before. Returns the
    /// time of this process' clock.
    async fn begin_measuring(&mut self, warmup: Duration) -> Result<Instant, String> {
        let (now, now_ns) = (Instant::now(), unix_ns());
        let warmup_ns = u64::try_from(warmup.as_nanos()).unwrap_or(u64::MAX);
        self.fleet.tell(&Command::Measure(now_ns.saturating_add(warmup_ns))).await?;
        let processes = self.processes;
        let told = self.fleet.view();
        let told = told.until(|stats| u64::from(stats.measuring) == processes);
        timeout(TELL_LIMIT, told).await.map_err(|_| format!("a process takes no command within {TELL_LIMIT:?}"))??;
        Ok(now + warmup)
    }

    fn schedule(&self) -> Schedule {
        let args = self.args;
        if args.scenario == Scenario::Tokens {
            return Schedule::Tokens(Tokens::new(self.fleet.view(), u64::from(args.tokens), args.life));
        }
        // Where nobody is, nothing is to be learned.
        let read = |key: &u32| self.readers.get(*key as usize).is_some_and(|readers| *readers > 0);
        let keys = |from: u32, to: u32| (from..to).filter(read).collect::<Vec<u32>>();
        let lists = match args.scenario {
            Scenario::Mixed => {
                vec![keys(0, self.layout.channels), keys(self.layout.channels, self.layout.keys())]
            }
            _ => vec![keys(0, self.layout.keys())],
        };
        // A storm lasts as long as it takes to catch up.
        let end = (!args.once && args.scenario != Scenario::Storm).then(|| args.warmup + args.duration);
        Schedule::Steady(Steady::new(lists, args.rate, end, args.once))
    }
}

/// What is done to connections while the publisher runs.
struct Control<'a> {
    args: &'a Args,
    fleet: &'a mut Fleet,
    start: Instant,
    /// The end of the warm-up, which all processes know.
    measure_at: Instant,
    /// Ends publishing.
    stop: CancellationToken,
    /// Ctrl-C.
    interrupted: CancellationToken,
    rounds: &'a mut Vec<Round>,
}

impl Control<'_> {
    /// Whether publishing goes on until this is done.
    fn ends_publishing(&self) -> bool {
        matches!(self.args.scenario, Scenario::Storm | Scenario::Tokens)
    }

    /// Returns what was read when measuring began.
    async fn run(&mut self) -> Result<Option<Reading>, String> {
        self.wait(self.measure_at.saturating_duration_since(Instant::now())).await;
        if self.stop.is_cancelled() {
            return Ok(None);
        }
        let reading = Reading::now(self.args, &self.fleet.pids());
        match self.args.scenario {
            Scenario::Storm => self.storm().await?,
            Scenario::Tokens => self.tokens().await?,
            _ => {}
        }
        Ok(Some(reading))
    }

    async fn wait(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.interrupted.cancelled() => {}
        }
    }

    /// Lets connections drop and catch up, round after round, for the duration at least.
    async fn storm(&mut self) -> Result<(), String> {
        let whole = self.args.warmup + self.args.duration;
        if self.args.share() == 0.0 {
            // The servers do it.
            // Also those that were dropped before the first event.
            let before = Stats::default();
            let view = self.fleet.view();
            let dropped = view.until(|stats| stats.left > 0);
            let dropped = tokio::select! {
                dropped = timeout(left(self.start, whole), dropped) => dropped.unwrap_or(Ok(())),
                () = self.interrupted.cancelled() => Ok(()),
            };
            dropped?;
            let since_ns = self.fleet.stats().last_left_ns;
            self.wait(left(self.start, whole)).await;
            return self.catch_up(&before, since_ns).await;
        }
        for round in 0..self.args.rounds() {
            if self.interrupted.is_cancelled() {
                return Ok(());
            }
            if round > 0 {
                self.wait(BETWEEN_ROUNDS).await;
            }
            let before = self.fleet.stats();
            let share = self.args.share();
            let begun = self.fleet.begun().into_iter().flatten();
            let expected = begun.filter(|connection| is_in_share(*connection, share)).count() as u64;
            let since_ns = unix_ns();
            self.fleet.tell(&Command::Drop(share)).await?;
            let dropped = self.fleet.view();
            let dropped = dropped.until(|stats| stats.left >= before.left + expected);
            // Fewer do where some were not open.
            timeout(DROP_LIMIT, dropped).await.unwrap_or(Ok(()))?;
            self.catch_up(&before, since_ns).await?;
        }
        self.wait(left(self.start, whole)).await;
        Ok(())
    }

    /// Waits until every connection has caught up, and notes how long it took since `since_ns`.
    async fn catch_up(&mut self, before: &Stats, since_ns: u64) -> Result<(), String> {
        let view = self.fleet.view();
        let caught_up = tokio::select! {
            caught_up = timeout(CATCH_UP_LIMIT, view.until(|stats| stats.waiting == 0)) => caught_up,
            () = self.interrupted.cancelled() => Ok(Ok(())),
        };
        let in_time = caught_up.is_ok();
        caught_up.unwrap_or(Ok(()))?;
        let now = view.stats();
        let seconds = |ns: u64| ns.saturating_sub(since_ns) as f64 / 1e9;
        let some = now.left > before.left;
        let all = in_time && now.waiting == 0 && now.failed == before.failed;
        self.rounds.push(Round {
            dropped: now.left - before.left,
            reopened: now.reopened - before.reopened,
            // Where nobody dropped, all have caught up at once.
            caught_up_seconds: all.then(|| if some { seconds(now.last_caught_up_ns) } else { 0.0 }),
            seconds: (now.reopened > before.reopened).then(|| seconds(now.last_reopened_ns)),
        });
        Ok(())
    }

    /// Lets streams follow each other for the duration, and then come to their end.
    async fn tokens(&mut self) -> Result<(), String> {
        self.wait(left(self.start, self.args.warmup + self.args.duration)).await;
        self.fleet.tell(&Command::LastStreams).await?;
        // Those that are about to open do.
        self.wait(SETTLE).await;
        let view = self.fleet.view();
        let ended = view.until(|stats| stats.completed + stats.dropped >= stats.opened);
        timeout(self.args.life + STREAM_LIMIT, ended).await.unwrap_or(Ok(()))
    }
}
