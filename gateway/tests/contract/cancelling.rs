//! What a cancellation does, and who hears of it. With several partitions those who wait look for themselves, and are not counted.

use std::pin::Pin;

use futures_util::poll;
use shared::position::Position;

use super::fixture::{Fixture, channel};
use crate::support::{eventually, soon};

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

fn wait(fixture: &Fixture, name: &str) -> Waiting {
    fixture.cancel.cancelled(&channel(name))
}

async fn cancel(fixture: &Fixture, name: &str) -> u64 {
    soon("a cancellation", fixture.cancel.cancel(&channel(name))).await.unwrap()
}

/// Waits for the cancellation of all of `names`, and is listening by now.
async fn waiting<const N: usize>(fixture: &Fixture, names: [&str; N]) -> [Waiting; N] {
    let mut all = names.map(|name| wait(fixture, name));
    for waiting in &mut all {
        assert!(poll!(waiting).is_pending());
    }
    // One who came later is heard of: then those who came before are too.
    let mut number = 0;
    eventually("somebody listens", async || {
        number += 1;
        let probe = format!("probe:{number}");
        let mut waiting = wait(fixture, &probe);
        assert!(poll!(&mut waiting).is_pending());
        for waiting in &mut all {
            assert!(poll!(waiting).is_pending(), "nobody cancelled");
        }
        tokio::task::yield_now().await;
        let heard = cancel(fixture, &probe).await;
        soon("the probe", waiting).await;
        (heard == 1 || fixture.partitions > 1).then_some(())
    })
    .await;
    all
}

pub async fn whoever_waits_is_woken(fixture: &Fixture) {
    let [a, also_a, mut b] = waiting(fixture, ["a", "a", "b"]).await;
    let counted = u64::from(fixture.partitions == 1);
    assert_eq!(cancel(fixture, "a").await, counted, "processes count, not those who wait in them");
    soon("both", async { tokio::join!(a, also_a) }).await;
    assert!(poll!(&mut b).is_pending(), "another channel's");
    cancel(fixture, "b").await;
    soon("the other one", b).await;
}

pub async fn one_who_comes_later_finds_it_so(fixture: &Fixture) {
    assert_eq!(cancel(fixture, "a").await, 0, "nobody listens");
    let [mut b] = waiting(fixture, ["b"]).await;
    soon("one who listens first thing", wait(fixture, "a")).await;
    soon("and one after it", wait(fixture, "a")).await;
    assert!(poll!(&mut b).is_pending());
}

pub async fn cancelled_twice_is_cancelled(fixture: &Fixture) {
    let [a] = waiting(fixture, ["a"]).await;
    cancel(fixture, "a").await;
    cancel(fixture, "a").await;
    soon("who waited", a).await;
    cancel(fixture, "a").await;
    soon("who did not", wait(fixture, "a")).await;
}

pub async fn nothing_is_published_and_the_channel_stays_open(fixture: &Fixture) {
    let a = channel("a");
    fixture.subscribe(&a, 1).await;
    cancel(fixture, "a").await;
    let position = fixture.publish(&a, "x").await;
    let messages = fixture.messages(&a, 1).await;
    assert_eq!(messages.iter().map(|message| message.stamp.unwrap().position).collect::<Vec<_>>(), [position]);
    assert!(!fixture.read(&a, Position::ZERO, 9).await.last.unwrap().ended);
}

pub async fn who_does_not_wait_any_more_is_not_counted(fixture: &Fixture) {
    drop(waiting(fixture, ["a"]).await);
    eventually("nobody there", async || (cancel(fixture, "a").await == 0).then_some(())).await;
}

pub async fn many_wait(fixture: &Fixture) {
    let all: Vec<String> = (0..1_200).map(|number| format!("many:{number}")).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for name in &all {
        tasks.spawn(wait(fixture, name));
    }
    for name in &all {
        cancel(fixture, name).await;
    }
    soon("all of them", tasks.join_all()).await;
}
