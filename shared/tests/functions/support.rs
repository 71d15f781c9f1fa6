//! Where the text runs, how it is called, and what a subscriber hears.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, PushInfo, PushKind, RedisResult, Value};
use shared::position::Position;
use testkit::{RedisServer, RedisServerBuilder, soon};
use tokio::sync::mpsc;

const TEXT: &str = include_str!("../../src/redis/sse.lua");
/// Messages of one test; no test publishes more to those who listen.
const QUEUE: usize = 1_000;

/// Milliseconds of a year.
pub const YEAR_MS: u64 = 31_536_000_000;

/// A server that holds the text, and a connection to it.
pub struct Place {
    pub server: RedisServer,
    redis: MultiplexedConnection,
    heard: mpsc::Receiver<PushInfo>,
    /// Of the script; None where the text is a library.
    sha: Option<String>,
}

/// Runs a test in every place, each of them empty.
pub async fn everywhere(test: impl AsyncFn(&mut Place)) {
    everywhere_with(|server| server, test).await;
}

/// The same with servers that are not as the defaults have it.
pub async fn everywhere_with(
    configure: impl Fn(RedisServerBuilder) -> RedisServerBuilder,
    test: impl AsyncFn(&mut Place),
) {
    println!("as a library of Redis");
    let mut place = Place::open(configure(RedisServer::builder()).start().await).await;
    place.load_library().await;
    test(&mut place).await;
    println!("as a script of Redis");
    let mut place = Place::open(configure(RedisServer::builder()).start().await).await;
    place.load_script().await;
    test(&mut place).await;
    println!("as a library of Valkey");
    let mut place = Place::open(configure(RedisServer::builder().valkey()).start().await).await;
    place.load_library().await;
    test(&mut place).await;
}

impl Place {
    async fn open(server: RedisServer) -> Self {
        let (sender, heard) = mpsc::channel(QUEUE);
        let config = AsyncConnectionConfig::new().set_push_sender(move |push| sender.try_send(push));
        // Its own half a second is too short for a busy machine; we have more patience.
        let config = config.set_response_timeout(None).set_connection_timeout(None);
        let client = redis::Client::open(format!("{}/?protocol=resp3", server.url())).unwrap();
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let redis = soon("a connection", connecting).await.unwrap();
        Self { server, redis, heard, sha: None }
    }

    async fn load_library(&mut self) {
        let name: String = self.ask(&["FUNCTION", "LOAD", "REPLACE", TEXT]).await;
        assert_eq!(name, "sse");
    }

    async fn load_script(&mut self) {
        let (_, script) = TEXT.split_once('\n').unwrap();
        self.sha = Some(self.ask(&["SCRIPT", "LOAD", script]).await);
    }

    pub fn is_script(&self) -> bool {
        self.sha.is_some()
    }

    /// A call of one of the functions.
    pub fn call<K: AsRef<[u8]>, A: AsRef<[u8]>>(&self, function: &str, keys: &[K], args: &[A]) -> Cmd {
        let mut cmd = redis::cmd(if self.sha.is_some() { "EVALSHA" } else { "FCALL" });
        cmd.arg(self.sha.as_deref().unwrap_or(function)).arg(keys.len());
        for key in keys {
            cmd.arg(key.as_ref());
        }
        if self.sha.is_some() {
            cmd.arg(function);
        }
        for arg in args {
            cmd.arg(arg.as_ref());
        }
        cmd
    }

    pub async fn run<T: FromRedisValue>(&mut self, cmd: &Cmd) -> RedisResult<T> {
        soon("an answer", cmd.query_async(&mut self.redis)).await
    }

    /// The commands in one go; their answers.
    pub async fn run_all(&mut self, cmds: &[Cmd]) -> Vec<Value> {
        let mut pipe = redis::pipe();
        for cmd in cmds {
            pipe.add_command(cmd.clone());
        }
        soon("the answers of a pipeline", pipe.query_async(&mut self.redis)).await.unwrap()
    }

    /// The answer to a plain command.
    pub async fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        self.run(&cmd).await.unwrap()
    }

    /// Publishes with arguments as they are: payload, history and so on. Position and receivers.
    pub async fn publish(&mut self, key: &str, args: &[&str]) -> (Position, u64) {
        let cmd = self.call("sse_publish", &[key], args);
        let (position, receivers): (String, u64) = self.run(&cmd).await.unwrap();
        (position.parse().unwrap(), receivers)
    }

    /// Position, epoch and TIME in ms.
    pub async fn clock(&mut self, key: &str) -> (Position, String, u64) {
        let cmd = self.call::<_, &str>("sse_clock", &[key], &[]);
        let (position, epoch, time): (String, String, u64) = self.run(&cmd).await.unwrap();
        (position.parse().unwrap(), epoch, time)
    }

    /// What the server answers to a call that it refuses, word by word.
    pub async fn refusal<K: AsRef<[u8]>, A: AsRef<[u8]>>(&mut self, function: &str, keys: &[K], args: &[A]) -> String {
        let cmd = self.call(function, keys, args);
        let error = self.run::<Value>(&cmd).await.unwrap_err();
        format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default())
    }

    /// Listens by `SUBSCRIBE` or `SSUBSCRIBE`.
    pub async fn listen(&mut self, command: &str, name: &str) {
        self.ask::<Value>(&[command, name]).await;
    }

    /// The next message that a subscriber hears: how it came, on which channel, and its bytes.
    pub async fn heard(&mut self) -> (PushKind, String, Vec<u8>) {
        loop {
            let push = soon("a message", self.heard.recv()).await.expect("the connection is open");
            if matches!(push.kind, PushKind::Message | PushKind::SMessage) {
                let (name, message) = redis::from_redis_value(Value::Array(push.data)).unwrap();
                return (push.kind, name, message);
            }
        }
    }

    /// Whether nobody heard anything on a channel since the last message that was asked for.
    pub async fn nothing_was_heard(&mut self, name: &str) {
        self.ask::<Value>(&["PUBLISH", name, "nothing before this"]).await;
        assert_eq!(self.heard().await.2.escape_ascii().to_string(), "nothing before this");
    }

    /// TIME in ms.
    pub async fn time(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) = self.ask(&["TIME"]).await;
        seconds * 1_000 + micros / 1_000
    }

    /// Names the data's present life.
    pub async fn replid(&mut self) -> String {
        let info: String = self.ask(&["INFO", "replication"]).await;
        info.lines().find_map(|line| line.strip_prefix("master_replid:")).unwrap().to_owned()
    }

    /// The text of a stored key; None where there is none.
    pub async fn stored(&mut self, key: &str) -> Option<String> {
        self.ask(&["GET", key]).await
    }

    /// A stream's entries: id, and its fields as they are written.
    pub async fn entries(&mut self, key: &str) -> Vec<(String, Vec<(String, Vec<u8>)>)> {
        self.ask(&["XRANGE", key, "-", "+"]).await
    }
}
