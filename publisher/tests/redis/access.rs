//! Passwords, TLS, and a user who may do no more than a publisher has to.

use publisher::{ConnectError, Event, Once, PublishError, Publisher};
use shared::redis::{Settings, StartError};
use testkit::RedisServer;

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
