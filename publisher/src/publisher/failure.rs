//! What an error of Redis means: what the caller is told, whether the connection is still good, whether another try may
//! help.

use std::time::Duration;

use redis::{ErrorKind, RedisError};
use shared::redis::{describe, first_error, functions};

use crate::PublishError;

/// When to come back to a server that is away: it restarts, or another takes its place.
const AWAY_RETRY_AFTER: Duration = Duration::from_secs(2);
/// When to come back to a server that is full: history expires slowly.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);
const FULL: &str = "Redis is out of memory (maxmemory)";

/// Replies by which a server says that it does nothing at the moment.
const NOT_NOW: [&str; 6] = ["LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "BUSY"];
/// Of these, the ones of a server that is not the primary, or no longer: its name may lead to another by now.
const NOT_HERE: [&str; 2] = ["READONLY", "MASTERDOWN"];

/// Replies of a Cluster's server that does nothing for want of the slot, or of some of its keys, which are on their way to another
/// server. ASK is not followed: the other server would carry the command out, and SPUBLISH there before any gateway listens to
/// it. Whoever asks again until the slot has moved as a whole publishes to where they are told to go.
const MOVING: [&str; 4] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"];
/// The same of a function whose own key is there while one that it reads is not (Redis 7, Valkey). Ours read before they write.
const NOT_LOCAL: &str = "Script attempted to access a non local key in a cluster node";

/// One failed call.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What the caller is told when it stays so.
    pub(super) error: PublishError,
    /// Another try may do better. Says nothing of whether it is safe.
    pub(super) may_pass: bool,
    /// The connection is not to be used again.
    pub(super) breaks_link: bool,
    /// The server is not the primary, or no longer: other connections to it are no better.
    pub(super) is_elsewhere: bool,
    /// The server has the partition no longer. It may have others, so its connections are as good as before.
    pub(super) is_moved: bool,
    /// A Cluster is about to have the partition elsewhere, or has nobody for it at the moment. Nothing was done, nor heard by anybody.
    pub(super) is_undone: bool,
    /// The functions are gone from the server; nothing was done.
    pub(super) no_functions: bool,
}

impl Failure {
    pub(super) fn of(error: &RedisError) -> Self {
        // Of a transaction, as by loading the functions, what is wrong stands within.
        let error = &first_error(error);
        let reason = describe(error);
        if functions::is_missing(error) {
            let reason = "the functions are gone from Redis, and are being loaded again".to_owned();
            return Self { no_functions: true, ..Self::away(reason) };
        }
        if says(error, "OOM") {
            let error = PublishError::Unavailable { reason: FULL.to_owned(), retry_after: FULL_RETRY_AFTER };
            return Self { may_pass: false, ..Self::with(error) };
        }
        let refuses_more = error.detail().is_some_and(|detail| detail.contains("max number of clients reached"));
        if error.is_io_error() || refuses_more {
            return Self { breaks_link: true, ..Self::away(reason) };
        }
        if NOT_NOW.iter().any(|code| says(error, code)) {
            let is_elsewhere = NOT_HERE.iter().any(|code| says(error, code));
            return Self { breaks_link: is_elsewhere, is_elsewhere, ..Self::away(reason) };
        }
        let is_not_local = error.detail().is_some_and(|detail| detail.starts_with(NOT_LOCAL));
        if is_not_local || MOVING.iter().any(|code| says(error, code)) {
            let is_moved = says(error, "MOVED");
            return Self { is_moved, is_undone: true, ..Self::away(moving(error, reason)) };
        }
        // What cannot be parsed leaves a connection on which nobody knows which answer is whose.
        let breaks_link = error.kind() == ErrorKind::Parse;
        Self { may_pass: false, breaks_link, ..Self::with(PublishError::Rejected { reason }) }
    }

    /// Nothing came within the deadline.
    pub(super) fn late() -> Self {
        Self { breaks_link: true, ..Self::away("no answer within the deadline".to_owned()) }
    }

    /// For want of a server.
    pub(super) fn away(reason: String) -> Self {
        Self::with(PublishError::Unavailable { reason, retry_after: AWAY_RETRY_AFTER })
    }

    fn with(error: PublishError) -> Self {
        Self {
            error,
            may_pass: true,
            breaks_link: false,
            is_elsewhere: false,
            is_moved: false,
            is_undone: false,
            no_functions: false,
        }
    }

    /// What went wrong alone, for a person.
    pub(super) fn into_reason(self) -> String {
        match self.error {
            PublishError::Unavailable { reason, .. }
            | PublishError::Refused { reason, .. }
            | PublishError::Rejected { reason } => reason,
        }
    }
}

/// For a place where an outcome has to be, and is not.
pub(super) fn no_outcome() -> PublishError {
    Failure::away("the event was not answered".to_owned()).error
}

/// In a few words for people, who need not know which key was where.
fn moving(error: &RedisError, reason: String) -> String {
    if says(error, "CLUSTERDOWN") {
        return reason;
    }
    format!("the partition is on its way from one server of the Redis Cluster to another ({reason})")
}

/// Whether the server's error is of this code. An old server puts that of a command within a script into the text:
/// `ERR Error running script ... -OOM command not allowed ...`.
fn says(error: &RedisError, code: &str) -> bool {
    if error.code() == Some(code) {
        return true;
    }
    let within =
        |detail: &str| detail.starts_with("Error running script") && detail.split(['-', ' ']).any(|word| word == code);
    error.detail().is_some_and(within)
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::parse_redis_value;

    use super::*;

    fn of(reply: &str) -> Failure {
        let value = parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        Failure::of(&value.extract_error().unwrap_err())
    }

    fn told(failure: &Failure) -> (String, Option<u64>) {
        match &failure.error {
            PublishError::Unavailable { reason, retry_after } => (reason.clone(), Some(retry_after.as_secs())),
            PublishError::Rejected { reason } => (reason.clone(), None),
            PublishError::Refused { .. } => panic!("{failure:?}"),
        }
    }

    #[test]
    fn servers_that_are_away_are_worth_another_try() {
        for (reply, breaks_link) in [
            ("LOADING Redis is loading the dataset in memory", false),
            ("READONLY You can't write against a read only replica.", true),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", true),
            ("NOREPLICAS Not enough good replicas to write.", false),
            ("BUSY Redis is busy running a script.", false),
            ("MISCONF Redis is configured to save RDB snapshots", false),
            ("ERR max number of clients reached", true),
            ("ERR Error running script (call to f_1): @user_script:7: -READONLY You can't write against a read", true),
        ] {
            let failure = of(reply);
            assert!(failure.may_pass && !failure.no_functions, "{failure:?}");
            assert_eq!((told(&failure).1, failure.breaks_link), (Some(2), breaks_link), "{reply}");
        }
        let broken = Failure::of(&io::Error::from(io::ErrorKind::BrokenPipe).into());
        assert!(broken.may_pass && broken.breaks_link);
        assert_eq!(told(&broken), ("the connection was closed".to_owned(), Some(2)));
    }

    #[test]
    fn a_partition_that_moves_is_waited_for() {
        for (reply, is_moved) in [
            ("MOVED 1584 127.0.0.1:7901", true),
            ("ASK 1584 127.0.0.1:7902", false),
            ("TRYAGAIN Multiple keys request during rehashing of slot", false),
            ("CLUSTERDOWN The cluster is down", false),
            ("CLUSTERDOWN Hash slot not served", false),
            // Redis 7.0.15, and Valkey 8 without the place.
            (
                "ERR Script attempted to access a non local key in a cluster node script: sse_publish, on @user_function:489.",
                false,
            ),
            ("ERR Script attempted to access a non local key in a cluster node", false),
        ] {
            let failure = of(reply);
            assert!(failure.may_pass && failure.is_undone && told(&failure).1 == Some(2), "{failure:?}");
            assert!(!failure.breaks_link && !failure.is_elsewhere, "others are still there: {failure:?}");
            assert_eq!(failure.is_moved, is_moved, "{reply}");
        }
        assert!(!of("LOADING Redis is loading the dataset in memory").is_undone);
    }

    #[test]
    fn a_full_server_is_not_asked_again_at_once() {
        for reply in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: sse_publish, on @user_function:12.",
            "ERR Error running script (call to f_1): @user_script:7: -OOM command not allowed when used memory",
        ] {
            let failure = of(reply);
            assert_eq!(told(&failure), (FULL.to_owned(), Some(30)), "{reply}");
            assert!(!failure.may_pass && !failure.breaks_link);
        }
    }

    #[test]
    fn missing_functions() {
        for reply in ["ERR Function not found", "NOSCRIPT No matching script. Please use EVAL."] {
            let failure = of(reply);
            assert!(failure.no_functions && failure.may_pass && !failure.breaks_link, "{failure:?}");
        }
    }

    #[test]
    fn anything_else_stays_so() {
        for (reply, reason) in [
            ("WRONGTYPE Operation against a key", "WRONGTYPE Operation against a key"),
            ("NOPERM this user has no permissions", "NOPERM this user has no permissions"),
            ("ERR sse_publish: payload is missing", "sse_publish: payload is missing"),
            ("ERR say OOM or READONLY or BUSY", "say OOM or READONLY or BUSY"),
        ] {
            let failure = of(reply);
            assert_eq!(told(&failure), (reason.to_owned(), None), "{reply}");
            assert!(!failure.may_pass && !failure.breaks_link && !failure.no_functions, "{failure:?}");
        }
    }
}
