//! Passwords, TLS, and a user who may do no more than a publisher has to.

use publisher::{Channels as _, ConnectError, Event, Once, PublishError, Publisher};
use shared::position::Position;
use shared::redis::{Settings, StartError};
use testkit::{RedisServer, eventually, soon};

use crate::support::*;

#[tokio::test]
async fn a_password() {
    let server = RedisServer::builder().config("requirepass hunter2").start().await;
    let settings = Settings::new(&server.url());
    let right = Settings { password: Some("hunter2".into()), ..settings.clone() };
    let publisher = Publisher::connect(&right).await.unwrap();
    publisher.publish(&channel("a"), Event::text("x")).await.unwrap();
    assert_eq!(publisher.check().await, Ok(()));

    let in_url = server.url().replace("127.0.0.1", ":hunter2@127.0.0.1");
    connect(&in_url).await.publish(&channel("a"), Event::text("x")).await.unwrap();

    let wrong = Settings { password: Some("s3cret".into()), ..settings.clone() };
    let error = Publisher::connect(&wrong).await.unwrap_err();
    assert!(matches!(error, ConnectError::Start(StartError::Refused { .. })), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    let error = Publisher::connect(&settings).await.unwrap_err();
    assert!(error.to_string().contains("NOAUTH"), "{error}");

    // It changes under our feet: what is connected stays so, what is new is refused.
    server.cli(&["-a", "hunter2", "--no-auth-warning", "CONFIG", "SET", "requirepass", "changed"]).await;
    server.cli(&["-a", "changed", "--no-auth-warning", "CLIENT", "KILL", "TYPE", "normal"]).await;
    let error = publisher.publish(&channel("a"), Event::text("x")).await.unwrap_err();
    assert_eq!(
        error,
        PublishError::Rejected { reason: "user or password is wrong, or the server has none".to_owned() }
    );
    assert_eq!(publisher.check().await, Err("user or password is wrong, or the server has none".to_owned()));
}

#[tokio::test]
async fn tls() {
    let server = RedisServer::builder().tls().start().await;
    let settings = Settings { ca_file: Some(server.ca_file().to_owned()), ..Settings::new(&server.url()) };
    let publisher = Publisher::connect(&settings).await.unwrap();
    let batch = (0..1_000).map(|number| (channel("a"), numbered(number))).collect();
    let outcomes = publisher.publish_batch(batch).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(publisher.check().await, Ok(()));

    // Nobody vouches for it here.
    let error = Publisher::connect(&Settings::new(&server.url())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Start(_)), "{error:?}");
}

/// What a publisher needs of a server where an administrator loaded the functions.
const RIGHTS: &str = "~sse:* ~sse.* &sse:* +fcall +info +ping +watch +unwatch +multi +exec +get +mget +set +pttl +expire +xadd \
                      +xrange +xrevrange +time +publish";

#[tokio::test]
async fn a_user_with_the_least_rights() {
    let server = RedisServer::start().await;
    // The administrator.
    connect(&server.url()).await;
    let user =
        [&["ACL", "SETUSER", "app", "on", ">hunter2", "resetchannels"][..], &RIGHTS.split(' ').collect::<Vec<_>>()];
    assert_eq!(server.cli(&user.concat()).await, "OK");
    let publisher = connect(&server.url().replace("127.0.0.1", "app:hunter2@127.0.0.1")).await;
    let _listener = Listener::new(&server, &["sse:a"]).await;
    let once = Event::text("x").once(Once::parse("k").unwrap());
    let outcomes = publisher
        .publish_batch(vec![
            (channel("a"), once),
            (channel("a"), Event::end()),
            (channel("a"), numbered(1).ephemeral()),
        ])
        .await;
    assert!(
        outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|receipt| receipt.receivers == 1)),
        "{outcomes:?}"
    );
    assert_eq!(publisher.check().await, Ok(()));

    // What it may not is told as that, and not as the functions' absence.
    server.cli(&["ACL", "SETUSER", "app", "-xadd"]).await;
    let error = publisher.publish(&channel("a"), Event::text("x")).await.unwrap_err();
    assert!(
        matches!(&error, PublishError::Rejected { reason } if reason.contains("can't run this command")),
        "{error:?}"
    );
    server.cli(&["ACL", "SETUSER", "app", "+xadd"]).await;
    // Functions that it cannot load again stay gone; it says so until somebody loads them.
    server.cli(&["FUNCTION", "FLUSH"]).await;
    let (reason, _) = unavailable(publisher.publish(&channel("a"), Event::text("x")).await);
    assert!(reason.starts_with("the functions are gone"), "{reason}");
    connect(&server.url()).await;
    publisher.publish(&channel("a"), Event::text("x")).await.unwrap();
}

/// The rules of a user, as the file of users has them.
fn manual(user: &str) -> String {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/redis-acl.conf");
    let manual = std::fs::read_to_string(manual).unwrap();
    let mut lines = manual.lines();
    lines.find_map(|line| line.strip_prefix(&format!("user {user} "))).unwrap().to_owned()
}

#[tokio::test]
async fn the_rights_of_the_manual_are_enough() {
    let server = RedisServer::start().await;
    connect(&server.url()).await;
    for user in ["sse-publisher", "back-end"] {
        let rules = manual(user);
        let command = [&["ACL", "SETUSER", user][..], &rules.split(' ').collect::<Vec<_>>()].concat();
        assert_eq!(server.cli(&command).await, "OK");
    }
    let url = server.url().replace("127.0.0.1", "sse-publisher:PUBLISHER-PASSWORD@127.0.0.1");
    let (publisher, a) = (connect(&url).await, channel("a"));
    publisher.publish(&a, Event::text("x")).await.unwrap();
    assert_eq!(publisher.history(&a, Position::ZERO, 9).await.unwrap().entries.len(), 1);
    assert_eq!(publisher.erase(&a).await, Ok(true));
    let (cancelled, other) = (publisher.cancelled(&a), publisher.cancelled(&channel("b")));
    tokio::pin!(cancelled, other);
    let subscribers = async |name: &str| server.cli(&["PUBSUB", "NUMSUB", name]).await;
    eventually("a subscription", async || {
        assert!(futures_util::poll!(&mut cancelled).is_pending() && futures_util::poll!(&mut other).is_pending());
        subscribers("sse.cancel:a").await.ends_with("\n1").then_some(())
    })
    .await;
    let cli = ["--user", "back-end", "--pass", "BACK-END-PASSWORD", "--no-auth-warning"];
    assert_eq!(server.cli(&[&cli[..], &["FCALL", "sse_cancel", "1", "sse:a"]].concat()).await, "1");
    soon("the end", &mut cancelled).await;
    publisher.cancel(&a).await.unwrap();
    // It may leave off too.
    eventually("no subscription", async || subscribers("sse.cancel:a").await.ends_with("\n0").then_some(())).await;
    assert!(subscribers("sse.cancel:b").await.ends_with("\n1"));
    assert_eq!(publisher.cancel(&channel("b")).await, Ok(1));
    soon("the other one", other).await;
}
