//! Connections that read while events arrive, on threads of their own: what the model, which has one, cannot show.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::{Poll, Wake};

use tokio_util::task::TaskTracker;

use super::*;
use crate::hub::{Calls, Inbox, Lagged, Look};

/// Nothing but the hub wakes these connections: a wake-up that gets lost is an event that stays in the log.
#[test]
fn whoever_is_on_the_channel_is_woken_for_every_event() {
    const CONNECTIONS: u64 = 300;
    const ROUNDS: u64 = 1_500;
    let mut world = World::new(1);
    world.gate = Gate::new(1_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let tasks = TaskTracker::new();
    for _ in 0..CONNECTIONS {
        let (connection, read) = (world.open(&["a"], &Request::default()), read.clone());
        tasks.spawn_on(count(connection, read), runtime.handle());
    }
    let mut sent = 0;
    for round in 0..ROUNDS {
        // Back to back, so that one arrives while connections still read the one before.
        for _ in 0..2 + round % 3 {
            world.publish("a", "x");
            sent += 1;
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while read.load(Ordering::Relaxed) < sent * CONNECTIONS {
            assert!(Instant::now() < deadline, "round {round}: events are in the log and somebody was not woken");
            std::thread::yield_now();
        }
    }
    world.hub.close(Instant::now());
    tasks.close();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), tasks.wait()).await }).unwrap();
}

/// Counts the events of `connection` until it ends. It never looks without having been woken.
async fn count(mut connection: Connection, read: Arc<AtomicU64>) {
    std::future::poll_fn(|cx| {
        loop {
            connection.wakeup().register(cx.waker());
            match connection.next(Instant::now()) {
                Next::Write(bytes) => {
                    let events = bytes.into_bytes().windows(8).filter(|window| *window == b"data: x\n").count();
                    read.fetch_add(events as u64, Ordering::Relaxed);
                }
                Next::Wait(_) => return Poll::Pending,
                Next::End => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// The same for connections on two event loops, which the hub tells of the channel.
#[test]
fn whoever_is_on_a_loop_is_told_of_every_event() {
    const CONNECTIONS: u64 = 300;
    const ROUNDS: u64 = 1_500;
    let mut world = World::new(1);
    world.gate = Gate::new(1_000);
    let sleeping: [Arc<Sleep>; 2] = Default::default();
    let inboxes = sleeping.each_ref().map(|sleep| Arc::new(Inbox::new(sleep.clone().into())));
    let mut loops = [Vec::new(), Vec::new()];
    for number in 0..CONNECTIONS {
        let on = usize::from(number % 3 == 0);
        let token = u32::try_from(loops[on].len()).unwrap();
        let wakeup = Arc::new(Wakeup::on_loop(inboxes[on].clone(), token));
        loops[on].push(world.open_by(wakeup, &["a"], &Request::default(), |_| {}));
    }
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for ((sleep, inbox), connections) in sleeping.iter().zip(&inboxes).zip(&mut loops) {
            scope.spawn(|| drive(sleep, inbox, connections, &read));
        }
        let _close = CloseOnDrop(&world.hub.clone());
        let mut sent = 0;
        for round in 0..ROUNDS {
            for number in 0..2 + round % 3 {
                if number % 2 == 0 {
                    world.publish("a", "x");
                } else {
                    world.ephemeral("a", "x");
                }
                sent += 1;
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while read.load(Ordering::Relaxed) < sent * CONNECTIONS {
                assert!(Instant::now() < deadline, "round {round}: events are in the log and somebody was not told");
                std::thread::yield_now();
            }
        }
    });
}

/// An event loop: goes through those who have something new, a few at a time, and sleeps until there are more.
fn drive(sleep: &Sleep, inbox: &Arc<Inbox>, connections: &mut [Connection], read: &AtomicU64) {
    let (mut calls, mut tokens) = (Calls::default(), Vec::new());
    connections.iter_mut().for_each(|connection| look(connection, read));
    while inbox.closing().is_none() {
        inbox.take(&mut calls);
        for mut round in calls.rounds.drain(..) {
            let mut more = true;
            while more {
                more = round.next(inbox, &mut tokens, 7);
                tokens.drain(..).for_each(|token| look(&mut connections[token as usize], read));
            }
        }
        calls.tokens.drain(..).for_each(|token| look(&mut connections[token as usize], read));
        sleep.until_woken();
    }
}

fn look(connection: &mut Connection, read: &AtomicU64) {
    connection.wakeup().looks();
    while let Next::Write(pieces) = connection.next(Instant::now()) {
        let bytes = pieces.into_bytes();
        let events = bytes.windows(8).filter(|window| *window == b"data: x\n").count();
        read.fetch_add(events as u64, Ordering::Relaxed);
    }
}

/// Sleep of a thread; one that is woken before it sleeps goes on at once.
#[derive(Default)]
struct Sleep {
    woken: Mutex<bool>,
    wakes: Condvar,
}

impl Sleep {
    fn until_woken(&self) {
        let woken = self.wakes.wait_while(self.woken.lock().unwrap(), |woken| !*woken);
        *woken.unwrap() = false;
    }
}

impl Wake for Sleep {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wakes.notify_one();
    }
}

/// Ends the loops, also where the test fails: the scope waits for them.
struct CloseOnDrop<'a>(&'a Hub);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close(Instant::now());
    }
}

/// A connection that opens while events arrive begins with the very next one after its priming id.
#[test]
fn a_fresh_connection_misses_nothing_after_its_beginning() {
    let mut world = World::new(1);
    let keep = world.open(&["a"], &Request::default());
    let done = AtomicBool::new(false);
    let hub = world.hub.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut position = at(100);
            while !done.load(Ordering::Relaxed) {
                position = position.advance(0);
                let stamp = Some(Stamp { position, previous: Position::ZERO });
                hub.message(Message { channel: channel("a"), payload: "x".into(), stamp });
            }
        });
        let _stop = StopOnDrop(&done);
        for _ in 0..30_000 {
            let mut connection = world.open(&["a"], &Request::default());
            let beginning = connection.parts[0].at.position;
            let Next::Write(_) = connection.next(Instant::now()) else { panic!("no opening") };
            let first = first_event(&connection, beginning);
            assert_eq!(first.seq, beginning.seq + 1, "after a beginning at {beginning}");
        }
    });
    drop(keep);
}

/// Ends the publishing thread, also where the test fails: the scope waits for it.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Position of the first event that `connection` would write.
fn first_event(connection: &Connection, beginning: Position) -> Position {
    loop {
        let mut events = Vec::new();
        let watermark = connection.hub.watermark(0);
        let look = Look { after: Some(beginning), watermark, life: 0, limit: 1_000 };
        match connection.readers[0].subscription.peek(look, &mut events, &mut Vec::new()) {
            Ok(_) => {}
            Err(Lagged) => return Position { seq: beginning.seq + 1, ..beginning },
        }
        if let Some(first) = events.first() {
            return first.order().position;
        }
        std::hint::spin_loop();
    }
}
