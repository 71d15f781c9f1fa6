//! Why a connection ended.

/// Label of `sse_gateway_connections_closed_total` and word of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client went away.
    Client,
    /// All its channels have ended.
    Ended,
    /// Its unread backlog left the channel log.
    Slow,
    /// Its socket took nothing for the write timeout.
    WriteTimeout,
    /// This node is stopping.
    Drain,
    /// It has lived for as long as connections may.
    Lifetime,
    /// It did not come to all its channels in time.
    Join,
    /// Somebody had its channel, or its user, disconnected.
    Disconnected,
    /// Its token has expired.
    Expired,
    /// Its token was revoked.
    Revoked,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Client,
        Self::Ended,
        Self::Slow,
        Self::WriteTimeout,
        Self::Drain,
        Self::Lifetime,
        Self::Join,
        Self::Disconnected,
        Self::Expired,
        Self::Revoked,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Ended => "ended",
            Self::Slow => "slow",
            Self::WriteTimeout => "write_timeout",
            Self::Drain => "drain",
            Self::Lifetime => "lifetime",
            Self::Join => "join",
            Self::Disconnected => "disconnected",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
