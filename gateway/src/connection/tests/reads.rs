//! Connections whose past has to be read: slow reads, reads that fail, several at a time, results that had to make room.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::continuity::Gap;
use shared::cursor::Tag;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::{Between, Broker, BrokerError, Entry, Last, Lost, Sink};
use crate::hub::Asked;

type Answer = Result<Snapshot, BrokerError>;

/// A broker whose reads answer when the test says so.
#[derive(Default)]
struct Reads(Mutex<Vec<(Between, oneshot::Sender<Answer>)>>);

impl Reads {
    fn asked(&self) -> Vec<(Between, oneshot::Sender<Answer>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Broker for Reads {
    fn run(self: Arc<Self>, _: InterestQueue, _: Arc<dyn Sink>, _: CancellationToken) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }

    fn read<'a>(&'a self, _: &'a Channel, between: Between, _: usize) -> BoxFuture<'a, Answer> {
        let (send, receive) = oneshot::channel();
        self.0.lock().unwrap().push((between, send));
        async { receive.await.unwrap_or_else(|_| failure()) }.boxed()
    }
}

/// A broker whose reads fail after 8 ms.
#[derive(Default)]
struct Failing(AtomicUsize);

impl Broker for Failing {
    fn run(self: Arc<Self>, _: InterestQueue, _: Arc<dyn Sink>, _: CancellationToken) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }

    fn read<'a>(&'a self, _: &'a Channel, _: Between, _: usize) -> BoxFuture<'a, Answer> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(8)).await;
            failure()
        }
        .boxed()
    }
}

fn failure() -> Answer {
    Err(BrokerError { reason: "x".to_owned() })
}

/// The events `after + 1 ..= last` at a clock of 1,000.
fn past(after: u64, last: u64) -> Snapshot {
    let stamp = |ms| Stamp { position: at(ms), previous: at(ms - 1) };
    let entries = (after + 1..=last).map(|ms| Entry { stamp: stamp(ms), payload: ms.to_string().into() }).collect();
    Snapshot { last: Some(Last { position: at(last), ended: false }), entries, ..snapshot(at(1_000)) }
}

fn after(ms: u64, epoch: u64) -> Request {
    let cursor = format!("{ms}-0_{}", Tag::of(&Epoch::from_bits(epoch), 1));
    Request { resume: Resume::parse(&cursor), ..Request::default() }
}

/// A world whose channel becomes live at 1,000, and the worker that reads for it.
fn world(broker: Arc<dyn Broker>) -> (World, JoinSet<()>) {
    let mut world = World::new(1);
    world.clocks[0] = at(1_000);
    world.hub.barrier(0, at(1_000));
    let mut worker = JoinSet::new();
    worker.spawn(world.hub.clone().run(broker, CancellationToken::new()));
    (world, worker)
}

/// Lets the worker do what it can.
async fn turn() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_of_a_long_history() {
    for (resume, expected) in
        [(Resume::Newest(1), 300..=300), (Resume::Newest(299), 2..=300), (Resume::Earliest, 1..=300)]
    {
        let broker = Arc::new(Reads::default());
        let (mut world, _worker) = world(broker.clone());
        let mut connection = world.open(&["a"], &Request { resume, ..Request::default() });
        let _ = written(&mut connection, Instant::now());
        turn().await;
        // Page by page, the newest first.
        while let Some((between, answer)) = broker.asked().pop() {
            let to = between.before.map_or(300, |before| before.ms - 1);
            let mut page = past(to.saturating_sub(100), to);
            page.last = Some(Last { position: at(300), ended: false });
            answer.send(Ok(page)).unwrap();
            turn().await;
        }
        let bytes = written(&mut connection, Instant::now());
        let data: Vec<u64> =
            bytes.lines().filter_map(|line| line.strip_prefix("data: ")).map(|data| data.parse().unwrap()).collect();
        assert_eq!(data, expected.collect::<Vec<_>>());
    }
}

/// A client at 50, and one whose cursor is of another epoch, so that the broker has to confirm: two reads, answered in this
/// order before either looks. What the first is told, and whether the second gets on.
async fn two_reads(order: [usize; 2], fail: bool) -> (String, bool) {
    let broker = Arc::new(Reads::default());
    let (mut world, _worker) = world(broker.clone());
    let (mut at_50, mut foreign) = (world.open(&["a"], &after(50, 1)), world.open(&["a"], &after(50, 9)));
    let _ = written(&mut at_50, Instant::now());
    turn().await;
    let _ = written(&mut foreign, Instant::now());
    turn().await;
    let mut asked: Vec<_> = broker.asked().into_iter().map(Some).collect();
    assert_eq!(asked.len(), 2);
    for index in order {
        let (between, answer) = asked[index].take().unwrap();
        let read = past(between.after.ms.min(90), 90);
        answer.send(if fail { failure() } else { Ok(read) }).unwrap();
        turn().await;
    }
    let mut told = written(&mut at_50, Instant::now());
    turn().await;
    // The newer result took the place of the one that was for it.
    for (between, answer) in broker.asked() {
        answer.send(Ok(past(between.after.ms, 90))).unwrap();
    }
    turn().await;
    told += &written(&mut at_50, Instant::now());
    let mut gets_on = written(&mut foreign, Instant::now()).contains("sse.gap");
    tokio::time::sleep(Duration::from_secs(2)).await;
    gets_on |= written(&mut foreign, Instant::now()).contains("sse.gap");
    turn().await;
    (told, gets_on || !broker.asked().is_empty())
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_read_may_not_go_back_far_enough() {
    let (told, _) = two_reads([0, 1], false).await;
    assert!(told.starts_with("data: 51\n") && !told.contains("sse.gap"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn reads_of_one_channel_end_in_any_order() {
    for fail in [false, true] {
        let (_, gets_on) = two_reads([1, 0], fail).await;
        assert!(gets_on, "failed: {fail}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_had_to_go_before_it_was_taken_is_read_again() {
    let broker = Arc::new(Reads::default());
    let (mut world, _worker) = world(broker.clone());
    let connection = world.open(&["a"], &Request::default());
    let subscription = &connection.readers[0].subscription;
    let Asked::Wait(ticket) = subscription.past(at(50), 0, None) else { panic!("not read yet") };
    turn().await;
    broker.asked().pop().unwrap().1.send(Ok(past(50, 90))).unwrap();
    // Longer than anything is kept for.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let Asked::Wait(again) = subscription.past(at(50), 0, Some(ticket)) else { panic!("it is gone") };
    turn().await;
    broker.asked().pop().expect("asked again").1.send(Ok(past(50, 90))).unwrap();
    turn().await;
    assert!(matches!(subscription.past(at(50), 0, Some(again)), Asked::Ready(_)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_never_for_the_past() {
    let (mut world, _worker) = world(Arc::new(Failing::default()));
    let mut connection = world.open(&["a"], &after(300, 1));
    let _ = written(&mut connection, Instant::now());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = written(&mut connection, Instant::now());
    world.hub.lost(0, Lost::Away);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = Instant::now();
    assert!(matches!(connection.next(now), Next::Wait(until) if until > now));
}

/// Polls `connection` as a lane does.
async fn poll(mut connection: Connection, polls: Arc<AtomicUsize>) {
    let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
    std::future::poll_fn(|cx| {
        loop {
            connection.wakeup().register(cx.waker());
            polls.fetch_add(1, Ordering::Relaxed);
            match connection.next(Instant::now()) {
                Next::Write(_) => {}
                Next::End => return Poll::Ready(()),
                Next::Wait(until) => {
                    if sleep.deadline() != until {
                        sleep.as_mut().reset(until);
                    }
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_are_tried_again_once_a_second() {
    for epoch in [1, 9] {
        let broker = Arc::new(Failing::default());
        let (mut world, mut tasks) = world(broker.clone());
        let polls = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            tasks.spawn(poll(world.open(&["a"], &after(300, epoch)), polls.clone()));
            // So that each asks while the read of the one before is under way.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (reads, polls) = (broker.0.load(Ordering::Relaxed), polls.load(Ordering::Relaxed));
        assert!((5..=40).contains(&reads) && polls < 300, "epoch {epoch}: {reads} reads, {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_connection_is_told_of_no_hole_from_before_it() {
    let mut world = World::new(1);
    let _first = world.open(&["a"], &Request::default());
    world.hub.lost(0, Lost::Away);
    let mut connection = world.open_while(&["a"], &Request::default(), |world| {
        world.hub.session(0, &Epoch::from_bits(1), at(200));
        world.hub.live(&channel("a"), 1, snapshot(at(200)), Join::Hole(Gap::TooFar));
    });
    let told = written(&mut connection, Instant::now());
    assert!(told.contains("sse.open") && !told.contains("sse.gap"), "{told}");
}
