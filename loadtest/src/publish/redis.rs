//! Publishes to Redis over one connection, pipelined: what is due goes out together, whether or not the answers to what went
//! before have come.

use tokio::time::{Instant, sleep_until, timeout};

use super::link::{Link, Pending};
use super::schedule::Schedule;
use super::{ANSWER_TIMEOUT, Account, Course, FAILURE_PAUSE, OVERRUN, Publisher, add};
use crate::args::Command;
use crate::clock::unix_ns;
use crate::endpoint;
use crate::verify::Marker;

/// Most events that go out together, so that the time which each carries is that of its write,
const BATCH: usize = 64;
/// and most bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// Channel of commands that are no events: their errors end the connection.
const NO_EVENT: u32 = u32::MAX;

/// Puts the functions into a Redis that lacks them, as every gateway and publisher does.
pub(super) async fn load_functions(url: &str) -> Result<(), String> {
    use shared::redis::{client, functions::Functions, settings::Settings};
    let settings = Settings { url: Some(url.to_owned()), ..Settings::default() };
    let client = client::Client::new(&settings).map_err(|error| format!("--publish: {error}"))?;
    let keys = shared::keys::Keys::new(shared::keys::DEFAULT_PREFIX, 1).map_err(|error| error.to_string())?;
    let failed =
        |error: ::redis::RedisError| format!("cannot load the functions into {url}: {}", client::describe(&error));
    let mut connection = client.connect().await.map_err(failed)?;
    Functions::load(&mut connection, &keys).await.map_err(failed)?;
    Ok(())
}

/// One run of publishing.
struct Run<'a> {
    publisher: &'a Publisher,
    db: u32,
    command: Command,
    schedule: Schedule,
    course: Course,
    account: Account,
    link: Option<Link>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Publishes to the end of the schedule, or until it is stopped.
pub(super) async fn run(
    publisher: &Publisher,
    db: u32,
    command: Command,
    schedule: Schedule,
    course: Course,
) -> Account {
    let account = Account::nothing(publisher.keys);
    let mut run = Run { publisher, db, command, schedule, course, account, link: None, first: None, last: None };
    run.publish().await;
    run.collect().await;
    let elapsed = run.course.start.elapsed();
    run.account.not_sent = if run.course.stop.is_cancelled() { 0 } else { run.schedule.behind(elapsed) };
    if let (Some(first), Some(last)) = (run.first, run.last) {
        run.account.took = last - first;
    }
    run.account
}

impl Run<'_> {
    /// Sends what is due, when it is.
    async fn publish(&mut self) {
        let limit = self.schedule.end().map(|end| self.course.start + end + OVERRUN);
        loop {
            let now = Instant::now();
            if self.course.stop.is_cancelled() || limit.is_some_and(|limit| now >= limit) {
                return;
            }
            let elapsed = now - self.course.start;
            let Some(next) = self.schedule.next_at(elapsed) else { return };
            if self.link.is_none() && !self.connect().await {
                continue;
            }
            self.fill(elapsed);
            let Some(link) = self.link.as_mut() else { continue };
            let room = link.has_room();
            let stop = self.course.stop.clone();
            let stepped = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                stepped = link.step() => stepped,
                () = sleep_until(self.course.start + next), if room => Ok(()),
                // Redis holds everything up: see whether it is late, or over.
                () = sleep_until(now + FAILURE_PAUSE), if !room => Ok(()),
            };
            let taken = stepped.and_then(|()| self.take_answers());
            if let Err(error) = taken.and_then(|()| self.check_patience()) {
                self.lose(&error);
            }
        }
    }

    /// Waits for the answers to what was sent.
    async fn collect(&mut self) {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while let Some(link) = self.link.as_mut().filter(|link| link.has_output() || !link.pending.is_empty()) {
            let stepped = tokio::select! {
                stepped = link.step() => stepped,
                () = sleep_until(deadline) => Err(format!("no answer within {ANSWER_TIMEOUT:?}")),
            };
            if let Err(error) = stepped.and_then(|()| self.take_answers()) {
                self.lose(&error);
            }
        }
    }

    /// Connects; after a failure it waits a moment. True if there is a connection.
    async fn connect(&mut self) -> bool {
        match endpoint::connect(self.publisher.address).await {
            Ok(stream) => {
                let mut link = Link::new(stream);
                if self.db > 0 {
                    link.push(&[b"SELECT", self.db.to_string().as_bytes()]);
                    link.pending.push_back(Pending { key: NO_EVENT, sequence: 0, sent: Instant::now() });
                }
                self.link = Some(link);
                true
            }
            Err(error) => {
                self.account.reasons.add(format!("publish: connect: {error}"), 1);
                let _ = timeout(FAILURE_PAUSE, self.course.stop.cancelled()).await;
                false
            }
        }
    }

    /// Puts what is due into the connection's buffer.
    fn fill(&mut self, elapsed: std::time::Duration) {
        let Some(link) = self.link.as_mut().filter(|link| link.has_room()) else { return };
        link.clear();
        for _ in 0..BATCH {
            if link.out.len() >= BATCH_BYTES {
                return;
            }
            let Some(due) = self.schedule.take(elapsed) else { return };
            let Some(channel) = self.account.published.get_mut(due.key as usize) else { continue };
            if due.sequence == Some(0) {
                // A new stream of this connection: the one before has ended, and was accounted for.
                *channel = crate::verify::Published::default();
            }
            let sequence = channel.attempted;
            channel.attempted += 1;
            let marker = Marker { sequence, sent_at_ns: unix_ns(), key: due.key };
            let name = self.publisher.texts.redis_key(due.key, due.round);
            let payload = self.publisher.texts.payload(marker, due.round, due.last);
            match self.command {
                Command::Publish => link.push(&[b"PUBLISH", name.as_bytes(), payload.as_bytes()]),
                Command::Fcall => link.push(&[b"FCALL", b"sse_publish", b"1", name.as_bytes(), payload.as_bytes()]),
            }
            let sent = Instant::now();
            link.pending.push_back(Pending { key: due.key, sequence, sent });
            self.account.late.record_ns((sent - (self.course.start + due.at).min(sent)).as_nanos() as u64);
            self.account.sent += 1;
            add(&self.course.counters.sent, 1);
            self.first.get_or_insert(sent);
            self.last = Some(sent);
        }
    }

    fn take_answers(&mut self) -> Result<(), String> {
        let Self { link, account, course, .. } = self;
        let Some(link) = link.as_mut() else { return Ok(()) };
        let mut refused = None;
        link.answers(|pending, error| {
            let Some(error) = error else { return };
            let error = String::from_utf8_lossy(error).into_owned();
            if pending.key == NO_EVENT {
                refused = Some(error);
                return;
            }
            account.doubt(pending.key, pending.sequence);
            account.reasons.add(format!("publish: {error}"), 1);
            add(&course.counters.unsure, 1);
        })?;
        refused.map_or(Ok(()), Err)
    }

    fn check_patience(&self) -> Result<(), String> {
        let first = self.link.as_ref().and_then(|link| link.pending.front());
        match first {
            Some(pending) if pending.sent.elapsed() > ANSWER_TIMEOUT => {
                Err(format!("no answer within {ANSWER_TIMEOUT:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The connection is of no use any more: of what waits for an answer, nobody knows whether it exists.
    fn lose(&mut self, error: &str) {
        let Some(link) = self.link.take() else { return };
        let events: Vec<Pending> = link.pending.into_iter().filter(|pending| pending.key != NO_EVENT).collect();
        self.account.reasons.add(format!("publish: {error}"), events.len().max(1) as u64);
        add(&self.course.counters.unsure, events.len() as u64);
        for pending in events {
            self.account.doubt(pending.key, pending.sequence);
        }
    }
}
