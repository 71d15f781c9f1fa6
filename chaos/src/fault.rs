//! The faults by name, and what each may do to the data. How they are done stands in `inflict`.

use std::fmt;
use std::str::FromStr;

use crate::store::Redis;

/// Something that goes wrong in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A gateway is killed by SIGKILL, and started again.
    GatewayKill,
    /// A gateway is told to stop by SIGTERM, and started again once it has ended.
    GatewayTerm,
    /// Redis is killed or stopped, and started again with all that it ever acknowledged.
    RestartDurable,
    /// Redis is killed, and started again empty.
    RestartEmpty,
    /// Redis is killed, and a replica that had not heard everything takes its place.
    FailoverLagging,
    /// The same, and the replica's clock is two hours behind.
    FailoverBehind,
    /// Sentinels or the nodes of a cluster are asked to put the replica in the place of the primary, which is well and does not know
    /// at once.
    FailoverAsked,
    /// Redis closes all Pub/Sub connections.
    PubsubKill,
    /// Redis stands still for seconds, connections open.
    RedisPause,
    /// A gateway does not read fast enough, and Redis closes its Pub/Sub connection.
    OutputBuffer,
    /// A gateway's link to Redis takes everything and delivers nothing; what was sent into it is lost.
    Blackhole,
    /// A gateway's connections to Redis are reset.
    Reset,
    /// Bytes between a gateway and Redis take 200-500 ms.
    Delay,
    /// The partition's clock is two hours ahead, as after the machine's own was set back.
    ClockAhead,
    /// FLUSHALL under live sessions.
    Flushall,
    /// A gateway's Pub/Sub connection stays open, and nothing arrives on it any more.
    Deaf,
    /// A slot with channels goes to another primary of the cluster step by step, while events are published on them.
    SlotMoved,
    /// Several slots with channels go to other primaries, one after the other.
    SlotsMoved,
    /// A primary that had none gets slots with channels.
    PrimaryAdded,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::GatewayKill,
        Self::GatewayTerm,
        Self::RestartDurable,
        Self::RestartEmpty,
        Self::FailoverLagging,
        Self::FailoverBehind,
        Self::FailoverAsked,
        Self::PubsubKill,
        Self::RedisPause,
        Self::OutputBuffer,
        Self::Blackhole,
        Self::Reset,
        Self::Delay,
        Self::ClockAhead,
        Self::Flushall,
        Self::Deaf,
        Self::SlotMoved,
        Self::SlotsMoved,
        Self::PrimaryAdded,
    ];

    /// What the command line and the table call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GatewayKill => "gateway-kill",
            Self::GatewayTerm => "gateway-term",
            Self::RestartDurable => "restart-durable",
            Self::RestartEmpty => "restart-empty",
            Self::FailoverLagging => "failover-lagging",
            Self::FailoverBehind => "failover-behind",
            Self::FailoverAsked => "failover-asked",
            Self::PubsubKill => "pubsub-kill",
            Self::RedisPause => "redis-pause",
            Self::OutputBuffer => "output-buffer",
            Self::Blackhole => "blackhole",
            Self::Reset => "reset",
            Self::Delay => "delay",
            Self::ClockAhead => "clock-ahead",
            Self::Flushall => "flushall",
            Self::Deaf => "deaf",
            Self::SlotMoved => "slot-moved",
            Self::SlotsMoved => "slots-moved",
            Self::PrimaryAdded => "primary-added",
        }
    }

    /// One line for the help.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::GatewayKill => "a gateway by SIGKILL, started again",
            Self::GatewayTerm => "a gateway by SIGTERM, started again",
            Self::RestartDurable => "Redis restarted, nothing lost (appendfsync always)",
            Self::RestartEmpty => "Redis restarted empty",
            Self::FailoverLagging => "Redis killed, a replica that lagged promoted",
            Self::FailoverBehind => "the same, its clock two hours behind",
            Self::FailoverAsked => "SENTINEL FAILOVER or CLUSTER FAILOVER, the primary being well",
            Self::PubsubKill => "CLIENT KILL TYPE pubsub",
            Self::RedisPause => "Redis by SIGSTOP for seconds",
            Self::OutputBuffer => "a gateway does not read: killed by the output limit",
            Self::Blackhole => "a gateway's link to Redis swallows everything",
            Self::Reset => "a gateway's connections to Redis reset",
            Self::Delay => "a gateway's link to Redis 200-500 ms late",
            Self::ClockAhead => "sse.clock two hours ahead",
            Self::Flushall => "FLUSHALL under live sessions",
            Self::Deaf => "a gateway's Pub/Sub connection carries nothing",
            Self::SlotMoved => "a slot to another primary, a few keys at a time",
            Self::SlotsMoved => "two to four slots to other primaries",
            Self::PrimaryAdded => "slots to a primary that had none",
        }
    }

    /// Whether a replica has to stand by.
    #[must_use]
    pub fn needs_replica(self) -> bool {
        matches!(self, Self::FailoverLagging | Self::FailoverBehind)
    }

    /// Whether it can be done to this.
    #[must_use]
    pub fn is_of(self, redis: Redis) -> bool {
        match self {
            Self::FailoverAsked => redis != Redis::Single,
            Self::SlotMoved | Self::SlotsMoved | Self::PrimaryAdded => redis == Redis::Cluster,
            _ => true,
        }
    }

    /// Whether a primary without slots has to stand by.
    #[must_use]
    pub fn needs_spare(self) -> bool {
        self == Self::PrimaryAdded
    }

    /// Whether everything acknowledged has to be on disk.
    #[must_use]
    pub fn needs_disk(self) -> bool {
        self == Self::RestartDurable
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("\"{text}\" is none of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_faults_are_inverse() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        let error = "earthquake".parse::<Fault>().unwrap_err();
        assert!(error.starts_with("\"earthquake\" is none of gateway-kill, "), "{error}");
    }
}
