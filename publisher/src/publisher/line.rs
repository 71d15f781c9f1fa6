//! The line: one link to Redis that all small publishes share.
//!
//! The client library writes what several calls ask for at once as one pipeline, and hands each its own answers. So many
//! callers cost few round trips and few system calls, and a single one waits for nobody: what is there when the link is
//! free goes. A call that is dropped leaves nothing: what was not written is thrown away, an answer to nobody too.
//!
//! What may be on its way is bounded ([`ROOM_KIB`]); whoever finds no room waits, until the deadline. Large publishes go
//! another way, on links of their own: small ones would have to wait behind them.
//!
//! A link that is *silent*, with something asked and nothing answered for half of a call's time, is given up, and the next
//! call opens another. As long as it answers anybody, it is merely busy: answers come in the order of the questions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult, Value};
use shared::redis::Server;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::target::Target;

/// Commands that are written on the line together, at most: more take a link of their own.
pub(super) const MAX_COMMANDS: usize = 64;
/// Bytes of them, at most: on a slow network (100 Mbit/s) others wait 5 ms for them.
pub(super) const MAX_BYTES: usize = 64 << 10;
/// KiB of all that is on its way and not answered; each call takes one at least. It is some milliseconds of what Redis
/// carries out, and as much memory at each end.
const ROOM_KIB: usize = 16 << 10;
/// What cannot be repeated goes on a link that answered so recently, or is asked first whether it is still there.
const FRESH: Duration = Duration::from_millis(100);

/// See above.
pub(super) struct Line {
    target: Target,
    /// How long a link may be silent.
    patience: Duration,
    room: Semaphore,
    /// `None`: nobody has needed it yet, or it is given up. Written by who connects and by who gives it up.
    current: std::sync::Mutex<Option<Arc<Link>>>,
    /// Held by who connects. In it when that failed the last time, and how: those who waited for it have failed too.
    connecting: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

struct Link {
    connection: MultiplexedConnection,
    /// The server at its other end.
    server: Server,
    born: Instant,
    /// Milliseconds since `born` of the latest answer. Written by whoever gets one, read by those who wait for theirs.
    answered: AtomicU64,
    /// The same of the first question since then; [`NOTHING`] where there was none. Outlives those who asked: a call that is dropped
    /// before it was written may cost a link that would have answered.
    asked: AtomicU64,
}

const NOTHING: u64 = u64::MAX;

/// A place on the line, of one call.
pub(super) struct Place<'a> {
    line: &'a Line,
    link: Arc<Link>,
    /// Given back when the call ends, however that is.
    _room: SemaphorePermit<'a>,
}

impl Line {
    /// Connects to nothing yet. `timeout`: of a call.
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        Self {
            target,
            patience: timeout / 2,
            room: Semaphore::new(ROOM_KIB),
            current: std::sync::Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// A place for so many bytes. The failure is one before anything was sent. `once`: what is to be sent cannot be
    /// repeated, so the link has to be known to be there.
    pub(super) async fn place(&self, bytes: usize, once: bool, deadline: Instant) -> Result<Place<'_>, Failure> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10).clamp(1, ROOM_KIB)).unwrap_or(1);
        let room = match timeout_at(deadline, self.room.acquire_many(kib)).await {
            Ok(Ok(room)) => room,
            // It is never closed.
            Ok(Err(error)) => return Err(Failure::away(error.to_string())),
            Err(_) => return Err(Failure::away(no_room())),
        };
        let mut place = Place { line: self, link: self.link(deadline).await?, _room: room };
        if once && !place.link.is_fresh() {
            let ping = redis::pipe().cmd("PING").ignore_errors().clone();
            if let Err(failure) = place.send(&ping, deadline).await {
                place.give_up(&failure);
                place.link = self.link(deadline).await?;
            }
        }
        Ok(place)
    }

    /// The link there is, or a new one; of many who need one at once, one connects.
    async fn link(&self, deadline: Instant) -> Result<Arc<Link>, Failure> {
        match self.current() {
            Some(link) => Ok(link),
            None => timeout_at(deadline, self.connect()).await.unwrap_or_else(|_| Err(Failure::late())),
        }
    }

    async fn connect(&self) -> Result<Arc<Link>, Failure> {
        let came = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        if let Some((when, failure)) = &*failed
            && *when >= came
        {
            return Err(failure.clone());
        }
        let connected = async {
            let server = self.target.server().await?;
            Ok::<_, RedisError>((server.connect().await?, server))
        };
        match connected.await {
            Ok((connection, server)) => {
                let link = Arc::new(Link::new(connection, server));
                *self.lock() = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                *failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// The link there is, unless it is silent, or leads to a server that is no longer the one.
    fn current(&self) -> Option<Arc<Link>> {
        let mut current = self.lock();
        // Those who asked may have given up by themselves before they could know.
        _ = current.take_if(|link| link.silent_for() >= self.patience || self.target.is_left(&link.server));
        current.clone()
    }

    /// The next call connects anew.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Link>>> {
        // Nothing under this lock can panic half-way.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn new(connection: MultiplexedConnection, server: Server) -> Self {
        // Connecting ends with an answer.
        Self { connection, server, born: Instant::now(), answered: AtomicU64::new(0), asked: AtomicU64::new(NOTHING) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn asks(&self) {
        // Of several questions the first counts; of which of two at once does not matter.
        _ = self.asked.compare_exchange(NOTHING, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn answers(&self) {
        self.answered.store(self.now(), Ordering::Relaxed);
        self.asked.store(NOTHING, Ordering::Relaxed);
    }

    fn answered(&self) -> Instant {
        self.born + Duration::from_millis(self.answered.load(Ordering::Relaxed))
    }

    fn is_fresh(&self) -> bool {
        self.answered().elapsed() < FRESH
    }

    /// How long something has been asked and nothing answered.
    fn silent_for(&self) -> Duration {
        match self.asked.load(Ordering::Relaxed) {
            NOTHING => Duration::ZERO,
            asked => Duration::from_millis(self.now().saturating_sub(asked)),
        }
    }
}

impl Place<'_> {
    /// The commands' answers, or why there are none; then nobody knows what was carried out.
    pub(super) async fn send(
        &mut self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        let asked = Instant::now();
        self.link.asks();
        let mut connection = self.link.connection.clone();
        let mut answers = std::pin::pin!(commands.query_async(&mut connection));
        loop {
            let give_up = self.link.answered().max(asked) + self.line.patience;
            if let Ok(answers) = timeout_at(give_up.min(deadline), &mut answers).await {
                // A link that broke has answered nobody.
                let answers = answers.map_err(|error| Failure::of(&error));
                if answers.as_ref().err().is_none_or(|failure| !failure.breaks_link) {
                    self.link.answers();
                }
                return answers;
            }
            // Meanwhile it may have answered others.
            let silent = Instant::now() >= self.link.answered().max(asked) + self.line.patience;
            if silent || Instant::now() >= deadline {
                return Err(Failure { breaks_link: silent, ..Failure::late() });
            }
        }
    }

    /// Whether the server at the other end is no longer the one.
    pub(super) fn is_left(&self) -> bool {
        self.link.server.is_left()
    }

    /// Where `failure` is one of the link, the next call opens another. Those who are on it wait for theirs.
    pub(super) fn give_up(&self, failure: &Failure) {
        if failure.breaks_link {
            _ = self.line.lock().take_if(|current| Arc::ptr_eq(current, &self.link));
        }
    }
}

fn no_room() -> String {
    format!(
        "{} MiB, the limit, are on their way to Redis, and too little of it was answered within the deadline",
        ROOM_KIB >> 10
    )
}

#[cfg(test)]
mod tests {
    use shared::redis::{Client, Settings};

    use super::*;

    fn line() -> Line {
        // Nothing connects to it.
        let client = Client::new(&Settings::new("redis://127.0.0.1:1")).unwrap();
        Line::new(Target::Any(client), Duration::from_secs(3))
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_a_call_waits_until_its_deadline() {
        let line = line();
        let all = line.room.acquire_many(ROOM_KIB as u32).await.unwrap();
        let start = Instant::now();
        let Err(failure) = line.place(1, false, start + Duration::from_secs(3)).await else { panic!("there was room") };
        assert!(failure.may_pass && !failure.breaks_link);
        assert!(failure.into_reason().starts_with("16 MiB, the limit, are on their way to Redis"));
        assert_eq!(start.elapsed().as_secs(), 3);
        drop(all);
        assert_eq!(line.room.available_permits(), ROOM_KIB);
    }

    #[tokio::test]
    async fn those_who_waited_for_a_connection_fail_with_it() {
        let line = line();
        let deadline = Instant::now() + Duration::from_secs(3);
        let (first, second) = tokio::join!(line.link(deadline), line.link(deadline));
        for outcome in [first, second] {
            let Err(failure) = outcome else { panic!("somebody is there") };
            assert_eq!(failure.into_reason(), "connection refused");
        }
        // Whoever comes later tries by himself.
        assert!(line.connecting.lock().await.as_ref().is_some_and(|(when, _)| *when < Instant::now()));
    }
}
