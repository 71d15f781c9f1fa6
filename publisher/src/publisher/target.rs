//! Where the connections of one [`Links`](super::links::Links) lead.

use redis::RedisError;
use shared::redis::{Client, Server};

#[derive(Clone)]
pub(super) enum Target {
    /// To the server that there is, whichever that is by now.
    Any(Client),
    /// To this one, which is a primary of a Cluster. Which partition it was found by means nothing: others are there when that one is
    /// no longer.
    This(Box<Server>),
}

impl Target {
    /// For another connection.
    pub(super) async fn server(&self) -> Result<Server, RedisError> {
        match self {
            Self::Any(client) => client.server().await,
            Self::This(server) => Ok(Server::clone(server)),
        }
    }

    /// Whether connections that lead to `server` are to be replaced.
    pub(super) fn is_left(&self, server: &Server) -> bool {
        match self {
            Self::Any(_) => server.is_left(),
            // Then nobody finds the way here any more.
            Self::This(_) => false,
        }
    }
}
