//! What a node does in Redis, by the commands that its user has to be allowed: for who asks before a start. The user
//! `sse-gateway` of `config/redis-acl.conf` may do just that, which a test holds.

use std::time::Duration;

use ::redis::Cmd;
use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::look::command;
use shared::redis::{Functions, Need};

/// Stands for any node, user and ticket. Nothing is written under that name.
const SOMEBODY: &str = "check";

/// What of it depends on settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Tokens are asked for.
    pub tokens: bool,
    /// Users' streams are counted over all nodes.
    pub leases: bool,
    /// Users' coming and going is told.
    pub presence: bool,
}

/// All of it. `channel` stands for any that somebody reads.
#[must_use]
pub fn needs(functions: &Functions, keys: &Keys, channel: &Channel, asked: Asked) -> Vec<Need> {
    let partition = keys.partition(channel);
    let (name, last, clock) = (keys.channel(channel), keys.last(channel), keys.clock(partition));
    let (node, user, ticket) = (keys.node(partition, SOMEBODY), keys.user(SOMEBODY), keys.ticket(SOMEBODY));
    let (control, renewals, revoked) = (keys.control(), keys.renewals(), keys.revoked());
    let questions = keys.questions();
    let commands = |words: &[String]| words.iter().map(|words| command(words)).collect::<Vec<_>>();
    // Of several partitions, Pub/Sub is sharded.
    let s = if keys.partitions() > 1 { "S" } else { "" };

    let mut session = vec![functions.clock(&clock, Some(SOMEBODY))];
    session.extend(commands(&[
        format!("GET {clock}"),
        format!("SET {clock} x"),
        "TIME".to_owned(),
        "INFO replication".to_owned(),
        format!("{s}PUBLISH {node} x"),
        format!("{s}SUBSCRIBE {node}"),
        format!("{s}UNSUBSCRIBE {node}"),
    ]));
    let mut needs = vec![Need::essential("a session", session)];
    needs.push(Need::useful(
        "reading channels",
        "streams on channels that its user may not read are told to come back, again and again",
        commands(&[format!("MGET {last}"), format!("{s}SUBSCRIBE {name}"), format!("{s}UNSUBSCRIBE {name}")]),
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
            format!("XREVRANGE {questions} + - COUNT 1"),
            format!("XREAD COUNT 1 STREAMS {control} {renewals} {questions} 0-0 0-0 0-0"),
            format!("ZRANGEBYSCORE {revoked} 0 +inf LIMIT 0 1"),
        ]),
    ));
    needs.push(Need::useful(
        "saying that it is there, and how many streams it has",
        "`GET /nodes` does not show it, and counts over all nodes are without its streams",
        census(functions, keys),
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
    if asked.presence {
        needs.push(Need::useful("presence", "nobody is told who comes and goes", presence(functions, keys)));
    }
    needs
}

fn census(functions: &Functions, keys: &Keys) -> Vec<Cmd> {
    let (nodes, answers) = (keys.nodes(), keys.answers(SOMEBODY));
    let mut census = vec![functions.beat(&nodes, Duration::from_secs(1), SOMEBODY, "x"), functions.nodes(&nodes)];
    let commands = [
        format!("HGETALL {nodes}"),
        format!("HSET {nodes} x x"),
        format!("HDEL {nodes} x"),
        format!("HLEN {nodes}"),
        format!("HEXISTS {nodes} x"),
        format!("PTTL {nodes}"),
        format!("PEXPIRE {nodes} 1"),
        format!("RPUSH {answers} x"),
        format!("EXPIRE {answers} 1"),
    ];
    census.extend(commands.iter().map(|words| command(words)));
    census
}

/// What `sse_presence` and `sse_absent` do: they publish on the user's channel of presence.
fn presence(functions: &Functions, keys: &Keys) -> Vec<Cmd> {
    let Ok(channel) = Channel::presence(SOMEBODY) else { return Vec::new() };
    let partition = keys.partition(&channel);
    let s = if keys.partitions() > 1 { "S" } else { "" };
    let (name, last, once) = (keys.channel(&channel), keys.last(&channel), keys.once(&channel, SOMEBODY));
    let (clock, leaving, present) = (keys.clock(partition), keys.leaving(partition), keys.present(partition, SOMEBODY));
    let mut presence = vec![
        functions.presence(&name, Duration::ZERO, Duration::ZERO, &[SOMEBODY.to_owned()]),
        functions.absent(&leaving, Duration::ZERO, 1),
    ];
    let commands = [
        format!("MGET {clock} {last} {once}"),
        format!("GET {clock}"),
        format!("SET {clock} x"),
        format!("SET {last} x"),
        format!("SET {once} x EX 1"),
        format!("PTTL {name}"),
        format!("EXPIRE {name} 1"),
        format!("XADD {name} * d x"),
        format!("XREVRANGE {name} + - COUNT 1"),
        format!("{s}PUBLISH {name} x"),
        format!("ZADD {present} 0 x"),
        format!("ZREM {present} x"),
        format!("ZCARD {present}"),
        format!("ZREVRANGE {present} 0 0"),
        format!("ZREMRANGEBYSCORE {present} -inf 0"),
        format!("PTTL {present}"),
        format!("PEXPIRE {present} 1"),
        format!("ZADD {leaving} 0 x"),
        format!("ZREM {leaving} x"),
        format!("ZSCORE {leaving} x"),
        format!("ZRANGEBYSCORE {leaving} -inf 0 LIMIT 0 1"),
    ];
    presence.extend(commands.iter().map(|words| command(words)));
    presence
}
