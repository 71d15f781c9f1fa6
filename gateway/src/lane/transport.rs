//! What is known of a client's connection, for those who serve it: whether it takes what is written, whether a request was
//! read to its end, how many are under way.
//!
//! Two things can stand still. The socket: bytes were offered and it takes none ([`TimedStream`](shared::net::TimedStream)
//! tells). Or, on HTTP/2, one stream's window: the socket is fine, but hyper does not come back for the stream's next bytes.
//! Either ends the transport after the write timeout; with it go all its streams, since hyper has no way to end just one from
//! outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use shared::net::{Answering, Peer};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Between looks for requests under way, at a stop.
const STOP_PAUSE: Duration = Duration::from_secs(1);

/// What handlers and bodies know of the socket they answer on.
#[derive(Debug)]
pub struct Transport {
    opened: Instant,
    write_timeout: Duration,
    /// What socket and requests say. Timed out is also an HTTP/2 answer that stood still; read when a body is dropped.
    peer: Arc<Peer>,
    /// A head has begun. Set by who reads the socket while nothing is being answered, unset by the request.
    head_begun: AtomicBool,
    /// Fires at every request.
    requested: Notify,
    /// The requests come by HTTP/2.
    http2: AtomicBool,
    /// The answer under way is an event stream on HTTP/1. Set and unset with its body, read by who reads the socket.
    streaming: AtomicBool,
    /// The answers under way on HTTP/2; those that ended are dropped when the list is next gone through.
    answers: Mutex<Vec<Weak<Progress>>>,
}

/// Whether hyper came back after it was handed bytes. Written by the body, read by the transport's owner.
#[derive(Debug)]
pub(super) struct Progress {
    opened: Instant,
    /// Milliseconds since `opened` at which bytes were handed over, plus one; 0 while the body has nothing to say.
    since: AtomicU64,
}

/// See [`Transport::streams`].
pub(super) struct Streaming(Arc<Transport>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streaming.store(false, Ordering::Relaxed);
    }
}

impl Progress {
    pub(super) fn handed_over(&self, now: Instant) {
        self.since.store(self.age(now) + 1, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn stands_still(&self, now: Instant, timeout: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && u128::from(self.age(now).saturating_sub(since - 1)) >= timeout.as_millis()
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Transport {
    pub(super) fn new(write_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            write_timeout,
            peer: Arc::default(),
            head_begun: AtomicBool::new(false),
            requested: Notify::new(),
            http2: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            answers: Mutex::default(),
        })
    }

    /// Whether something on it stood still for the write timeout.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.peer.is_timed_out()
    }

    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Notes that a request came.
    pub(super) fn request(&self, http2: bool) -> Answering {
        self.http2.store(http2, Ordering::Relaxed);
        self.head_begun.store(false, Ordering::Relaxed);
        let answering = self.peer.answering();
        self.requested.notify_one();
        answering
    }

    /// Notes that something came. While a request is answered that may be its body.
    pub(super) fn heard(&self) {
        if !self.peer.is_answering() {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a part of a head came, and not all of it. Nothing is known of that where requests come by HTTP/2.
    pub(super) fn awaits_head(&self) -> bool {
        self.head_begun.load(Ordering::Relaxed) && !self.http2.load(Ordering::Relaxed)
    }

    /// Notes that the answer on HTTP/1 is an event stream, until the guard is dropped.
    pub(super) fn streams(self: &Arc<Self>) -> Streaming {
        self.streaming.store(true, Ordering::Relaxed);
        Streaming(self.clone())
    }

    /// Whether it is: what the client sends meanwhile waits for the end of it.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Watches one more answer on HTTP/2.
    pub(super) fn watch(&self) -> Arc<Progress> {
        let progress = Arc::new(Progress { opened: self.opened, since: AtomicU64::new(0) });
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&progress));
        progress
    }

    /// Ends when the transport is to be given up: no request until `first`, or none for `idle` after that, or an HTTP/2 answer
    /// that stood still for the write timeout.
    pub(super) async fn given_up(&self, first: Instant, idle: Duration) {
        let mut until = first;
        loop {
            let pause = self.pause(idle).min(until.saturating_duration_since(Instant::now()));
            let requested = tokio::time::timeout(pause, self.requested.notified()).await.is_ok();
            if requested && !self.http2.load(Ordering::Relaxed) {
                // HTTP/1.1 has one answer at a time, the socket itself tells, and hyper times what is between requests.
                return std::future::pending().await;
            }
            let now = Instant::now();
            if self.any_stands_still(now) {
                self.peer.set_timed_out();
                return;
            }
            if requested || self.peer.is_answering() {
                until = now + idle;
            } else if now >= until {
                return;
            }
        }
    }

    /// Ends when there was no request under way for a while: at a stop, half a request holds nothing up.
    pub(super) async fn nothing_under_way(&self) {
        while self.peer.is_answering() {
            sleep(STOP_PAUSE).await;
        }
        // Time for the last bytes of the last answer.
        sleep(STOP_PAUSE).await;
    }

    /// How long until the next look: often enough for either limit, and only once while there is nothing to look at.
    fn pause(&self, idle: Duration) -> Duration {
        if self.http2.load(Ordering::Relaxed) { idle.min(self.write_timeout) / 4 } else { idle }
    }

    fn any_stands_still(&self, now: Instant) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.iter().filter_map(Weak::upgrade).any(|answer| answer.stands_still(now, self.write_timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(75);
    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    /// How long `transport` lives from now on; `None` for longer than a day.
    async fn lives(transport: &Transport) -> Option<Duration> {
        let start = Instant::now();
        let day = Duration::from_secs(24 * 3_600);
        tokio::time::timeout(day, transport.given_up(start + IDLE, IDLE)).await.ok().map(|()| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_given_up() {
        let transport = Transport::new(WRITE_TIMEOUT);
        assert_eq!(lives(&transport).await.map(|lived| lived.as_secs()), Some(75));
        assert!(!transport.is_timed_out());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_was_waited_for_already_has_what_is_left() {
        let (transport, start) = (Transport::new(WRITE_TIMEOUT), Instant::now());
        transport.given_up(start + Duration::from_secs(13), IDLE).await;
        assert_eq!(start.elapsed().as_secs(), 13);
        // Once there was a request, the next one is waited for as ever.
        let start = Instant::now();
        drop(transport.request(true));
        transport.given_up(start + Duration::from_secs(13), IDLE).await;
        let lived = start.elapsed();
        assert!((IDLE..IDLE + WRITE_TIMEOUT).contains(&lived), "{lived:?}");
    }

    #[test]
    fn a_head_has_begun_when_something_comes_that_belongs_to_no_request() {
        let transport = Transport::new(WRITE_TIMEOUT);
        assert!(!transport.awaits_head(), "nothing came");
        transport.heard();
        assert!(transport.awaits_head());
        let request = transport.request(false);
        transport.heard();
        assert!(!transport.awaits_head(), "the body of the request");
        drop(request);
        assert!(!transport.awaits_head(), "idle");
        transport.heard();
        assert!(transport.awaits_head(), "the next one");
        drop(transport.request(true));
        transport.heard();
        assert!(!transport.awaits_head(), "frames of HTTP/2");
    }

    #[tokio::test(start_paused = true)]
    async fn http1_is_left_to_hyper_and_the_socket() {
        let transport = Transport::new(WRITE_TIMEOUT);
        drop(transport.request(false));
        assert_eq!(lives(&transport).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_given_up_when_it_is_idle() {
        let transport = Transport::new(WRITE_TIMEOUT);
        let (request, progress) = (transport.request(true), transport.watch());
        progress.waiting();
        assert_eq!(lives(&transport).await, None, "a stream that has nothing to say");
        drop((request, progress));
        let lived = lives(&transport).await.unwrap();
        assert!((IDLE..IDLE + WRITE_TIMEOUT).contains(&lived), "{lived:?}");
        assert!(!transport.is_timed_out());
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_given_up_when_an_answer_is_not_taken() {
        let transport = Transport::new(WRITE_TIMEOUT);
        let (_request, healthy, stalled) = (transport.request(true), transport.watch(), transport.watch());
        stalled.handed_over(Instant::now());
        healthy.handed_over(Instant::now());
        healthy.waiting();
        let lived = lives(&transport).await.unwrap();
        assert!((WRITE_TIMEOUT..WRITE_TIMEOUT * 2).contains(&lived), "{lived:?}");
        assert!(transport.is_timed_out());
    }
}
