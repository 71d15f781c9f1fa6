//! Who loads the library, and over what.

use redis::aio::MultiplexedConnection;
use shared::keys::Keys;
use shared::redis::functions;
use shared::redis::{ClockReply, Functions, PublishReply, Settings};
use testkit::RedisServer;
use tokio::task::JoinSet;

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    shared::redis::Client::new(&Settings::new(&server.url())).unwrap().connect().await.unwrap()
}

async fn load(server: &RedisServer) -> Functions {
    Functions::load(&mut connect(server).await, &Keys::default()).await.unwrap()
}

/// The library's text as the server has it.
async fn loaded(server: &RedisServer) -> String {
    server.cli(&["FUNCTION", "LIST", "LIBRARYNAME", "sse", "WITHCODE"]).await
}

/// A library that works, with a version that a replacement is to be judged by.
async fn put(server: &RedisServer, version: &str) {
    let text = format!("#!lua name=sse\n{version}\nredis.register_function('sse_other', function() return 1 end)\n");
    assert_eq!(server.cli(&["FUNCTION", "LOAD", "REPLACE", &text]).await, "sse");
}

#[tokio::test]
async fn what_is_absent_or_older_is_replaced() {
    let server = RedisServer::start().await;
    let functions = load(&server).await;
    assert!(loaded(&server).await.contains("sse_publish"));
    for older in ["-- version 0", "-- no version", "-- version x"] {
        put(&server, older).await;
        assert!(!loaded(&server).await.contains("sse_publish"));
        assert_eq!(load(&server).await, functions);
        assert!(loaded(&server).await.contains("sse_publish"), "{older}");
        assert!(!loaded(&server).await.contains("sse_other"), "{older}");
    }
}

#[tokio::test]
async fn what_is_newer_stays() {
    let server = RedisServer::start().await;
    put(&server, "-- version 999999").await;
    let before = loaded(&server).await;
    load(&server).await;
    assert_eq!(loaded(&server).await, before);
    // Of the same version too: nothing is gained by loading it again.
    put(&server, functions::TEXT.lines().nth(1).unwrap()).await;
    let before = loaded(&server).await;
    load(&server).await;
    assert_eq!(loaded(&server).await, before);
}

#[tokio::test]
async fn many_loaders_at_once_agree() {
    let server = std::sync::Arc::new(RedisServer::start().await);
    let mut loaders = JoinSet::new();
    for _ in 0..20 {
        let server = server.clone();
        loaders.spawn(async move { load(&server).await });
    }
    let all = loaders.join_all().await;
    assert!(all.iter().all(|functions| *functions == all[0]));
    let clock = all[0].clock("sse.clock", None);
    clock.query_async::<ClockReply>(&mut connect(&server).await).await.unwrap();
}

#[tokio::test]
async fn where_functions_are_not_to_be_had_the_text_runs_as_a_script() {
    // As Redis 6.2 answers.
    let server = RedisServer::builder().config("rename-command FUNCTION \"\"").start().await;
    let functions = load(&server).await;
    let mut connection = connect(&server).await;
    let publish = functions.publish("sse:a", b"x", functions::PublishArgs::default());
    let reply: PublishReply = publish.query_async(&mut connection).await.unwrap();
    let clock: ClockReply = functions.clock("sse.clock", None).query_async(&mut connection).await.unwrap();
    assert_eq!((reply.position, reply.epoch, reply.duplicate), (clock.position, clock.epoch, false));

    server.cli(&["SCRIPT", "FLUSH"]).await;
    let error = publish.query_async::<PublishReply>(&mut connection).await.unwrap_err();
    assert!(functions::is_missing(&error), "{error}");
}

#[tokio::test]
async fn functions_that_are_gone_are_told_from_other_errors() {
    let server = RedisServer::start().await;
    let functions = load(&server).await;
    let mut connection = connect(&server).await;
    server.cli(&["FUNCTION", "FLUSH"]).await;
    let clock = functions.clock("sse.clock", None);
    let error = clock.query_async::<ClockReply>(&mut connection).await.unwrap_err();
    assert!(functions::is_missing(&error), "{error}");
    let mut several = redis::pipe();
    several.atomic().add_command(clock).cmd("PING");
    let error = several.query_async::<(ClockReply, String)>(&mut connection).await.unwrap_err();
    assert!(functions::is_missing(&error), "{error}");
    let error = redis::cmd("NONSENSE").exec_async(&mut connection).await.unwrap_err();
    assert!(!functions::is_missing(&error), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_load_relies_on_an_administrator() {
    let server = RedisServer::start().await;
    load(&server).await;
    server.cli(&["ACL", "SETUSER", "gw", "on", ">pw", "~*", "&*", "+@all", "-function"]).await;
    let url = server.url().replace("redis://", "redis://gw:pw@");
    let client = shared::redis::Client::new(&Settings::new(&url)).unwrap();
    let mut connection = client.connect().await.unwrap();
    let functions = Functions::load(&mut connection, &Keys::default()).await.unwrap();
    functions.clock("sse.clock", None).query_async::<ClockReply>(&mut connection).await.unwrap();
}
