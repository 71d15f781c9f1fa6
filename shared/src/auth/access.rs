//! What one request may do.

use std::sync::Arc;

use super::Token;
use crate::channel::Channel;

/// What whoever sent a request may do. Made once for a request, before anything of it is looked at.
#[derive(Debug, Clone)]
pub enum Access {
    /// `auth` is not set: everything that is not the cluster's own.
    Open,
    /// The operator key came with it: everything.
    Operator,
    /// What this token grants.
    Token(Arc<Token>),
}

impl Access {
    /// Whether `channel` may be read.
    #[must_use]
    pub fn may_read(&self, channel: &Channel) -> bool {
        match self {
            Self::Open => !channel.is_reserved(),
            Self::Operator => true,
            Self::Token(token) => token.read.has(channel),
        }
    }

    /// Whether `channel` may be published to, cancelled and erased. Nobody may that with the cluster's own.
    #[must_use]
    pub fn may_publish(&self, channel: &Channel) -> bool {
        match self {
            Self::Open | Self::Operator => !channel.is_reserved(),
            Self::Token(token) => token.publish.has(channel),
        }
    }

    /// Whether there is any channel that may be published to.
    #[must_use]
    pub fn may_publish_any(&self) -> bool {
        match self {
            Self::Open | Self::Operator => true,
            Self::Token(token) => !token.publish.is_empty(),
        }
    }

    /// The same for all channels that begin with `prefix`: for those whose names are yet to be made up.
    #[must_use]
    pub fn may_publish_all(&self, prefix: &str) -> bool {
        match self {
            Self::Open | Self::Operator => true,
            Self::Token(token) => token.publish.has_all(prefix),
        }
    }

    /// The user's own channel, where a token names its user.
    #[must_use]
    pub fn user_channel(&self) -> Option<&Channel> {
        match self {
            Self::Open | Self::Operator => None,
            Self::Token(token) => token.user_channel.as_ref(),
        }
    }
}
