//! The functions that publish, tell the time, cancel and count connections, as one text: [`TEXT`], `sse.lua`.
//!
//! Redis 7 and Valkey hold it as function library `sse` (FCALL). Where functions are not to be had (Redis 6.2), the same
//! text without its first line runs as a script (EVALSHA), the function's name before its arguments.
//!
//! Its contract, arguments and answers stand at the head of the text.

mod replies;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, ServerErrorKind, Value};

pub use self::replies::{ClockReply, LeaseReply, NodesReply, PublishReply};
use super::client::first_error;
use crate::keys::Keys;
use crate::position::Epoch;

/// The library.
pub const TEXT: &str = include_str!("sse.lua");
/// Name of the library.
pub const LIBRARY: &str = "sse";

const PUBLISH: &str = "sse_publish";
const CLOCK: &str = "sse_clock";
const CANCEL: &str = "sse_cancel";
const LEASE: &str = "sse_lease";
const NODES: &str = "sse_nodes";
const PRESENCE: &str = "sse_presence";
const ABSENT: &str = "sse_absent";

/// Line of the text that says its version.
const VERSION_LINE: &str = "-- version ";
/// Who loads a library watches a key, so that of two loaders at once the older text cannot be the later one. It lives for
/// so many seconds.
const WATCH_TTL_S: u32 = 60;
/// Has the form of a script's name, and is none.
const UNKNOWN_SHA: &str = "0000000000000000000000000000000000000000";
/// How often another loader may come in between.
const MAX_TRIES: u32 = 5;

/// How the functions are called on one server. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Functions {
    mode: Mode,
    /// A failover or restart alone is no other life of the data.
    trusting: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Library,
    Script { sha: Arc<str> },
}

/// Arguments of `sse_publish`; `None` leaves the default to the text.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishArgs<'a> {
    /// Entries that the history keeps.
    pub history: Option<u32>,
    /// Seconds that the history lives.
    pub ttl_s: Option<u64>,
    /// Idempotency key.
    pub once: Option<&'a str>,
    /// Seconds that the idempotency key lives.
    pub once_ttl_s: Option<u64>,
    /// A WAIT follows on the same connection: a repetition writes too.
    pub waits: bool,
}

impl Functions {
    /// Finds out how to call the functions, and loads them where they are absent or older. A newer text stays.
    ///
    /// Wants a connection that nobody else uses, to the server that has the first partition: it watches a key meanwhile.
    ///
    /// # Errors
    /// Those of the connection and of the server. A user who may neither list nor load libraries is taken to have an
    /// administrator who did.
    pub async fn load(connection: &mut MultiplexedConnection, keys: &Keys) -> Result<Self, RedisError> {
        Self::load_for(connection, keys, 0).await
    }

    /// The same on the server that has `partition`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn load_for(
        connection: &mut MultiplexedConnection,
        keys: &Keys,
        partition: u16,
    ) -> Result<Self, RedisError> {
        let Some(ours) = version(TEXT) else {
            return Err((redis::ErrorKind::Client, "the library's text has no version").into());
        };
        for _ in 0..MAX_TRIES {
            redis::cmd("WATCH").arg(keys.functions(partition)).exec_async(connection).await?;
            let theirs = match library_version(connection).await {
                Err(error) if is_unknown_command(&error) => return Self::load_script(connection).await,
                Err(error) if is_not_permitted(&error) => return Ok(Self::by(Mode::Library)),
                other => other?,
            };
            if theirs >= Some(ours) {
                redis::cmd("UNWATCH").exec_async(connection).await?;
                return Ok(Self::by(Mode::Library));
            }
            if load_library(connection, keys, partition, ours).await? {
                return Ok(Self::by(Mode::Library));
            }
        }
        Err((redis::ErrorKind::Client, "others load the function library all the time").into())
    }

    async fn load_script(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        redis::cmd("UNWATCH").exec_async(connection).await?;
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(script()).query_async(connection).await?;
        Ok(Self::by(Mode::Script { sha: sha.into() }))
    }

    fn by(mode: Mode) -> Self {
        Self { mode, trusting: false }
    }

    /// Whether the data are taken to have survived a failover or a restart: [`clock`](Self::clock) keeps the epoch then.
    #[must_use]
    pub fn trusting(self, trusting: bool) -> Self {
        Self { trusting, ..self }
    }

    /// Publishes `payload` on the channel whose name in Redis is `key`; answered by a [`PublishReply`].
    #[must_use]
    pub fn publish(&self, key: &str, payload: &[u8], args: PublishArgs<'_>) -> Cmd {
        let mut cmd = self.call(PUBLISH, key);
        cmd.arg(payload);
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        cmd.arg(number(args.history.map(u64::from))).arg(number(args.ttl_s)).arg(args.once.unwrap_or_default());
        // Asks for the long answer.
        cmd.arg("1").arg(number(args.once_ttl_s));
        if args.waits {
            cmd.arg("1");
        }
        cmd
    }

    /// Reads the clock, raised or begun anew where that is due; answered by a [`ClockReply`]. With a `node` it is
    /// published on that node's own channel too.
    #[must_use]
    pub fn clock(&self, key: &str, node: Option<&str>) -> Cmd {
        let mut cmd = self.call(CLOCK, key);
        match (node, self.trusting) {
            (node, true) => _ = cmd.arg(node.unwrap_or_default()).arg("1"),
            (Some(node), false) => _ = cmd.arg(node),
            (None, false) => {}
        }
        cmd
    }

    /// The same where the data may have been lost in the life `doubted`, though the server cannot tell: if that is the present one, another
    /// begins.
    #[must_use]
    pub fn clock_doubting(&self, key: &str, doubted: &Epoch) -> Cmd {
        let mut cmd = self.call(CLOCK, key);
        cmd.arg("").arg("").arg(doubted.as_str());
        cmd
    }

    /// Cancels the producer of the channel whose name in Redis is `key`; answered by the number of those who heard it at
    /// once.
    #[must_use]
    pub fn cancel(&self, key: &str) -> Cmd {
        self.call(CANCEL, key)
    }

    /// Takes or renews leases of the user whose name in Redis is `key`, for `time`: all of them or, where the user had more
    /// than `limit` then, none. Zero gives them back. Answered by a [`LeaseReply`].
    #[must_use]
    pub fn lease(&self, key: &str, time: Duration, limit: Option<usize>, leases: &[String]) -> Cmd {
        let mut cmd = self.call(LEASE, key);
        cmd.arg(milliseconds(time));
        cmd.arg(limit.map(|limit| limit.to_string()).unwrap_or_default()).arg(leases);
        cmd
    }

    /// How they are called on a server that has functions, or on one that has not; whether they are there is not known.
    pub(super) fn unseen(library: bool) -> Self {
        Self::by(if library { Mode::Library } else { Mode::Script { sha: UNKNOWN_SHA.into() } })
    }

    /// Takes or renews leases of the user whose presence is told on the channel whose name in Redis is `key`, for `time`; zero gives them
    /// back. Who has none for `grace` is offline. Answered by a [`LeaseReply`].
    #[must_use]
    pub fn presence(&self, key: &str, time: Duration, grace: Duration, leases: &[String]) -> Cmd {
        let mut cmd = self.call(PRESENCE, key);
        cmd.arg(milliseconds(time)).arg(milliseconds(grace)).arg(leases);
        cmd
    }

    /// Looks at up to `limit` (1 to 1,000) of those who may be offline, in the sorted set `key`; answered by how many there were.
    #[must_use]
    pub fn absent(&self, key: &str, grace: Duration, limit: u32) -> Cmd {
        let mut cmd = self.call(ABSENT, key);
        cmd.arg(milliseconds(grace)).arg(limit);
        cmd
    }

    /// Keeps what the node whose present life is `incarnation` says of itself for `time`, in the hash that `key` names; an empty text no
    /// longer. Answered by the number of nodes that are kept.
    #[must_use]
    pub fn beat(&self, key: &str, time: Duration, incarnation: &str, text: &str) -> Cmd {
        let mut cmd = self.call(NODES, key);
        cmd.arg(milliseconds(time)).arg(incarnation).arg(text);
        cmd
    }

    /// Tells which nodes are there; answered by a [`NodesReply`].
    #[must_use]
    pub fn nodes(&self, key: &str) -> Cmd {
        self.call(NODES, key)
    }

    fn call(&self, function: &str, key: &str) -> Cmd {
        match &self.mode {
            Mode::Library => {
                let mut cmd = redis::cmd("FCALL");
                cmd.arg(function).arg(1).arg(key);
                cmd
            }
            Mode::Script { sha } => {
                let mut cmd = redis::cmd("EVALSHA");
                cmd.arg(&**sha).arg(1).arg(key).arg(function);
                cmd
            }
        }
    }
}

/// Whether a call failed because the functions are gone from the server, as after a restart or a flush, or are older ones, which take
/// fewer arguments: load them again.
/// Nothing of such a call was done.
#[must_use]
pub fn is_missing(error: &RedisError) -> bool {
    let error = first_error(error);
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
        || error.detail().is_some_and(|detail| {
            // Another server took this one's place, and knows no functions, or those of an older version.
            detail.starts_with("Function not found")
                || (is_unknown_command(&error) && detail.contains("FCALL"))
                || (detail.starts_with("sse_") && detail.contains(": arguments are "))
        })
}

/// The text as a script: a shebang that names a library is refused there.
pub(super) fn script() -> &'static str {
    TEXT.split_once('\n').map_or("", |(_, script)| script)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The version of [`TEXT`].
pub(super) fn our_version() -> u64 {
    version(TEXT).unwrap_or(0)
}

/// That of the library that the server has; `None`: it has none.
pub(super) async fn library_version(connection: &mut MultiplexedConnection) -> Result<Option<u64>, RedisError> {
    let mut list = redis::cmd("FUNCTION");
    list.arg("LIST").arg("LIBRARYNAME").arg(LIBRARY).arg("WITHCODE");
    let libraries: Vec<Value> = list.query_async(connection).await?;
    // One library of that name at most; its code is one of the texts in the answer, whose form differs by protocol.
    let mut texts = Vec::new();
    libraries.iter().for_each(|library| collect_texts(library, &mut texts));
    let code = texts.into_iter().find(|text| text.starts_with("#!"));
    // One that does not say its version is older than any that does.
    Ok(code.map(|code| version(&code).unwrap_or(0)))
}

fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::VerbatimString { text, .. } => texts.push(text.clone()),
        Value::Array(items) | Value::Set(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, item)| collect_texts(item, texts)),
        _ => {}
    }
}

/// `false`: another loader came in between.
async fn load_library(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    partition: u16,
    version: u64,
) -> Result<bool, RedisError> {
    let mut load = redis::pipe();
    load.atomic().cmd("SET").arg(keys.functions(partition)).arg(version).arg("EX").arg(WATCH_TTL_S);
    load.cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(TEXT);
    let answer: Value = load.query_async(connection).await?;
    Ok(answer != Value::Nil)
}

fn version(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(VERSION_LINE))?.trim().parse().ok()
}

pub(super) fn is_unknown_command(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

fn is_not_permitted(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoPerm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_its_name_and_version() {
        assert!(TEXT.starts_with("#!lua name=sse\n-- version "));
        assert!(version(TEXT).is_some_and(|version| version >= 1));
        assert!(script().starts_with("-- version "));
    }

    #[test]
    fn commands() {
        let args = PublishArgs { history: Some(5), once: Some("k"), ..PublishArgs::default() };
        let packed = |cmd: Cmd| String::from_utf8(cmd.get_packed_command()).unwrap().replace("\r\n", " ");
        assert_eq!(
            packed(Functions::by(Mode::Library).publish("sse:a", b"x", args)),
            "*10 $5 FCALL $11 sse_publish $1 1 $5 sse:a $1 x $1 5 $0  $1 k $1 1 $0  "
        );
        let script = Functions::by(Mode::Script { sha: "abc".into() });
        assert_eq!(
            packed(script.clock("sse.clock", Some("n"))),
            "*6 $7 EVALSHA $3 abc $1 1 $9 sse.clock $9 sse_clock $1 n "
        );
        let lease =
            Functions::by(Mode::Library).lease("sse.user:a", Duration::from_secs(2), Some(3), &["n/0".to_owned()]);
        assert_eq!(packed(lease), "*7 $5 FCALL $9 sse_lease $1 1 $10 sse.user:a $4 2000 $1 3 $3 n/0 ");
        let presence = Functions::by(Mode::Library).presence(
            "sse:presence:a",
            Duration::from_secs(2),
            Duration::from_secs(1),
            &["n/0".to_owned()],
        );
        assert_eq!(packed(presence), "*7 $5 FCALL $12 sse_presence $1 1 $14 sse:presence:a $4 2000 $4 1000 $3 n/0 ");
        let absent = Functions::by(Mode::Library).absent("sse.leaving", Duration::from_secs(1), 7);
        assert_eq!(packed(absent), "*6 $5 FCALL $10 sse_absent $1 1 $11 sse.leaving $4 1000 $1 7 ");
        let beat = Functions::by(Mode::Library).beat("sse.nodes", Duration::from_secs(10), "9a", "{}");
        assert_eq!(packed(beat), "*7 $5 FCALL $9 sse_nodes $1 1 $9 sse.nodes $5 10000 $2 9a $2 {} ");
        assert_eq!(
            packed(Functions::by(Mode::Library).nodes("sse.nodes")),
            "*4 $5 FCALL $9 sse_nodes $1 1 $9 sse.nodes "
        );
        assert_eq!(packed(Functions::by(Mode::Library).cancel("sse:a")), "*4 $5 FCALL $10 sse_cancel $1 1 $5 sse:a ");
    }
}
