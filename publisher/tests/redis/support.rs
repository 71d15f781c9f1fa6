//! Publishers, what Redis holds afterwards, and who listens meanwhile.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use publisher::{Event, PublishError, Publisher, Receipt};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue as _, PushInfo, PushKind, Value};
use shared::channel::Channel;
use shared::redis::{Client, Settings};
use testkit::{RedisServer, soon};
use tokio::sync::mpsc;

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

pub(crate) fn numbered(number: usize) -> Event {
    Event::json(&number).unwrap()
}

/// The same, and the history keeps all of them.
pub(crate) fn kept(number: usize) -> Event {
    numbered(number).history(NonZeroU32::MAX)
}

/// The payload of [`numbered`].
pub(crate) fn payload(number: usize) -> String {
    format!(r#"{{"data":{number}}}"#)
}

pub(crate) async fn connect(url: &str) -> Publisher {
    Publisher::connect(&Settings::new(url)).await.unwrap()
}

/// With a deadline of so many milliseconds.
pub(crate) async fn connect_with_deadline(url: &str, ms: u64) -> Publisher {
    let settings = Settings { command_timeout: Duration::from_millis(ms), ..Settings::new(url) };
    Publisher::connect(&settings).await.unwrap()
}

/// Why it is not available, and the seconds after which to try again.
pub(crate) fn unavailable(outcome: Result<Receipt, PublishError>) -> (String, u64) {
    match outcome {
        Err(PublishError::Unavailable { reason, retry_after }) => (reason, retry_after.as_secs()),
        other => panic!("{other:?}"),
    }
}

/// A channel's history, `(position, payload)`, by its name in Redis.
pub(crate) async fn history(server: &RedisServer, key: &str) -> Vec<(String, String)> {
    let mut connection = Client::new(&Settings::new(&server.url())).unwrap().connect().await.unwrap();
    let entries: Vec<(String, HashMap<String, String>)> =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(&mut connection).await.unwrap();
    entries.into_iter().map(|(position, mut fields)| (position, fields.remove("d").unwrap())).collect()
}

/// The payloads of [`history`].
pub(crate) async fn payloads(server: &RedisServer, key: &str) -> Vec<String> {
    history(server, key).await.into_iter().map(|(_, payload)| payload).collect()
}

/// Positions as the receipts tell them.
pub(crate) fn positions(outcomes: &[Result<Receipt, PublishError>]) -> Vec<String> {
    outcomes.iter().map(|outcome| outcome.as_ref().unwrap().position.unwrap().to_string()).collect()
}

/// Somebody who listens, as a gateway does.
pub(crate) struct Listener {
    messages: mpsc::Receiver<(String, Vec<u8>)>,
    /// By which messages come here.
    publish: &'static str,
    _connection: MultiplexedConnection,
}

impl Listener {
    /// To the channels with these names in Redis.
    pub(crate) async fn new(server: &RedisServer, keys: &[&str]) -> Self {
        Self::by("SUBSCRIBE", "PUBLISH", server, keys).await
    }

    /// The same by sharded Pub/Sub; on a cluster's server, of one slot.
    pub(crate) async fn sharded(server: &RedisServer, keys: &[&str]) -> Self {
        Self::by("SSUBSCRIBE", "SPUBLISH", server, keys).await
    }

    async fn by(subscribe: &str, publish: &'static str, server: &RedisServer, keys: &[&str]) -> Self {
        let (sender, messages) = mpsc::channel(10_000);
        let push = move |push: PushInfo| {
            if matches!(push.kind, PushKind::Message | PushKind::SMessage) {
                let [channel, message] = <[Value; 2]>::try_from(push.data).unwrap();
                let channel = String::from_redis_value(channel).unwrap();
                let message = Vec::<u8>::from_redis_value(message).unwrap();
                sender.try_send((channel, message)).unwrap();
            }
            Ok::<_, std::io::Error>(())
        };
        let client = Client::new(&Settings::new(&server.url())).unwrap();
        let mut connection = client.connect_with_push(push).await.unwrap();
        redis::cmd(subscribe).arg(keys).exec_async(&mut connection).await.unwrap();
        Self { messages, publish, _connection: connection }
    }

    /// The next message: the channel's name in Redis, and its bytes.
    pub(crate) async fn next(&mut self) -> (String, Vec<u8>) {
        soon("a message", self.messages.recv()).await.unwrap()
    }

    /// All messages so far, less the heads of durable ones. Asks the server to send one more, and stops there.
    pub(crate) async fn all(&mut self, server: &RedisServer, key: &str) -> Vec<String> {
        server.cli(&[self.publish, key, "that is all"]).await;
        let mut all = Vec::new();
        loop {
            let (_, message) = self.next().await;
            let head = shared::redis::message::parse(&message).map_or(0, |(_, payload)| payload);
            match String::from_utf8(message[head..].to_vec()).unwrap() {
                last if last == "that is all" => return all,
                message => all.push(message),
            }
        }
    }
}
