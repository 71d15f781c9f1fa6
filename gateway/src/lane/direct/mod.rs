//! The direct lane: event streams in plain text by HTTP/1.1, driven by one event loop a core.
//!
//! A socket comes from the accepting task to the loop that has the fewest. The loop reads the request's head (`head`), has the
//! router answer, and drives what the router opened: a connection costs a slot, an entry in the channel and one in the timer
//! wheel, and has no task, no buffer and no timer of its own. Whatever else comes by the port goes to the hyper lane, with the
//! bytes that were read; so does a socket whose stream has ended.
//!
//! The hub tells a loop which channels have something new ([`Inbox`]); the loop goes through their connections, and each
//! writes all that it has not written yet by one call of the system. What is published while a pass is on joins the next one,
//! so under load writes grow rather than their number.

mod alarm;
mod calls;
mod event_loop;
pub(crate) mod framing;
mod handing;
pub(crate) mod head;
mod rest;
mod slot;
mod stream;
mod wheel;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::alarm::Alarm;
use self::event_loop::EventLoop;
use super::Heads;
use super::accept::SocketPlace;
use super::hyper::HyperLane;
#[cfg(doc)]
use crate::hub::Inbox;

/// What all loops work with.
#[derive(Clone)]
pub(super) struct DirectSettings {
    /// Loops, each a thread.
    pub(super) loops: usize,
    /// How long a loop rests at least where work comes soon after work; zero: never.
    pub(super) rest: Duration,
    /// Who answers.
    pub(super) router: Router,
    /// Knows the paths of event streams.
    pub(super) is_stream: fn(&str) -> bool,
    /// A socket that takes nothing for so long is closed.
    pub(super) write_timeout: Duration,
    /// Bounds on heads.
    pub(super) heads: Heads,
    /// Takes what is not for this lane.
    pub(super) hyper: Arc<HyperLane>,
    /// No more sockets come; loops end with their last connection.
    pub(super) stop: CancellationToken,
}

/// Gives sockets to the loops.
pub(super) struct DirectLane {
    doors: Vec<Arc<Door>>,
}

/// Where sockets come into a loop.
struct Door {
    /// Filled by the accepting task, emptied by the loop.
    arrived: Mutex<Vec<Arrival>>,
    alarm: Arc<Alarm>,
    /// Sockets that the loop has or is about to have. Raised by `give`, lowered by the loop.
    held: AtomicUsize,
}

/// A socket that was accepted, and its place among those that there may be.
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    pub(super) place: SocketPlace,
}

impl DirectLane {
    /// Starts the loops, in the runtime that the caller is in. The future rings them at the stop and ends when all have ended, or
    /// before the stop when one has failed.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn start(settings: &DirectSettings) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let (mut doors, mut ends) = (Vec::new(), FuturesUnordered::new());
        for number in 0..settings.loops.max(1) {
            let poll = mio::Poll::new()?;
            let alarm = Alarm::new(mio::Waker::new(poll.registry(), event_loop::ALARM)?);
            let door = Arc::new(Door { arrived: Mutex::default(), alarm, held: AtomicUsize::new(0) });
            let (end, ended) = oneshot::channel::<()>();
            let event_loop = EventLoop::new(poll, door.clone(), settings.clone());
            let (runtime, serving) = (Handle::current(), settings.hyper.tasks().token());
            let run = move || {
                // Dropped at the end, whatever end that is.
                let _held = (serving, end);
                // Handlers have timers.
                let _context = runtime.enter();
                event_loop.run();
            };
            std::thread::Builder::new().name(format!("direct-{number}")).spawn(run)?;
            doors.push(door);
            ends.push(ended);
        }
        let (stop, at_stop) = (settings.stop.clone(), doors.clone());
        let ended = async move {
            tokio::select! {
                // None ends by itself before: it has failed, and whoever waits for this is told.
                _ = ends.next() => return,
                () = stop.cancelled() => {}
            }
            at_stop.iter().for_each(|door| door.alarm.ring());
            while ends.next().await.is_some() {}
        };
        Ok((Self { doors }, ended))
    }

    /// Gives a socket to the loop that has the fewest.
    pub(super) fn give(&self, arrival: Arrival) {
        let Some(door) = self.doors.iter().min_by_key(|door| door.held.load(Ordering::Relaxed)) else { return };
        door.held.fetch_add(1, Ordering::Relaxed);
        door.lock().push(arrival);
        door.alarm.ring();
    }
}

impl Door {
    /// Up to `most` of the sockets that have come, and whether there are more.
    fn take(&self, most: usize) -> (Vec<Arrival>, bool) {
        let mut arrived = self.lock();
        let count = most.min(arrived.len());
        let rest = arrived.split_off(count);
        let taken = std::mem::replace(&mut *arrived, rest);
        (taken, !arrived.is_empty())
    }

    /// Nothing under this lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn the_loop_with_the_fewest_gets_the_next() {
        let doors: Vec<_> = (0..3)
            .map(|_| {
                let poll = mio::Poll::new().unwrap();
                let alarm = Alarm::new(mio::Waker::new(poll.registry(), event_loop::ALARM).unwrap());
                Arc::new(Door { arrived: Mutex::default(), alarm, held: AtomicUsize::new(0) })
            })
            .collect();
        let (lane, places) = (DirectLane { doors }, Arc::new(Semaphore::new(100)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let arrive = || {
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            lane.give(Arrival { socket, place: SocketPlace::new(places.clone().try_acquire_owned().unwrap()) });
        };
        let arrived = || lane.doors.iter().map(|door| door.lock().len()).collect::<Vec<_>>();
        (0..9).for_each(|_| arrive());
        assert_eq!(arrived(), [3, 3, 3]);
        // Two of one loop's have gone.
        lane.doors[1].held.fetch_sub(2, Ordering::Relaxed);
        (0..5).for_each(|_| arrive());
        assert_eq!(arrived(), [4, 6, 4]);
    }
}
