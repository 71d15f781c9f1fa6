//! From settings to the limits on connections and publishes.

use std::num::NonZeroU32;
use std::sync::Arc;

use publisher::http::{KeyedRate, Room};
use shared::net::Proxies;

use crate::broker::leases::Leases;
use crate::broker::past::PastLimits;
use crate::broker::redis::leases::{Registry, Releases};
use crate::config::Config;
use crate::connection::{Addresses, Gate};
use crate::http::{AddressRate, Admission, Connects};
use crate::lane::Peers;
use crate::metrics::LimitMetrics;

/// Streams of one address of the internet where nothing else is said: one alone cannot take a hundredth of the places, and
/// few networks behind one address have more. Others are not counted then, or a proxy that nobody has named as one would be
/// one client.
const PER_ADDRESS: usize = 1_000;
/// Added to what follows from the streams of an address, for where those are few.
const SOME: u32 = 16;
/// Seconds in which an address may open as many streams as it may have.
const OPENED_AGAIN_S: u32 = 6;
/// Bytes of the bodies of `POST /events` that are under way.
const BODY_BYTES: usize = 64 << 20;
/// Tickets and renewals of one user a second, and at once: a user has some tabs.
const TICKETS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const TICKETS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// Open files of each event loop.
const FILES_OF_LOOP: u64 = 2;
/// Open files for the operator port, logs and the runtime.
const FILES_OF_NODE: u64 = 64;

/// Open files that are kept, whatever the clients do: an answer under way has a socket to its upstream.
pub(super) fn reserved_files(config: &Config) -> u64 {
    let answers = if config.chat.upstream.is_some() { config.chat.max_answers as u64 } else { 0 };
    FILES_OF_NODE + FILES_OF_LOOP * config.loops() as u64 + answers
}

/// The limits, and what has to be kept in Redis for them and for presence. `registry` and `presence`: of the broker, where there are
/// other nodes.
pub(super) fn admission(
    config: &Config,
    gate: Arc<Gate>,
    registry: Option<(Registry, Releases)>,
    presence: Option<(Registry, Releases)>,
    metrics: &Arc<LimitMetrics>,
) -> (Admission, Vec<(Arc<Leases>, Releases)>) {
    let mut keeping = Vec::new();
    let limits = &config.limits;
    let addresses = addresses(config, |most| most);
    let rate = u32::try_from(limits.connects_per_second).ok().and_then(NonZeroU32::new);
    let mut kept = |most, (registry, releases)| {
        let leases = Leases::new(most, Some(registry), metrics.clone());
        keeping.push((leases.clone(), releases));
        leases
    };
    let leases = match (limits.max_connections_per_user, registry) {
        (0, _) => None,
        (most, None) => Some(Leases::new(most, None, metrics.clone())),
        (most, Some(registry)) => Some(kept(most, registry)),
    };
    let presence = presence.map(|registry| kept(usize::MAX, registry));
    let admission = Admission {
        gate,
        addresses,
        proxies: proxies(config),
        connects: rate.map(|rate| Connects::new(rate, limits.max_connections)),
        openings: openings(config),
        leases,
        presence,
        bodies: Room::new(BODY_BYTES),
        tickets: KeyedRate::new(TICKETS, TICKETS_AT_ONCE),
        metrics: metrics.clone(),
    };
    (admission, keeping)
}

/// How many sockets a peer may have: twice the streams of an address and some, since each stream has a socket, and what else a client
/// asks for has others.
pub(super) fn peers(config: &Config, metrics: &Arc<LimitMetrics>) -> Option<Peers> {
    let addresses = addresses(config, |most| most.saturating_mul(2).saturating_add(SOME as usize))?;
    Some(Peers { addresses, proxies: proxies(config), metrics: metrics.clone() })
}

/// Places of each client address, as many as `places` says for the streams that it may have.
fn addresses(config: &Config, places: impl Fn(usize) -> usize) -> Option<Arc<Addresses>> {
    match config.limits.max_connections_per_address {
        None => Some(Addresses::new(places(PER_ADDRESS), true)),
        Some(0) => None,
        Some(most) => Some(Addresses::new(places(most), false)),
    }
}

/// How many streams an address may open in time: all that it may have at once, twice, since its clients come back when a node was lost;
/// then so many in some seconds. One alone does not take the node's whole rate.
fn openings(config: &Config) -> Option<AddressRate> {
    let (most, public_only) = match config.limits.max_connections_per_address {
        None => (PER_ADDRESS, true),
        Some(most) => (most, false),
    };
    let most = NonZeroU32::new(u32::try_from(most).unwrap_or(u32::MAX))?;
    let rate = NonZeroU32::new(most.get().div_ceil(OPENED_AGAIN_S))?;
    let at_once = most.saturating_mul(NonZeroU32::MIN.saturating_add(1)).saturating_add(SOME);
    Some(AddressRate { rate: KeyedRate::new(rate, at_once), public_only })
}

/// Whose word on a client's address is taken. It was checked with the settings.
pub(super) fn proxies(config: &Config) -> Proxies {
    Proxies::parse(&config.limits.trusted_proxies, config.limits.forwarded_header).unwrap_or_default()
}

/// Bounds on what is published here.
pub(super) fn publish(config: &Config) -> publisher::http::Limits {
    let limits = &config.limits;
    publisher::http::Limits {
        max_data: limits.max_data,
        max_channels: limits.max_channels,
        max_event_name: limits.max_event_name,
        max_batch: limits.max_batch,
        max_url: limits.max_url,
        publish_rate: limits.publish_rate,
        publish_burst: limits.publish_burst,
    }
}

/// How much of a channel is read at once.
pub(super) fn past(config: &Config) -> PastLimits {
    PastLimits { events: config.replay.events, bytes: config.replay.bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_files_beside_the_clients() {
        let mut config = Config::default();
        config.lanes.loops = Some(2);
        config.chat.max_answers = 100;
        assert_eq!(reserved_files(&config), 68);
        config.chat.upstream = Some("http://127.0.0.1:1/v1".to_owned());
        assert_eq!(reserved_files(&config), 168);
    }
}
