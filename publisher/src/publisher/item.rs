//! One event on its way: the command that publishes it, what its answer says, and what became of it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Cmd, ParsingError, Value, from_redis_value};
use shared::channel::Channel;
use shared::cursor::{CursorPart, Tag};
use shared::keys::Keys;
use shared::redis::functions::PublishArgs;
use shared::redis::{Functions, PublishReply, message};

use crate::{MAX_TTL, Publication, PublishError, Receipt};

/// How long Redis keeps a key of the publisher's own, at least; see [`OwnKeys`].
const OWN_KEY_TTL: Duration = Duration::from_secs(60);
/// What a command has beside its payload and its names, roughly.
const AROUND_BYTES: usize = 128;

/// Idempotency keys for events that came without: numbers that nobody else counts.
///
/// They have to outlive a publish, with all its tries, and what a broken connection of it may still deliver: a kernel
/// gives that up after 10 s. Twice the deadline, and a minute at least, is enough; Redis takes 600 s at most.
pub(super) struct OwnKeys {
    base: u128,
    used: AtomicU64,
    ttl_s: u64,
}

impl OwnKeys {
    pub(super) fn new(deadline: Duration) -> Self {
        // The system's own randomness seeds it. Two publishers that counted alike would take each other's events for
        // their own repetitions.
        let random = RandomState::new();
        let base = u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1));
        Self { base, used: AtomicU64::new(0), ttl_s: OWN_KEY_TTL.max(deadline * 2).as_secs().min(600) }
    }

    fn next(&self) -> String {
        let number = u128::from(self.used.fetch_add(1, Ordering::Relaxed));
        format!("{:032x}", self.base.wrapping_add(number))
    }
}

/// See above.
pub(super) struct Item {
    /// The channel's name in Redis.
    key: String,
    /// Where there are several: that name says it, and messages go by sharded Pub/Sub.
    partition: Option<u16>,
    publication: Publication,
    /// An idempotency key of the publisher's own, and its seconds.
    own_key: Option<(String, u64)>,
    /// An earlier try of ours has published it, and was not the last one all the same.
    is_published: bool,
    /// Known once it is certain, or given up.
    pub(super) outcome: Option<Result<Receipt, PublishError>>,
}

impl Item {
    pub(super) fn new(channel: &Channel, publication: Publication, keys: &Keys, own_keys: &OwnKeys) -> Self {
        let outcome = refusal(channel, &publication).map(Err);
        let needs_key = !publication.ephemeral && publication.once.is_none();
        let own_key = needs_key.then(|| (own_keys.next(), own_keys.ttl_s));
        let (key, partition) = (keys.channel(channel), keys.cursor_partition(channel));
        Self { key, partition, publication, own_key, is_published: false, outcome }
    }

    /// Where it is published, its outcome is open again, and another try will find it published. Returns whether it is.
    pub(super) fn reopen(&mut self) -> bool {
        let Some(Ok(receipt)) = self.outcome.as_ref().filter(|_| self.is_durable()) else { return false };
        self.is_published |= !receipt.duplicate;
        self.outcome = None;
        true
    }

    pub(super) fn is_durable(&self) -> bool {
        !self.publication.ephemeral
    }

    /// The channel's name in Redis.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Bytes of its command, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.publication.payload.len() + self.key.len() + AROUND_BYTES
    }

    /// `waits`: a WAIT follows on the same connection.
    pub(super) fn command(&self, functions: &Functions, waits: bool) -> Cmd {
        let payload = &self.publication.payload;
        if self.publication.ephemeral {
            let mut publish = redis::cmd(if self.partition.is_some() { "SPUBLISH" } else { "PUBLISH" });
            publish.arg(&self.key).arg(&payload[..]);
            return publish;
        }
        let own_key = self.own_key.as_ref();
        let once = self.publication.once.as_ref().map(crate::Once::as_str);
        let args = PublishArgs {
            history: self.publication.history.map(std::num::NonZero::get),
            ttl_s: self.publication.ttl.map(whole_seconds),
            once: once.or(own_key.map(|(key, _)| key.as_str())),
            once_ttl_s: own_key.map(|(_, ttl_s)| *ttl_s),
            waits,
        };
        functions.publish(&self.key, payload, args)
    }

    /// Reads the answer to the command. `true` beside it: the event was published by an earlier try of ours, and who
    /// received it then is not known.
    pub(super) fn read(&self, answer: Value, partitions: u16) -> Result<(Receipt, bool), ParsingError> {
        if self.publication.ephemeral {
            let receivers = from_redis_value(answer)?;
            return Ok((Receipt { position: None, cursor: None, receivers, duplicate: false }, false));
        }
        let reply: PublishReply = from_redis_value(answer)?;
        let tag = Tag::of(&reply.epoch, partitions);
        let cursor = CursorPart { partition: self.partition, position: reply.position, tag };
        let ours = reply.duplicate && (self.own_key.is_some() || self.is_published);
        let receipt = Receipt {
            position: Some(reply.position),
            cursor: Some(cursor),
            receivers: reply.receivers,
            duplicate: reply.duplicate && !ours,
        };
        Ok((receipt, ours))
    }
}

/// Why it cannot be published at all.
fn refusal(channel: &Channel, publication: &Publication) -> Option<PublishError> {
    let refused = |field, reason: String| Some(PublishError::Refused { field, reason });
    if channel.is_reserved() {
        let reason = "channels beginning sse. are the cluster's own, nobody publishes to them";
        return refused("channel", reason.to_owned());
    }
    if publication.ttl.is_some_and(|ttl| ttl > MAX_TTL) {
        return refused("ttl", format!("ttl is more than {} s, the limit", MAX_TTL.as_secs()));
    }
    // Gateways would believe what it says of its position.
    if publication.ephemeral && message::parse(&publication.payload).is_some() {
        return refused("data", "the payload of an ephemeral event may not begin as a durable message does".to_owned());
    }
    None
}

/// Rounded up, at least 1.
fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(channel: &str, publication: Publication) -> Option<&'static str> {
        let own_keys = OwnKeys::new(Duration::from_secs(3));
        let channel = Channel::parse(channel).unwrap();
        match Item::new(&channel, publication, &Keys::default(), &own_keys).outcome {
            None => None,
            Some(Err(PublishError::Refused { field, .. })) => Some(field),
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_can_never_be_published() {
        let event = || Publication::new("x");
        let ttl = |ttl| Publication { ttl: Some(ttl), ..event() };
        assert_eq!(refused("a", event()), None);
        assert_eq!(refused("sse.control", event()), Some("channel"));
        assert_eq!(refused("a", ttl(MAX_TTL)), None);
        assert_eq!(refused("a", ttl(MAX_TTL + Duration::from_nanos(1))), Some("ttl"));
        let forged = || Publication::new(&b"\x1E12-3 0-0 abc\nforged"[..]);
        assert_eq!(refused("a", forged().ephemeral()), Some("data"));
        assert_eq!(refused("a", forged()), None, "a durable one is behind a head of its own");
        assert_eq!(refused("a", Publication::new(&b"\x1Eplain"[..]).ephemeral()), None);
    }

    #[test]
    fn seconds_are_never_shorter_than_asked_for() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([0, 1, 1_000, 1_001].map(seconds), [1, 1, 1, 2]);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn own_keys_are_each_used_once_and_outlive_the_deadline() {
        let own_keys = |deadline| OwnKeys::new(Duration::from_secs(deadline));
        let (one, other) = (own_keys(3), own_keys(60));
        let keys = std::collections::HashSet::from([one.next(), one.next(), other.next(), other.next()]);
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| key.len() == 32));
        assert_eq!((one.ttl_s, other.ttl_s, own_keys(10_000).ttl_s), (60, 120, 600));
    }
}
