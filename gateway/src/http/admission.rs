//! Who may open an event stream now: the limits on connections. First those that this node knows of whoever asks, so that nobody who is
//! beyond them takes anything from the others, then the rate that all have together, then what Redis has to be asked.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use publisher::http::{Key, KeyedRate, Room};
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
    /// Connections that each client address opens in time.
    pub openings: Option<AddressRate>,
    /// Connections of each user.
    pub leases: Option<Arc<Leases>>,
    /// Those of users whose coming and going is told.
    pub presence: Option<Arc<Leases>>,
    /// For the bodies of requests for long lists of channels.
    pub bodies: Room,
    /// Tickets and renewals of each user.
    pub tickets: KeyedRate,
    /// What all limits count.
    pub metrics: Arc<LimitMetrics>,
}

/// How many connections each client address opens in time.
pub struct AddressRate {
    /// Of each.
    pub rate: KeyedRate,
    /// As for [`Addresses`].
    pub public_only: bool,
}

impl AddressRate {
    fn allows(&self, address: ClientAddress) -> bool {
        (self.public_only && !address.is_public()) || self.rate.take_one(&address).is_ok()
    }
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
        let counts = admission.addresses.is_some() || admission.openings.is_some();
        let address = if counts { admission.address(request) } else { None };
        let user = match access {
            Access::Token(token) if admission.leases.is_some() => token.subject.clone(),
            Access::Token(_) | Access::Open | Access::Operator => None,
        };
        let present = match access {
            // Of a user whose name is too long for it there is no channel to tell it on.
            Access::Token(token) if admission.presence.is_some() => {
                token.subject.clone().filter(|user| Channel::presence(user).is_ok())
            }
            Access::Token(_) | Access::Open | Access::Operator => None,
        };
        Self { address, user, present }
    }

    /// Where nobody is asked who they are, whoever reads a user's own channel is taken for that user.
    pub(super) fn on(mut self, channels: &[Channel], access: &Access, admission: &Admission) -> Self {
        if matches!(access, Access::Open) && admission.presence.is_some() {
            self.present = channels
                .iter()
                .find_map(Channel::owner)
                .filter(|user| Channel::presence(user).is_ok())
                .map(str::to_owned);
        }
        self
    }
}

impl Admission {
    /// Where a request comes from.
    fn address(&self, request: &Request) -> Option<ClientAddress> {
        let peer = request.extensions().get::<PeerAddress>()?;
        Some(self.proxies.client(peer.0, request.headers()))
    }

    /// By what a request is counted that is no stream.
    pub(super) fn key(&self, request: &Request, access: &Access) -> Key {
        Key::new(Some(access), self.address(request))
    }

    /// A place under every limit.
    ///
    /// Whoever is beyond a limit of its own takes nothing from the others. Redis is asked last.
    pub(super) async fn admit(&self, caller: Caller) -> Result<Place, TurnedAway> {
        let place = self.gate.enter().ok_or(TurnedAway::Capacity)?;
        let address = match (&self.addresses, caller.address) {
            (Some(addresses), Some(address)) => addresses.enter(address).map_err(|_| TurnedAway::Address)?,
            _ => None,
        };
        let asked = match (&self.leases, caller.user) {
            (Some(leases), Some(user)) => Some(leases.ask(&user).map_err(|_| TurnedAway::User)?),
            _ => None,
        };
        if let (Some(openings), Some(address)) = (&self.openings, caller.address)
            && !openings.allows(address)
        {
            return Err(TurnedAway::Address);
        }
        if self.connects.as_ref().is_some_and(|connects| !connects.may_open()) {
            return Err(TurnedAway::Rate);
        }
        let lease = match asked {
            Some(asked) => Some(asked.settle().await.map_err(|_| TurnedAway::User)?),
            None => None,
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
