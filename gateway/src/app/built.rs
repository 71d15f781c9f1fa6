//! The broker, and what depends on which that is.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use publisher::orders::Orders;
use publisher::producers::{Producers, Seams};
use publisher::{Configured, Publish, Publisher};

use super::{AppError, limits};
use crate::broker::Broker;
use crate::broker::memory::{MemoryBroker, MemoryLimits};
use crate::broker::redis::RedisBroker;
use crate::broker::redis::leases::{Registry, Releases};
use crate::config::Config;
use crate::demo::Carrier;
use crate::metrics::BrokerMetrics;

/// What carries the node's events, and what depends on which that is.
pub(super) struct Built {
    pub(super) broker: Arc<dyn Broker>,
    /// Those for publishing, which only a node alone serves itself.
    pub(super) routes: Router,
    pub(super) orders: Arc<dyn Orders>,
    /// The same as for `routes`.
    pub(super) producers: Option<Producers>,
    /// For the demo.
    pub(super) carrier: Carrier,
    /// Of users' leases, where the nodes have one together.
    pub(super) registry: Option<(Registry, Releases)>,
    /// The same of presence, where that is told.
    pub(super) presence: Option<(Registry, Releases)>,
}

pub(super) async fn broker(config: &Config, node: &str, shows_demo: bool, needs_key: bool) -> Result<Built, AppError> {
    let metrics = BrokerMetrics::new();
    if config.is_on_redis() {
        let broker = RedisBroker::connect(&config.redis, node, metrics).await?;
        let broker = broker.with_check_interval(config.log.check_interval).with_past_limits(limits::past(config));
        let broker = broker.with_rest(config.lanes.rest);
        let carrier = Carrier::Redis(Box::new(config.redis.clone()));
        let orders = Arc::new(Publisher::connect(&config.redis).await.map_err(AppError::Orders)?);
        let (lease, grace) = (config.limits.user_lease, config.presence.offline_after);
        let presence = config.presence.enabled.then(|| broker.presence(lease, grace));
        let (registry, routes) = (Some(broker.registry(lease)), Router::new());
        return Ok(Built { broker: Arc::new(broker), routes, orders, producers: None, carrier, registry, presence });
    }
    metrics.up.set(1.0);
    let limits = MemoryLimits { max_bytes: config.embedded.max_bytes, max_keys: config.embedded.max_keys };
    let broker = Arc::new(MemoryBroker::new(limits));
    let publish: Arc<dyn Publish> = Arc::new(Configured::new(broker.clone(), config.channels.clone()));
    let seams =
        Seams { publish: publish.clone(), bare: broker.clone(), channels: broker.clone(), cancel: broker.clone() };
    // It was checked with the settings.
    let producers = Producers::new(seams, &config.chat, shows_demo).map_err(AppError::Upstream)?;
    let routes =
        publisher::http::router(publish, broker.clone(), broker.clone(), broker.clone(), limits::publish(config));
    let routes =
        routes.merge(publisher::http::node_routes(broker.clone(), broker.clone(), needs_key, limits::publish(config)));
    let routes = routes.merge(producers.router(config.limits.max_url));
    let routes = routes.layer(from_fn_with_state(Arc::new(limits::proxies(config)), publisher::http::tell_client));
    let (orders, carrier) = (broker.clone(), Carrier::Memory(broker.clone()));
    Ok(Built { broker, routes, orders, producers: Some(producers), carrier, registry: None, presence: None })
}
