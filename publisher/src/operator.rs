//! The operator port: liveness, readiness, metrics. Served by a thread of its own, so that it answers when the service is
//! busy or still waits for Redis, and until the process ends.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use shared::process;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::{Health, NotReady};
use crate::http::{method_not_allowed, not_found};
use crate::server::{ServerSettings, serve};

/// How often the recorder empties its buffers.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Sockets of the operator port at a time: one prober and one scraper need two.
const MAX_SOCKETS: usize = 64;

struct Operator {
    health: Arc<Health>,
    prometheus: PrometheusHandle,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<NotReady>,
}

/// Serves the port on a thread of its own, until the process ends.
///
/// # Errors
/// Those of the system.
pub(crate) fn start(
    listener: TcpListener,
    health: Arc<Health>,
    prometheus: PrometheusHandle,
    write_timeout: Duration,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let router = router(Arc::new(Operator { health, prometheus: prometheus.clone() }));
    let upkeep = async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            prometheus.run_upkeep();
        }
    };
    let settings = ServerSettings { write_timeout, max_sockets: MAX_SOCKETS, tls: None };
    let serve = serve(listener, router, settings, TaskTracker::new(), CancellationToken::new());
    let both = async { tokio::join!(serve, upkeep) };
    std::thread::Builder::new().name("operator".to_owned()).spawn(move || runtime.block_on(both)).map(drop)
}

fn router(operator: Arc<Operator>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(operator)
}

async fn readyz(State(operator): State<Arc<Operator>>) -> Response {
    let reason = operator.health.not_ready(Instant::now());
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reason.is_none(), reason })).into_response()
}

async fn metrics(State(operator): State<Arc<Operator>>) -> Response {
    let mut text = operator.prometheus.render();
    process::render(&mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
