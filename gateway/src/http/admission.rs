//! Who may open an event stream now: the limits on connections, in the order in which they cost.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use shared::auth::Access;
use shared::channel::Channel;
use shared::net::{ClientAddress, PeerAddress, Proxies};
use tokio::time::Instant;

use super::Connects;
use crate::broker::leases::Leases;
use crate::connection::{Addresses, Gate, Place};
use crate::metrics::{LimitMetrics, Limited, TurnedAway};

/// The limits on connections. `None`: there is no such limit.
pub struct Admission {
    /// Connections of the node.
    pub gate: Arc<Gate>,
    /// Connections of each client address.
    pub addresses: Option<Arc<Addresses>>,
    /// Whose word on a client's address is taken.
    pub proxies: Proxies,
    /// Connections opened in time.
    pub connects: Option<Connects>,
    /// Connections of each user.
    pub leases: Option<Arc<Leases>>,
    /// Those of users whose coming and going is told.
    pub presence: Option<Arc<Leases>>,
    /// What all limits count.
    pub metrics: Arc<LimitMetrics>,
}

/// Who asks.
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// Where it comes from; only where somebody wants to know.
    address: Option<ClientAddress>,
    /// Who it is, by its token; only where somebody wants to know.
    user: Option<String>,
    /// Who is here by this connection; only where that is told.
    present: Option<String>,
}

impl Caller {
    pub(super) fn of(request: &Request, access: &Access, admission: &Admission) -> Self {
        let peer = request.extensions().get::<PeerAddress>().filter(|_| admission.addresses.is_some());
        let address = peer.map(|peer| admission.proxies.client(peer.0, request.headers()));
        let user = match access {
            Access::Token(token) if admission.leases.is_some() => token.subject.clone(),
            Access::Token(_) | Access::Open | Access::Operator => None,
        };
        let present = match access {
            Access::Token(token) if admission.presence.is_some() => token.subject.clone(),
            Access::Token(_) | Access::Open | Access::Operator => None,
        };
        Self { address, user, present }
    }

    /// Where nobody is asked who they are, whoever reads a user's own channel is taken for that user.
    pub(super) fn on(mut self, channels: &[Channel], access: &Access, admission: &Admission) -> Self {
        if matches!(access, Access::Open) && admission.presence.is_some() {
            self.present = channels.iter().find_map(Channel::owner).map(str::to_owned);
        }
        self
    }
}

impl Admission {
    /// A place under every limit.
    ///
    /// Whoever is beyond a limit of its own takes nothing from the others. A user's lease comes last, since it may have to be
    /// asked of Redis.
    pub(super) async fn admit(&self, caller: Caller) -> Result<Place, TurnedAway> {
        let place = self.gate.enter().ok_or(TurnedAway::Capacity)?;
        let address = match (&self.addresses, caller.address) {
            (Some(addresses), Some(address)) => addresses.enter(address).map_err(|_| TurnedAway::Address)?,
            _ => None,
        };
        if self.connects.as_ref().is_some_and(|connects| !connects.may_open()) {
            return Err(TurnedAway::Rate);
        }
        let lease = match (&self.leases, caller.user) {
            (Some(leases), Some(user)) => Some(leases.take(&user).await.map_err(|_| TurnedAway::User)?),
            _ => None,
        };
        let presence = match (&self.presence, caller.present) {
            (Some(presence), Some(user)) => presence.hold(&user),
            _ => None,
        };
        Ok(place.with(address, lease, presence))
    }

    /// Counts one that is turned away. How much later than others it had better come back: where the node has too many, each
    /// has a moment of its own.
    pub(super) fn turned_away(&self, reason: TurnedAway) -> Duration {
        if let Some(limit) = Limited::of(reason) {
            self.metrics.over(limit);
        }
        match (reason, &self.connects) {
            (TurnedAway::Capacity | TurnedAway::Rate, Some(connects)) => connects.join(Instant::now()),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn metrics(&self) -> &LimitMetrics {
        &self.metrics
    }
}
