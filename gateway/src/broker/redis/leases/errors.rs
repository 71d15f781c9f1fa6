//! What is answered to many calls at once, and what an error is about: one user's key, or the server.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, RedisError};
use shared::redis::LeaseReply;
use shared::redis::functions::is_missing;

/// Whether an error says something of the key of a call, such as that it is no sorted set. All others, such as that the server is
/// a replica now, hold for whatever is asked on this connection.
pub(super) fn is_about_one_key(error: &RedisError) -> bool {
    // Of the server, told by a script: before Redis 7 that has no code of its own, `ERR Error running script (...): -READONLY ...`.
    const OF_SERVER: [&str; 4] = ["READONLY", "MASTERDOWN", "LOADING", "MISCONF"];
    match error.code() {
        // The others are of a partition of a Cluster that is on its way to another server; one that has arrived there is left.
        Some("WRONGTYPE" | "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN") => true,
        Some("ERR") => {
            let detail = error.detail().unwrap_or_default();
            !is_missing(error) && !OF_SERVER.iter().any(|code| detail.contains(code))
        }
        _ => false,
    }
}

/// Why a connection ends that still works.
pub(super) fn left() -> RedisError {
    (::redis::ErrorKind::Io, "another server is named as the primary").into()
}

/// Each call has an answer of its own; an error is one of the connection.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    mut calls: Pipeline,
) -> Result<Vec<Result<LeaseReply, RedisError>>, RedisError> {
    calls.ignore_errors().query_async(connection).await
}

#[cfg(test)]
mod tests {
    use ::redis::{ErrorKind, ServerErrorKind};

    use super::*;

    #[test]
    fn what_is_about_one_key_and_what_about_the_server() {
        let server = |kind, detail: &str| RedisError::from((ErrorKind::Server(kind), "", detail.to_owned()));
        for (error, expected) in [
            (server(ServerErrorKind::ResponseError, "sse_lease: user has 300 bytes, the limit is 251"), true),
            (server(ServerErrorKind::ResponseError, "Error running script (call to f_1): WRONGTYPE Operation"), true),
            (server(ServerErrorKind::ResponseError, "Error running script (call to f_1): -READONLY You can't"), false),
            (
                server(ServerErrorKind::ResponseError, "Script attempted to access a non local key in a cluster node"),
                true,
            ),
            (server(ServerErrorKind::Ask, "1716 127.0.0.1:7001"), true),
            (server(ServerErrorKind::ReadOnly, "You can't write against a read only replica."), false),
            (server(ServerErrorKind::NoPerm, "no permission"), false),
            (server(ServerErrorKind::BusyLoading, "loading"), false),
            ((ErrorKind::Io, "broken pipe").into(), false),
        ] {
            assert_eq!(is_about_one_key(&error), expected, "{error:?}");
        }
    }
}
