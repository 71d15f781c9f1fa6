//! Connections that somebody has end, or go on by another token.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::SystemTime;

use super::*;

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn terms(user: &str, seconds: u64) -> Terms {
    let expires = SystemTime::now() + Duration::from_secs(seconds);
    Terms { user: Some(user.into()), token: None, issued: None, expires }
}

fn admitted(world: &mut World, passes: &Arc<Passes>, user: &str, seconds: u64) -> Connection {
    let connection = world.open(&["a"], &Request::default());
    let passes = passes.clone();
    connection.admitted(Credential { passes, terms: terms(user, seconds), notice: Duration::from_secs(60) })
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_dismissed_takes_its_connections_along_and_nobody_else() {
    let mut world = World::new(1);
    let mut both = world.open(&["a", "b"], &Request::default());
    let mut other = world.open(&["b"], &Request::default());
    let now = Instant::now();
    for connection in [&mut both, &mut other] {
        let _ = written(connection, now);
    }
    world.publish("a", "before");
    world.hub.dismiss(&channel("a"));
    let last = written(&mut both, now);
    assert!(last.starts_with("retry: ") && last.ends_with("\n\n"), "{last}");
    assert_eq!(both.next(now), Next::End);
    assert!(matches!(other.next(now), Next::Wait(_)));

    let mut back = world.open(&["a"], &Request::default());
    let _ = written(&mut back, now);
    world.publish("a", "after");
    assert!(written(&mut back, now).contains("data: after"));
    drop((both, other));
    world.hub.sweep(now + Duration::from_secs(60));
    world.publish("a", "still there");
    assert!(
        written(&mut back, now).contains("data: still there"),
        "the end of the old life is not that of the new one"
    );
}

/// As where an event comes, and the order right behind it, before the loop has looked.
#[tokio::test(start_paused = true)]
async fn a_dismissal_is_seen_by_one_that_is_given_an_event_first() {
    let mut world = World::new(1);
    let mut connection = world.open(&["a"], &Request::default());
    let now = Instant::now();
    let _ = written(&mut connection, now);
    assert!(connection.follows);
    world.publish("a", "the last one");
    world.hub.dismiss(&channel("a"));
    let last = written(&mut connection, now);
    assert!(last.contains("retry: "), "{last}");
    assert_eq!(connection.next(now), Next::End);
}

#[tokio::test(start_paused = true)]
async fn one_with_a_token_is_told_and_ends_with_it() {
    let (mut world, passes) = (World::new(1), Arc::new(Passes::default()));
    let mut connection = admitted(&mut world, &passes, "42", 30);
    let first = written(&mut connection, Instant::now());
    let (open, expiring) = first.split_once("event: sse.token-expiring\n").expect("it ends in less than the notice");
    let name = open.split("\"connection\":\"").nth(1).and_then(|rest| rest.get(..16)).unwrap();
    assert!(expiring.contains(&format!("\"connection\":\"{name}\"")), "{first}");
    assert!(
        matches!(connection.next(Instant::now()), Next::Wait(until) if until <= Instant::now() + Duration::from_secs(30))
    );

    assert_eq!(passes.renew(number(name).unwrap(), terms("42", 0), |_| true), Renewed::Done);
    assert!(matches!(connection.next(Instant::now()), Next::Wait(_)), "an older token changes nothing");
    assert_eq!(passes.renew(number(name).unwrap(), terms("7", 60), |_| true), Renewed::Refused);
    connection.pass.as_mut().unwrap().end_now();
    let last = written(&mut connection, Instant::now());
    assert!(last.starts_with("event: sse.unauthorized\ndata: {\"reason\":\"expired\"}\n\nretry: "), "{last}");
    assert_eq!(connection.next(Instant::now()), Next::End);
    drop(connection);
    assert!(passes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_go_is_woken() {
    let (mut world, passes) = (World::new(1), Arc::new(Passes::default()));
    let mut one = admitted(&mut world, &passes, "42", 3_600);
    world.seed += 1;
    let mut other = admitted(&mut world, &passes, "43", 3_600);
    let wakes = [&mut one, &mut other].map(|connection| {
        let _ = written(connection, Instant::now());
        let wakes = Arc::new(Wakes::default());
        connection.wakeup().register(&wakes.clone().into());
        wakes
    });
    passes.disconnect("42");
    assert_eq!(wakes.map(|wakes| wakes.0.load(Ordering::Relaxed)), [1, 0]);
    assert!(written(&mut one, Instant::now()).starts_with("retry: "));
    assert!(matches!(other.next(Instant::now()), Next::Wait(_)));
    let mut revocations = shared::order::Revocations::default();
    revocations.add(&shared::order::Revocation { token: None, user: Some("43".to_owned()), at: 0, until: 1 });
    passes.revoke(&revocations);
    assert!(
        written(&mut other, Instant::now())
            .starts_with("event: sse.unauthorized\ndata: {\"reason\":\"revoked\"}\n\nretry: ")
    );
}
