//! What the service does in Redis, by the commands that its user has to be allowed: for who asks before a start. The user
//! `sse-publisher` of `config/redis-acl.conf` may do just that, which a test holds.

use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::functions::PublishArgs;
use shared::redis::look::command;
use shared::redis::{Functions, Need};

/// Stands for any `once` key. Nothing is written under that name.
const SOMETHING: &str = "check";

/// All of it. `channel` stands for any that somebody publishes to, and is of the first partition, as what is of no channel is: on a
/// Redis Cluster one server is asked for all of this; `waits`: for replicas.
#[must_use]
pub(crate) fn needs(functions: &Functions, keys: &Keys, channel: &Channel, waits: bool) -> Vec<Need> {
    let (name, last, clock) = (keys.channel(channel), keys.last(channel), keys.clock(keys.partition(channel)));
    let (once, cancel) = (keys.once(channel, SOMETHING), keys.cancel(channel));
    let (control, renewals, revoked) = (keys.control(), keys.renewals(), keys.revoked());
    let (nodes, questions, answers) = (keys.nodes(), keys.questions(), keys.answers(SOMETHING));
    // Where names say their partition, messages go by sharded Pub/Sub.
    let is_sharded = keys.partitions() > 1;
    let (publish, count) = if is_sharded { ("SPUBLISH", "SHARDNUMSUB") } else { ("PUBLISH", "NUMSUB") };
    let commands = |words: &[String]| words.iter().map(|words| command(words)).collect::<Vec<_>>();

    let mut publishing = vec![functions.publish(&name, b"x", PublishArgs::default()), functions.clock(&clock, None)];
    publishing.extend(commands(&[
        "PING".to_owned(),
        "TIME".to_owned(),
        "INFO replication".to_owned(),
        format!("GET {clock}"),
        format!("MGET {clock} {last} {once}"),
        format!("PTTL {name}"),
        format!("XREVRANGE {name} + - COUNT 1"),
        format!("XADD {name} * d x"),
        format!("EXPIRE {name} 1"),
        format!("SET {last} x"),
        format!("SET {once} x EX 1"),
        format!("SET {clock} x"),
        format!("{publish} {name} x"),
    ]));
    publishing.extend(waits.then(|| command("WAIT 0 1")));
    let mut needs = vec![
        Need::essential("publishing", publishing),
        Need::useful(
            "batches",
            "their receipts do not say how many nodes heard them",
            commands(&[format!("PUBSUB {count} {name}")]),
        ),
        Need::useful(
            "histories",
            "the routes that read and erase them answer with an error",
            commands(&[
                format!("GET {last}"),
                format!("XRANGE {name} - + COUNT 1"),
                format!("XLEN {name}"),
                format!("UNLINK {name}"),
            ]),
        ),
        Need::useful("cancelling", "nobody is told to stop, and no answer ends before its time", {
            let mut cancelling = vec![functions.cancel(&name)];
            cancelling.extend(commands(&[
                format!("SET {cancel} x EX 1"),
                format!("{publish} {cancel} x"),
                format!("MGET {cancel}"),
            ]));
            cancelling
        }),
        Need::useful(
            "telling all nodes",
            "disconnects and revocations are answered with an error",
            commands(&[
                format!("XADD {control} MAXLEN ~ 1 * o x"),
                format!("EXPIRE {control} 1"),
                format!("ZADD {revoked} 0 x"),
                format!("ZCARD {revoked}"),
                format!("ZREMRANGEBYSCORE {revoked} -inf 0"),
            ]),
        ),
        Need::useful("who is there", "the routes that count connections and show nodes answer with an error", {
            let mut asking = vec![functions.nodes(&nodes)];
            asking.extend(commands(&[
                format!("HGETALL {nodes}"),
                format!("XADD {questions} MAXLEN ~ 1 * q x"),
                format!("EXPIRE {questions} 1"),
                format!("BLPOP {answers} 1"),
            ]));
            asking
        }),
        Need::useful(
            "hearing of revocations",
            "it takes tokens that were revoked",
            commands(&[
                format!("XREVRANGE {control} + - COUNT 1"),
                format!("XREVRANGE {renewals} + - COUNT 1"),
                format!("XREAD COUNT 1 STREAMS {control} {renewals} 0-0 0-0"),
                format!("ZRANGEBYSCORE {revoked} 0 +inf LIMIT 0 1"),
            ]),
        ),
    ];
    // Else they are looked for every second anyway.
    needs.extend((!is_sharded).then(|| {
        Need::useful(
            "hearing cancellations at once",
            "they are looked for every second instead",
            commands(&[format!("SUBSCRIBE {cancel}"), format!("UNSUBSCRIBE {cancel}")]),
        )
    }));
    needs
}
