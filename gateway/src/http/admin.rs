//! The operator port: liveness, readiness, metrics, and the status page. Served by a thread of its own, so that it
//! answers when the node is busy, and until the process ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use publisher::http::{method_not_allowed, not_found};
use serde::Serialize;
use shared::process;
use tokio::time::Instant;

use super::operator::{OperatorAccess, only_operators};
use super::status;
use crate::hub::{Health, Hub};
use crate::metrics::{ConnectionMetrics, NodeMetrics};
use crate::shutdown::Lifecycle;
use crate::status::Feed;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl NotReady {
    /// The word that `/readyz` has for it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::Deaf => "deaf",
            Self::BrokerAway => "broker_away",
        }
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// `/livez`, `/readyz`, `/metrics` for everybody; the status page, which lives on `feed`, for whom `access` lets in.
pub fn router(admin: Arc<Admin>, feed: Arc<Feed>, access: OperatorAccess) -> Router {
    let status = status::router(feed)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::new(access), only_operators));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(admin)
        .merge(status)
        .fallback(not_found)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let reason = admin.not_ready().map(NotReady::as_str);
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reason.is_none(), reason })).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.render()).into_response()
}

impl Admin {
    /// The metrics as of now, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(age) = self.hub.barrier_age(Instant::now()) {
            self.metrics.probe_age.set(age.as_secs_f64());
        }
        self.connections.iter().for_each(|connections| connections.flush());
        let mut text = self.prometheus.render();
        process::render(&mut text);
        text
    }

    /// `ready`, or the reason that `/readyz` gives.
    #[must_use]
    pub fn state(&self) -> &'static str {
        self.not_ready().map_or("ready", NotReady::as_str)
    }

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
