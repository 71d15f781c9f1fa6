//! The operator port: liveness, readiness, metrics. Served by a thread of its own, so that it answers when the node is busy,
//! and until the process ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use publisher::http::{method_not_allowed, not_found};
use serde::Serialize;
use shared::process;
use tokio::time::Instant;

use crate::hub::{Health, Hub};
use crate::metrics::{ConnectionMetrics, NodeMetrics};
use crate::shutdown::Lifecycle;

/// A node that has not heard itself for so long, in a session, is deaf: six of the broker's intervals.
const DEAF_AFTER: Duration = Duration::from_secs(30);

/// What the operator port shows.
pub struct Admin {
    /// Whom to ask when the node last heard itself.
    pub hub: Arc<Hub>,
    /// Whether it is stopping.
    pub lifecycle: Arc<Lifecycle>,
    /// Renders the metrics.
    pub prometheus: PrometheusHandle,
    /// Gauges that are set when asked for.
    pub metrics: Arc<NodeMetrics>,
    /// Of each lane; what was written is put into the counters when asked for.
    pub connections: [Arc<ConnectionMetrics>; 2],
    /// How long the broker may be away before the node is not ready. A load balancer without ready nodes answers 503,
    /// which ends every `EventSource` for good.
    pub unready_after: Duration,
}

/// Why a node is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum NotReady {
    /// It has not heard itself yet.
    Starting,
    /// It is stopping.
    Draining,
    /// It does not hear itself.
    Deaf,
    /// Its broker has been away for too long.
    BrokerAway,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<NotReady>,
}

/// `/livez`, `/readyz`, `/metrics`.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let reason = admin.not_ready();
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reason.is_none(), reason })).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    if let Some(age) = admin.hub.barrier_age(Instant::now()) {
        admin.metrics.probe_age.set(age.as_secs_f64());
    }
    admin.connections.iter().for_each(|connections| connections.flush());
    let mut text = admin.prometheus.render();
    process::render(&mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

impl Admin {
    fn not_ready(&self) -> Option<NotReady> {
        if self.lifecycle.is_draining() {
            return Some(NotReady::Draining);
        }
        match self.hub.health(Instant::now()) {
            Health::Starting => Some(NotReady::Starting),
            Health::Deaf => Some(NotReady::Deaf),
            Health::Heard(age) => (age > DEAF_AFTER).then_some(NotReady::Deaf),
            Health::Away(time) => (time > self.unready_after).then_some(NotReady::BrokerAway),
        }
    }
}
