//! HTTP: which request opens what. The public port has the event streams, the demo pages and, on the embedded broker, the
//! publish routes; the operator port has its own router in [`admin`].

pub mod admin;
mod admission;
mod auth;
mod connects;
mod cors;
mod demo;
mod events;
mod params;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use publisher::http::auth::{Auth, authenticate};
use publisher::http::problem::Problem;
use publisher::http::{method_not_allowed, not_found, url_limit};

pub use self::admission::Admission;
pub use self::auth::auth;
pub use self::connects::Connects;
pub use self::cors::Cors;
use crate::connection::ConnectionSettings;
use crate::hub::Hub;
use crate::metrics::{ConnectionMetrics, NodeMetrics};
use crate::shutdown::Lifecycle;

/// What the routes of the public port work with. Made by the app, shared, never changed.
pub struct Node {
    /// Where connections attach.
    pub hub: Arc<Hub>,
    /// What all connections have in common.
    pub connection: Arc<ConnectionSettings>,
    /// Who is let in.
    pub admission: Admission,
    /// What those of the direct lane count.
    pub on_direct: Arc<ConnectionMetrics>,
    /// What those of the hyper lane count.
    pub on_hyper: Arc<ConnectionMetrics>,
    /// What the node counts.
    pub metrics: Arc<NodeMetrics>,
    /// Whether it is stopping.
    pub lifecycle: Arc<Lifecycle>,
    /// Bounds on requests.
    pub limits: Limits,
}

/// Bounds on what a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Channels of one connection.
    pub max_channels: usize,
    /// Bytes of path and query.
    pub max_url: usize,
    /// From a request's head to that of its answer; a slow body is cut.
    pub request_timeout: Duration,
    /// How long a connection waits for its channels to become live.
    pub open_timeout: Duration,
    /// Events of each channel that `replay` may ask for.
    pub max_replay: usize,
}

/// The paths of event streams, by which a lane knows them before they are routed.
const STREAMS: [&str; 2] = ["/events", "/api/sse/connect"];

/// Whether `GET` on `path` opens an event stream.
#[must_use]
pub fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

/// The public port. `publish` are routes that somebody else serves; `demo` adds the pages at `/` and `/demo/`, which everybody
/// may see. `auth` says who may have the rest.
pub fn router(node: Arc<Node>, publish: Router, auth: Arc<Auth>, cors: &Cors, demo: bool) -> Router {
    let Limits { max_url, request_timeout, .. } = node.limits;
    let streams = Router::new()
        .route(STREAMS[0], get(events::by_query).post(events::by_body))
        .route(STREAMS[1], get(events::connect))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(node.clone());
    let mut router = publish.merge(streams).layer(from_fn_with_state(auth, authenticate));
    if demo {
        router = router.merge(demo::router().method_not_allowed_fallback(method_not_allowed).with_state(node));
    }
    router
        .fallback(not_found)
        .layer(from_fn_with_state(request_timeout, deadline))
        .layer(from_fn_with_state(max_url, url_limit))
        .layer(cors.layer())
}

/// Refuses, 408, what is not answered in time. An event stream is answered when its head leaves.
async fn deadline(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "request timeout")
            .detail(format!("the request did not arrive within {}", humantime::format_duration(timeout)))
            .into_response(),
    }
}
