//! Names in Redis, and the partition each channel belongs to.
//!
//! With one partition a channel `user:42` is `sse:user:42`: Pub/Sub channel and history stream alike, so both fall in one
//! slot. With more, names carry the partition as a hash tag, `sse:{7}:user:42`, so that everything a partition needs
//! lives in one slot. The cluster's own keys have a dot after the prefix: `sse.clock`; those that belong to no partition are
//! in the first one, `sse.{0}.control`.

use std::fmt::Write as _;

use crate::channel::Channel;

/// Prefix where none is set.
pub const DEFAULT_PREFIX: &str = "sse";
/// Longest prefix, in bytes.
pub const MAX_PREFIX_BYTES: usize = 32;
/// Hash slots of a Redis Cluster.
pub const SLOTS: u16 = 16_384;
/// Most partitions. Beyond some thousand several of them share a slot.
pub const MAX_PARTITIONS: u16 = SLOTS;

/// What a user's own channel begins with.
const USER_CHANNEL: &str = "user:";

/// CRC16 as Redis Cluster computes it (XMODEM: polynomial 0x1021, no reflection, initial value 0).
const CRC16: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// Builds names for one prefix and one number of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
    partitions: u16,
}

/// A setting that cannot make names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Not `[A-Za-z0-9_-]{1,32}`.
    #[error("a key prefix is 1 to {MAX_PREFIX_BYTES} of A-Z a-z 0-9 _ -")]
    Prefix,
    /// None, or more than [`MAX_PARTITIONS`].
    #[error("the number of partitions is 1 to {MAX_PARTITIONS}")]
    Partitions,
}

impl Default for Keys {
    fn default() -> Self {
        Self { prefix: DEFAULT_PREFIX.to_owned(), partitions: 1 }
    }
}

impl Keys {
    /// Checks both settings.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn new(prefix: &str, partitions: u16) -> Result<Self, KeysError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if !(1..=MAX_PREFIX_BYTES).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
            return Err(KeysError::Prefix);
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(KeysError::Partitions);
        }
        Ok(Self { prefix: prefix.to_owned(), partitions })
    }

    /// Number of partitions, at least 1.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The channel's partition: CRC16 of its name modulo the number of partitions.
    #[must_use]
    pub fn partition(&self, channel: &Channel) -> u16 {
        CRC16.checksum(channel.as_str().as_bytes()) % self.partitions
    }

    /// The channel's partition as cursors name it: not where there is only one.
    #[must_use]
    pub fn cursor_partition(&self, channel: &Channel) -> Option<u16> {
        (self.partitions > 1).then(|| self.partition(channel))
    }

    /// Pub/Sub channel and history stream: `sse:user:42`, `sse:{7}:user:42`.
    #[must_use]
    pub fn channel(&self, channel: &Channel) -> String {
        let mut key = self.prefix.clone();
        if self.partitions > 1 {
            // Writing to a String cannot fail.
            let _ = write!(key, ":{{{}}}", self.partition(channel));
        }
        key + ":" + channel.as_str()
    }

    /// The partition's clock: `sse.clock`, `sse.{7}.clock`.
    #[must_use]
    pub fn clock(&self, partition: u16) -> String {
        self.internal(partition, "clock")
    }

    /// Last position of a channel: `sse.last:user:42`.
    #[must_use]
    pub fn last(&self, channel: &Channel) -> String {
        self.of_channel("last", channel)
    }

    /// Position of the event that was published with the idempotency key `once`: `sse.once:user:42:<once>`.
    ///
    /// A colon of `once` is written `%3A` and a percent sign `%25`: else `42:x` on channel `user` and `x` on `user:42` were
    /// one key, and the second event was lost as a duplicate.
    #[must_use]
    pub fn once(&self, channel: &Channel, once: &str) -> String {
        self.of_channel("once", channel) + ":" + &once.replace('%', "%25").replace(':', "%3A")
    }

    /// Cancellation of a channel's producer: `sse.cancel:user:42`, key and Pub/Sub channel.
    #[must_use]
    pub fn cancel(&self, channel: &Channel) -> String {
        self.of_channel("cancel", channel)
    }

    /// The Pub/Sub channel on which a node hears itself: `sse.node:<node>`, `sse.{7}.node:<node>`.
    #[must_use]
    pub fn node(&self, partition: u16, node: &str) -> String {
        self.internal(partition, "node:") + node
    }

    /// A user's leases, one for each connection on any node: `sse.user:42`. In the partition of the user's own channel.
    #[must_use]
    pub fn user(&self, id: &str) -> String {
        self.internal(self.partition_of_user(id), "user:") + id
    }

    /// The partition of a user's own channel, also where the user's name is too long for one.
    #[must_use]
    pub fn partition_of_user(&self, id: &str) -> u16 {
        let mut digest = CRC16.digest();
        digest.update(USER_CHANNEL.as_bytes());
        digest.update(id.as_bytes());
        digest.finalize() % self.partitions
    }

    /// The stream of orders to all nodes: `sse.control`. See [`order`](crate::order).
    #[must_use]
    pub fn control(&self) -> String {
        self.home("control")
    }

    /// The stream of renewals, which are many, and of no use to a node that was away: `sse.renewals`.
    #[must_use]
    pub fn renewals(&self) -> String {
        self.home("renewals")
    }

    /// The sorted set of tokens that are good no longer: `sse.revoked`. See [`order`](crate::order).
    #[must_use]
    pub fn revoked(&self) -> String {
        self.home("revoked")
    }

    /// The users who are online, of those whose presence is told in this partition: `sse.leaving`, `sse.{7}.leaving`.
    #[must_use]
    pub fn leaving(&self, partition: u16) -> String {
        self.internal(partition, "leaving")
    }

    /// The leases of a user whose presence is told in this partition: `sse.present:42`, `sse.{7}.present:42`.
    #[must_use]
    pub fn present(&self, partition: u16, id: &str) -> String {
        self.internal(partition, "present:") + id
    }

    /// The hash of nodes that are there: `sse.nodes`. See [`census`](crate::census).
    #[must_use]
    pub fn nodes(&self) -> String {
        self.home("nodes")
    }

    /// The stream of questions to all nodes: `sse.questions`. See [`census`](crate::census).
    #[must_use]
    pub fn questions(&self) -> String {
        self.home("questions")
    }

    /// The list of answers to a question: `sse.answers:<id>`.
    #[must_use]
    pub fn answers(&self, id: &str) -> String {
        self.home("answers:") + id
    }

    /// What a ticket stands for, by the digest of the ticket: `sse.ticket:<digest>`.
    #[must_use]
    pub fn ticket(&self, digest: &str) -> String {
        self.home("ticket:") + digest
    }

    /// Who loads the function library into the server of a partition watches this key meanwhile: `sse.functions`,
    /// `sse.{7}.functions`.
    #[must_use]
    pub fn functions(&self, partition: u16) -> String {
        self.internal(partition, "functions")
    }

    /// How many partitions there are, for those who might think otherwise: `sse.{0}.partitions`, wherever that is looked for.
    #[must_use]
    pub fn agreed(&self) -> String {
        format!("{}.{{0}}.partitions", self.prefix)
    }

    /// The partition that a name says it is of, be it one of a channel or one of the cluster's own.
    #[must_use]
    pub fn partition_of(&self, name: &[u8]) -> Option<u16> {
        if self.partitions == 1 {
            return Some(0);
        }
        let rest = name.strip_prefix(self.prefix.as_bytes())?;
        let tag = rest.strip_prefix(b":{").or_else(|| rest.strip_prefix(b".{"))?;
        let digits = tag.get(..tag.iter().position(|byte| *byte == b'}')?)?;
        let partition = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (partition < self.partitions).then_some(partition)
    }

    /// The hash slot of a Redis Cluster in which everything of a partition lies.
    #[must_use]
    pub fn slot(partition: u16) -> u16 {
        CRC16.checksum(partition.to_string().as_bytes()) % SLOTS
    }

    /// What is of no channel lies in the first partition, all of it: a single call can read several of these.
    fn home(&self, name: &str) -> String {
        self.internal(0, name)
    }

    fn of_channel(&self, kind: &str, channel: &Channel) -> String {
        self.internal(self.partition(channel), kind) + ":" + channel.as_str()
    }

    fn internal(&self, partition: u16, name: &str) -> String {
        if self.partitions == 1 {
            format!("{}.{name}", self.prefix)
        } else {
            format!("{}.{{{partition}}}.{name}", self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn crc16_is_that_of_redis() {
        // From the Redis Cluster specification, and CLUSTER KEYSLOT foo, bar.
        assert_eq!(CRC16.checksum(b"123456789"), 0x31C3);
        assert_eq!(CRC16.checksum(b"foo") % MAX_PARTITIONS, 12182);
        assert_eq!(CRC16.checksum(b"bar") % MAX_PARTITIONS, 5061);
    }

    #[test]
    fn one_partition() {
        let (keys, user) = (Keys::default(), channel("user:42"));
        assert_eq!(keys.channel(&user), "sse:user:42");
        assert_eq!(keys.clock(0), "sse.clock");
        assert_eq!(keys.last(&user), "sse.last:user:42");
        assert_eq!(keys.once(&user, "k1"), "sse.once:user:42:k1");
        assert_eq!(keys.once(&user, "a:b%"), "sse.once:user:42:a%3Ab%25");
        assert_eq!(keys.cancel(&user), "sse.cancel:user:42");
        assert_eq!(keys.node(0, "n1"), "sse.node:n1");
        assert_eq!(keys.user("42"), "sse.user:42");
        assert_eq!(keys.control(), "sse.control");
        assert_eq!((keys.nodes(), keys.questions()), ("sse.nodes".to_owned(), "sse.questions".to_owned()));
        assert_eq!(keys.answers("00ff"), "sse.answers:00ff");
        assert_eq!(keys.leaving(0), "sse.leaving");
    }

    #[test]
    fn several_partitions_carry_a_hash_tag() {
        let (keys, user) = (Keys::new("app", 16).unwrap(), channel("user:42"));
        let p = keys.partition(&user);
        assert_eq!(keys.channel(&user), format!("app:{{{p}}}:user:42"));
        assert_eq!(keys.clock(7), "app.{7}.clock");
        assert_eq!(keys.last(&user), format!("app.{{{p}}}.last:user:42"));
        assert_eq!(keys.once(&user, "k1"), format!("app.{{{p}}}.once:user:42:k1"));
        assert_eq!(keys.user("42"), format!("app.{{{p}}}.user:42"), "where the user's channel is");
        assert_eq!(keys.node(7, "n1"), "app.{7}.node:n1");
        assert_eq!(keys.control(), "app.{0}.control");
        assert_eq!(
            (keys.answers("00ff"), keys.ticket("ff")),
            ("app.{0}.answers:00ff".into(), "app.{0}.ticket:ff".into())
        );
        assert_eq!(keys.functions(7), "app.{7}.functions");
    }

    #[test]
    fn names_tell_their_partition() {
        let keys = Keys::new("app", 16).unwrap();
        for (name, partition) in [
            (keys.channel(&channel("user:42")), Some(keys.partition(&channel("user:42")))),
            (keys.node(7, "n1"), Some(7)),
            (keys.control(), Some(0)),
            ("app:{16}:a".to_owned(), None),
            ("app:{x}:a".to_owned(), None),
            ("app:{1".to_owned(), None),
            ("app:a".to_owned(), None),
            ("other:{1}:a".to_owned(), None),
        ] {
            assert_eq!(keys.partition_of(name.as_bytes()), partition, "{name}");
        }
        assert_eq!(Keys::default().partition_of(b"sse:a"), Some(0));
    }

    #[test]
    fn slots_are_those_of_redis() {
        // CLUSTER KEYSLOT sse:{0}:a, sse.{7}.clock, sse:{16383}:a.
        assert_eq!([0, 7, 16_383].map(Keys::slot), [13_907, 1_716, 15_158]);
    }

    #[test]
    fn settings_are_checked() {
        for prefix in ["", "a b", "a:b", "a.b", "{a}", &"x".repeat(33)] {
            assert_eq!(Keys::new(prefix, 1), Err(KeysError::Prefix), "{prefix:?}");
        }
        assert!(Keys::new(&"x".repeat(32), 1).is_ok());
        assert_eq!(Keys::new("sse", 0), Err(KeysError::Partitions));
        assert_eq!(Keys::new("sse", 16_385), Err(KeysError::Partitions));
    }
}
