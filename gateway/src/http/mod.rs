//! HTTP: which request opens what. The public port has the event streams, the demo pages and, on the embedded broker, the
//! publish routes; the operator port has its own router in [`admin`].

pub mod admin;
mod admission;
mod auth;
mod connects;
mod demo;
mod events;
mod files;
mod operator;
pub(crate) mod params;
mod status;
mod tickets;
mod told;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{Method, StatusCode};
use publisher::http::auth::{Auth, authenticate};
use publisher::http::problem::Problem;
use publisher::http::{method_not_allowed, name_request, not_found, url_limit};
use publisher::orders::Orders;
use shared::auth::Verifier;

pub use self::admission::{AddressRate, Admission};
pub use self::auth::auth;
pub use self::connects::Connects;
pub use self::operator::OperatorAccess;
pub use self::told::{Told, Word};
use crate::connection::{ConnectionSettings, Passes};
use crate::hub::Hub;
use crate::metrics::{ConnectionMetrics, NodeMetrics};
use crate::shutdown::Lifecycle;
pub use publisher::http::Cors;

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
    /// Those that were opened with a token.
    pub passes: Arc<Passes>,
    /// Where all nodes are told, and tickets are kept.
    pub orders: Arc<dyn Orders>,
    /// Whose tokens are taken.
    pub verifier: Arc<Verifier>,
    /// What the middleware works with that asks for them.
    pub auth: Arc<Auth>,
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

/// What pages of other origins may ask by.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];

/// Whether `GET` on `path` opens an event stream.
#[must_use]
pub fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

/// The public port. `publish` are routes that somebody else serves; `demo` adds the pages at `/` and `/demo/`, which everybody
/// may see.
pub fn router(node: Arc<Node>, publish: Router, cors: &Cors, demo: bool) -> Router {
    let Limits { max_url, request_timeout, .. } = node.limits;
    let streams = Router::new()
        .route(STREAMS[0], get(events::by_query).post(events::by_body))
        .route(STREAMS[1], get(events::connect))
        .route("/events/renew", post(tickets::renew))
        .route("/tickets", post(tickets::issue))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(node.clone());
    // Only what is published can be erased.
    let methods = if publish.has_routes() { &METHODS[..] } else { &METHODS[..2] };
    let mut router = publish
        .merge(streams)
        .layer(from_fn_with_state(node.auth.clone(), authenticate))
        .layer(from_fn_with_state(node.clone(), tickets::redeem));
    if demo {
        router = router.merge(demo::router().method_not_allowed_fallback(method_not_allowed).with_state(node));
    }
    let router = router
        .fallback(not_found)
        .layer(from_fn_with_state(request_timeout, deadline))
        .layer(from_fn_with_state(max_url, url_limit));
    cors.apply(router, methods).layer(from_fn(name_request))
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
