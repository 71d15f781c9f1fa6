//! What ends a session.

use std::fmt;

use ::redis::RedisError;
use shared::redis::{describe, first_error};

use crate::metrics::SessionEnd;

/// Why a session is over, or did not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// This node stops.
    Stopped,
    /// The server closed the Pub/Sub connection.
    Closed,
    /// Another server is named for the partition.
    Left,
    /// The server has given the partition away.
    Moved,
    /// A call failed.
    Failed(String),
    /// The server has answered a call, and does not do it.
    Refused(String),
    /// The two connections lead to servers with different data.
    TwoServers,
    /// This node did not hear what it said to itself.
    Deaf,
    /// The data have begun another life.
    Epoch,
    /// A position came that was not above the last one.
    Order,
    /// The server pushed something that is none of its messages.
    Protocol,
}

impl Ended {
    pub(super) fn reason(&self) -> SessionEnd {
        match self {
            Self::Stopped | Self::Closed | Self::Left | Self::Moved => SessionEnd::Closed,
            Self::Failed(_) | Self::Refused(_) | Self::TwoServers => SessionEnd::Failed,
            Self::Deaf => SessionEnd::Deaf,
            Self::Epoch => SessionEnd::Epoch,
            Self::Order => SessionEnd::Order,
            Self::Protocol => SessionEnd::Protocol,
        }
    }
}

impl Ended {
    /// Whether the connections are not to be used any more. Else it is about the partition alone.
    pub(super) fn breaks_link(&self) -> bool {
        !matches!(self, Self::Left | Self::Moved | Self::Epoch | Self::Order | Self::Refused(_))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopping"),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Left => f.write_str("another server is named as the primary"),
            Self::Moved => f.write_str("its server has given the partition to another one"),
            Self::Failed(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::TwoServers => f.write_str("two connections to this address reached servers with different data"),
            Self::Deaf => f.write_str("what this node says to itself does not arrive"),
            Self::Epoch => f.write_str("its data have begun another life"),
            Self::Order => f.write_str("a position came out of order"),
            Self::Protocol => f.write_str("it sent something that is no message"),
        }
    }
}

impl From<RedisError> for Ended {
    fn from(error: RedisError) -> Self {
        let reason = describe(&error);
        if first_error(&error).code().is_some() { Self::Refused(reason) } else { Self::Failed(reason) }
    }
}
