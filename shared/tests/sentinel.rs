//! Which server Sentinels lead to, against real ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::time::Duration;

use shared::redis::{Client, Server, Settings, describe};
use testkit::{PATIENCE, Proxy, RedisServer, SENTINEL_NAME, Sentinels, eventually, soon};

fn client(url: &str) -> Client {
    Client::new(&Settings { connect_timeout: Duration::from_secs(1), ..Settings::new(url) }).unwrap()
}

fn url(sentinels: &[&RedisServer]) -> String {
    let places: Vec<_> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
    format!("redis+sentinel://{}/{SENTINEL_NAME}", places.join(","))
}

/// One that watches `server`, and by itself never does anything.
async fn sentinel(server: &RedisServer) -> RedisServer {
    let monitor = format!("sentinel monitor {SENTINEL_NAME} 127.0.0.1 {} 1", server.port());
    RedisServer::builder().sentinel().config(&monitor).start().await
}

/// Has it name another server.
async fn name(sentinel: &RedisServer, server: &RedisServer) {
    assert_eq!(sentinel.cli(&["SENTINEL", "REMOVE", SENTINEL_NAME]).await, "OK");
    let port = server.port().to_string();
    assert_eq!(sentinel.cli(&["SENTINEL", "MONITOR", SENTINEL_NAME, "127.0.0.1", &port, "1"]).await, "OK");
}

async fn port_of(server: &Server) -> u16 {
    let mut connection = server.connect().await.unwrap();
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("tcp_port:")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_server_is_left_when_another_one_is_named_though_it_still_answers() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    let sentinel = sentinel(&first).await;
    let client = client(&url(&[&sentinel]));
    let before = client.server().await.unwrap();
    assert_eq!((port_of(&before).await, before.is_left()), (first.port(), false));
    assert_eq!(before.address(), format!("redis://127.0.0.1:{}", first.port()));
    name(&sentinel, &second).await;
    soon("another server", before.left()).await;
    let now = client.server().await.unwrap();
    assert_eq!((port_of(&now).await, now.is_left(), before.is_left()), (second.port(), false, true));
    assert_eq!(port_of(&before).await, first.port(), "it still answers");
}

#[tokio::test]
async fn while_nobody_can_say_the_server_before_stays() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    let mut sentinel = sentinel(&first).await;
    let client = client(&url(&[&sentinel]));
    let server = client.server().await.unwrap();
    sentinel.pause().await;
    // Longer than the watch waits for an answer, and than the client for one of its own.
    let error = client.server().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(!server.is_left());
    sentinel.resume().await;
    name(&sentinel, &second).await;
    soon("another server", server.left()).await;
    sentinel.kill().await;
    let error = client.server().await.unwrap_err();
    assert!(error.is_io_error(), "{error}");
}

#[tokio::test]
async fn of_many_those_that_are_there_are_enough() {
    let server = RedisServer::start().await;
    let (answers, hangs) = (sentinel(&server).await, sentinel(&server).await);
    hangs.pause().await;
    // Accepts and says nothing; refuses.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = silent.local_addr().unwrap().port();
    let url = format!(
        "redis+sentinel://127.0.0.1:{refuses},127.0.0.1:{silent},127.0.0.1:{},127.0.0.1:{}/{SENTINEL_NAME}",
        hangs.port(),
        answers.port()
    );
    let client = client(&url);
    for _ in 0..3 {
        assert_eq!(port_of(&client.server().await.unwrap()).await, server.port());
    }
}

#[tokio::test]
async fn what_no_sentinel_knows_is_told() {
    let server = RedisServer::start().await;
    let sentinel = sentinel(&server).await;
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = client(&format!("redis+sentinel://127.0.0.1:{refuses},127.0.0.1:{}/other", sentinel.port()));
    // One that is not there may know it.
    let error = client.connect().await.unwrap_err();
    let expected = format!("Sentinel 127.0.0.1:{}: No such master with that name", sentinel.port());
    assert!(error.is_io_error() && error.to_string().contains(&expected), "{error}");
    // All say so.
    let all = Client::new(&Settings::new(&format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port()))).unwrap();
    let error = all.connect().await.unwrap_err();
    assert!(!error.is_io_error() && describe(&error).contains(&expected), "{error}");
}

#[tokio::test]
async fn a_replica_is_not_gone_to() {
    let primary = RedisServer::start().await;
    let replica = RedisServer::builder().config(&format!("replicaof 127.0.0.1 {}", primary.port())).start().await;
    let sentinel = sentinel(&replica).await;
    let client = client(&url(&[&sentinel]));
    // Which this Sentinel takes for a primary, as one does that has not heard yet.
    let server = client.server().await.unwrap();
    assert!(server.address().ends_with(&format!(":{}", replica.port())), "{}", server.address());
    let error = server.connect().await.unwrap_err();
    assert!(
        error.is_io_error() && describe(&error).contains("is named as the primary, is none"),
        "{error}: {}",
        describe(&error)
    );
}

/// The later failover counts, whoever answers first. The other Sentinel watches a server of its own, so nobody tells it better.
#[tokio::test]
async fn of_those_that_differ_the_one_with_the_later_failover_is_right() {
    let all = Sentinels::start().await;
    let before = all.primary().await;
    assert_eq!(all.sentinels[0].cli(&["SENTINEL", "FAILOVER", SENTINEL_NAME]).await, "OK");
    let now = format!(":{}", all.servers[all.fails_over(before).await].port());
    let former = RedisServer::start().await;
    let stale = sentinel(&former).await;
    let stale_first = client(&url(&[&stale, &all.sentinels[0]]));
    let stale_last = client(&url(&[&all.sentinels[0], &stale]));
    for client in [&stale_first, &stale_last] {
        assert!(client.server().await.unwrap().address().ends_with(&now));
    }
    // Where only that one is left, which is not most of them, the server stays; a new process knows no better.
    let mut all = all;
    all.sentinels[0].kill().await;
    assert!(stale_first.server().await.unwrap().address().ends_with(&now));
    let new = client(&url(&[&stale, &all.sentinels[0]]));
    assert!(new.server().await.unwrap().address().ends_with(&format!(":{}", former.port())));
}

/// One that is too slow for the first question is heard all the same, by the next ones.
#[tokio::test]
async fn a_slow_one_that_knows_better_is_heard() {
    let all = Sentinels::start().await;
    let before = all.primary().await;
    assert_eq!(all.sentinels[0].cli(&["SENTINEL", "FAILOVER", SENTINEL_NAME]).await, "OK");
    let now = format!(":{}", all.servers[all.fails_over(before).await].port());
    let former = RedisServer::start().await;
    let stale = sentinel(&former).await;
    // There and back in 160 ms, and three times that for a connection.
    let slow = Proxy::to(all.sentinels[0].port()).await;
    slow.delay(Duration::from_millis(80));
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/{SENTINEL_NAME}", stale.port(), slow.port());
    let client = client(&url);
    eventually("the server that the slow one names", async || {
        client.server().await.unwrap().address().ends_with(&now).then_some(())
    })
    .await;
}

#[tokio::test]
async fn by_tls_and_with_passwords() {
    let users = Sentinels::builder().tls().servers("user me on >secret ~* &* +@all");
    let all = users.sentinels("user asker on >hush +sentinel +auth +client").start().await;
    let with = |user: &str, password: Option<&str>| {
        let settings = Settings {
            ca_file: Some(all.servers[0].ca_file().to_owned()),
            sentinel_user: password.map(|_| "asker".to_owned()),
            sentinel_password: password.map(str::to_owned),
            connect_timeout: PATIENCE,
            ..Settings::new(&all.url_as(user))
        };
        assert_eq!((settings.check(), settings.check_files()), (vec![], vec![]));
        Client::new(&settings).unwrap()
    };
    let mut connection = with("me:secret@", Some("hush")).connect().await.unwrap();
    let user: String = redis::cmd("ACL").arg("WHOAMI").query_async(&mut connection).await.unwrap();
    assert_eq!(user, "me");
    for (user, password) in [("me:wrong@", Some("hush")), ("me:secret@", Some("wrong"))] {
        let error = describe(&with(user, password).connect().await.unwrap_err());
        assert!(error.contains("user or password is wrong, or the server has none"), "{user} {password:?}: {error}");
        assert_eq!(error.contains("see redis.sentinel_user and redis.sentinel_password"), password == Some("wrong"));
    }
}
