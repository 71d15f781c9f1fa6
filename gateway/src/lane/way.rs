//! What lanes and routes tell each other: how the answer to a request leaves, and the connection that is to.

use std::sync::{Arc, Mutex, PoisonError};

use super::transport::Transport;
use crate::connection::Connection;
use crate::hub::Wakeup;

/// How the answer to a request leaves. In the extensions of every request, put there by its lane.
#[derive(Debug, Clone)]
pub enum Way {
    /// A body that hyper polls.
    Hyper(Arc<Transport>),
    /// An event loop, which calls the connection by this; the answer carries the connection ([`Carried`]) and has no body.
    Direct(Arc<Wakeup>),
}

/// A connection in the extensions of an answer's head, for the lane to take and drive.
#[derive(Clone)]
pub struct Carried(Arc<Mutex<Option<Connection>>>);

impl Carried {
    /// For the answer that opens `connection`.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(Some(connection))))
    }

    /// The connection, the first time.
    #[must_use]
    pub fn take(&self) -> Option<Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
