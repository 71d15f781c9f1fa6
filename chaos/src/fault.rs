//! The faults by name, and what each may do to the data. How they are done stands in `inflict`.

use std::fmt;
use std::str::FromStr;

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
    /// Sentinels are asked to put the replica in the place of the primary, which is well and does not know at once.
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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
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
            Self::FailoverAsked => "SENTINEL FAILOVER, the primary being well",
            Self::PubsubKill => "CLIENT KILL TYPE pubsub",
            Self::RedisPause => "Redis by SIGSTOP for seconds",
            Self::OutputBuffer => "a gateway does not read: killed by the output limit",
            Self::Blackhole => "a gateway's link to Redis swallows everything",
            Self::Reset => "a gateway's connections to Redis reset",
            Self::Delay => "a gateway's link to Redis 200-500 ms late",
            Self::ClockAhead => "sse.clock two hours ahead",
            Self::Flushall => "FLUSHALL under live sessions",
            Self::Deaf => "a gateway's Pub/Sub connection carries nothing",
        }
    }

    /// Whether a replica has to stand by.
    #[must_use]
    pub fn needs_replica(self) -> bool {
        matches!(self, Self::FailoverLagging | Self::FailoverBehind)
    }

    /// Whether it is only there where Sentinels are.
    #[must_use]
    pub fn needs_sentinels(self) -> bool {
        self == Self::FailoverAsked
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
