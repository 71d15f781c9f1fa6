//! What a node does in Redis, by the commands that its user has to be allowed: for who asks before a start. The user
//! `sse-gateway` of `config/redis-acl.conf` may do just that, which a test holds.

use std::time::Duration;

use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::look::command;
use shared::redis::{Functions, Need};

use super::PARTITION;

/// Stands for any node, user and ticket. Nothing is written under that name.
const SOMEBODY: &str = "check";

/// What of it depends on settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Tokens are asked for.
    pub tokens: bool,
    /// Users' streams are counted over all nodes.
    pub leases: bool,
}

/// All of it. `channel` stands for any that somebody reads.
#[must_use]
pub fn needs(functions: &Functions, keys: &Keys, channel: &Channel, asked: Asked) -> Vec<Need> {
    let (name, last, clock) = (keys.channel(channel), keys.last(channel), keys.clock(PARTITION));
    let (node, user, ticket) = (keys.node(PARTITION, SOMEBODY), keys.user(SOMEBODY), keys.ticket(SOMEBODY));
    let (control, renewals, revoked) = (keys.control(), keys.renewals(), keys.revoked());
    let commands = |words: &[String]| words.iter().map(|words| command(words)).collect::<Vec<_>>();

    let mut session = vec![functions.clock(&clock, Some(SOMEBODY))];
    session.extend(commands(&[
        format!("GET {clock}"),
        format!("SET {clock} x"),
        "TIME".to_owned(),
        "INFO replication".to_owned(),
        format!("PUBLISH {node} x"),
        format!("SUBSCRIBE {node}"),
        format!("UNSUBSCRIBE {node}"),
    ]));
    let mut needs = vec![Need::essential("a session", session)];
    needs.push(Need::useful(
        "reading channels",
        "streams on channels that its user may not read are told to come back, again and again",
        commands(&[format!("MGET {last}"), format!("SUBSCRIBE {name}"), format!("UNSUBSCRIBE {name}")]),
    ));
    needs.push(Need::useful(
        "reading histories",
        "streams that come back are told of a gap",
        commands(&[format!("XREVRANGE {name} + - COUNT 1")]),
    ));
    needs.push(Need::useful(
        "hearing what all nodes are told",
        "it does not disconnect whom it is told to, and takes tokens that were revoked",
        commands(&[
            format!("XREVRANGE {control} + - COUNT 1"),
            format!("XREVRANGE {renewals} + - COUNT 1"),
            format!("XREAD COUNT 1 STREAMS {control} {renewals} 0-0 0-0"),
            format!("ZRANGEBYSCORE {revoked} 0 +inf LIMIT 0 1"),
        ]),
    ));
    if asked.tokens {
        needs.push(Need::useful(
            "tickets and renewals",
            "they are answered with an error",
            commands(&[
                format!("SET {ticket} x PX 1"),
                format!("GETDEL {ticket}"),
                format!("XADD {renewals} MAXLEN ~ 1 * o x"),
                format!("EXPIRE {renewals} 1"),
            ]),
        ));
    }
    if asked.leases {
        let mut leases = vec![functions.lease(&user, Duration::ZERO, None, &[SOMEBODY.to_owned()])];
        leases.extend(commands(&[
            "PING".to_owned(),
            format!("ZADD {user} 0 x"),
            format!("ZREM {user} x"),
            format!("ZCARD {user}"),
            format!("ZSCORE {user} x"),
            format!("ZREMRANGEBYSCORE {user} -inf 0"),
            format!("PTTL {user}"),
            format!("PEXPIRE {user} 1"),
        ]));
        needs.push(Need::useful(
            "limits.max_connections_per_user",
            "each node counts a user's streams by itself",
            leases,
        ));
    }
    needs
}
