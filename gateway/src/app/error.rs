//! Why a gateway cannot start or go on.

use std::io;
use std::net::SocketAddr;

use shared::auth::LoadError;
use shared::net::{TlsError, describe};

use crate::broker::redis::ConnectError;

/// Why the gateway cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port cannot be had.
    #[error("cannot listen on {address}: {}; choose another with {flag}", describe(.source))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An address that cannot be resolved any more.
    #[error("{0}")]
    Address(String),
    /// There can be no client of `chat.upstream`.
    #[error("chat.upstream: {0}")]
    Upstream(String),
    /// Keys that verify tokens cannot be had.
    #[error(transparent)]
    Auth(#[from] LoadError),
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Redis cannot be had.
    #[error(transparent)]
    Redis(#[from] ConnectError),
    /// Redis cannot be had for what is told to all nodes.
    #[error(transparent)]
    Orders(publisher::ConnectError),
    /// The system refused something else.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A task that runs for as long as the gateway does has ended.
    #[error("a task ended before its time: {0}")]
    Task(String),
}

impl AppError {
    /// Whether it is the configuration that has to be mended, such as a file of certificates that is not there.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Auth(_) | Self::Tls(_) | Self::Redis(ConnectError::Settings(_) | ConnectError::Prefix(_)))
    }
}
