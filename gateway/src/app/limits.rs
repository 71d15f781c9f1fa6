//! From settings to the limits on connections and publishes.

use std::num::NonZeroU32;
use std::sync::Arc;

use shared::net::Proxies;

use crate::broker::leases::Leases;
use crate::broker::past::PastLimits;
use crate::broker::redis::leases::{Registry, Releases};
use crate::config::Config;
use crate::connection::{Addresses, Gate};
use crate::http::{Admission, Connects};
use crate::metrics::LimitMetrics;

/// Streams of one address of the internet where nothing else is said: one alone cannot take a hundredth of the places, and
/// few networks behind one address have more. Others are not counted then, or a proxy that nobody has named as one would be
/// one client.
const PER_ADDRESS: usize = 1_000;

/// Open files of each event loop.
const FILES_OF_LOOP: u64 = 2;
/// Open files for the operator port, logs and the runtime.
const FILES_OF_NODE: u64 = 64;

/// Open files that are kept, whatever the clients do: an answer under way has a socket to its upstream.
pub(super) fn reserved_files(config: &Config) -> u64 {
    let answers = if config.chat.upstream.is_some() { config.chat.max_answers as u64 } else { 0 };
    FILES_OF_NODE + FILES_OF_LOOP * config.loops() as u64 + answers
}

/// The limits, and what has to be kept in Redis for them. `registry`: of the broker, where there are other nodes.
pub(super) fn admission(
    config: &Config,
    gate: Arc<Gate>,
    registry: Option<(Registry, Releases)>,
    metrics: &Arc<LimitMetrics>,
) -> (Admission, Option<(Arc<Leases>, Releases)>) {
    let limits = &config.limits;
    let addresses = match limits.max_connections_per_address {
        None => Some(Addresses::new(PER_ADDRESS, true)),
        Some(0) => None,
        Some(most) => Some(Addresses::new(most, false)),
    };
    let rate = u32::try_from(limits.connects_per_second).ok().and_then(NonZeroU32::new);
    let (leases, keeping) = match (limits.max_connections_per_user, registry) {
        (0, _) => (None, None),
        (most, None) => (Some(Leases::new(most, None, metrics.clone())), None),
        (most, Some((registry, releases))) => {
            let leases = Leases::new(most, Some(registry), metrics.clone());
            (Some(leases.clone()), Some((leases, releases)))
        }
    };
    let admission = Admission {
        gate,
        addresses,
        proxies: proxies(config),
        connects: rate.map(|rate| Connects::new(rate, limits.max_connections)),
        leases,
        metrics: metrics.clone(),
    };
    (admission, keeping)
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
