//! The publish routes over HTTP, as a router that any process mounts on a port of its own.
//!
//! `POST /publish` (one event as JSON, or a batch as NDJSON), `POST /channels/{channel}/events` (the raw body is the data),
//! `POST /api/sse/notify` (a text to one user). Every route checks all of a request before it publishes any of it. And what
//! is held of a channel: `GET /channels/{channel}` (who is there, where it stands), `GET /channels/{channel}/events` (its history),
//! `DELETE /channels/{channel}` (erases that). And `POST /channels/{channel}/cancel`, which tells its producer to stop. It must not know which broker carries a publication out,
//! open a socket, or answer for paths that are not its own.

pub mod auth;
mod batch;
mod body;
mod cancel;
mod census;
mod check;
mod cors;
mod fields;
mod history;
mod keyed;
mod members;
mod notify;
mod orders;
pub mod problem;
mod publish;
pub mod query;
mod rate;
mod raw;
mod request_id;
mod room;
mod service;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::StatusCode;

pub use self::body::{has_media_type, read as read_body};
pub(crate) use self::check::channel;
pub use self::cors::{AllowedOrigin, Cors, OriginError};
pub use self::keyed::{KeyedRate, Over};
pub use self::members::Members;
use self::problem::Problem;
pub use self::rate::{Key, tell_client};
pub use self::request_id::{MAX_REQUEST_ID, X_REQUEST_ID, name_request};
pub use self::room::{Room, RoomPlace};
use self::service::Service;
use crate::census::Census;
use crate::metrics::{CancelMetrics, Metrics};
use crate::orders::Orders;
use crate::{Cancel, Channels, Publish};

/// Most data of one event, in bytes. An event stream is for telling, not for files: every subscriber's history and log
/// hold it whole.
pub const DEFAULT_MAX_DATA: usize = 64 * 1024;
/// Most channels of one publish: as many as one connection may read.
pub const DEFAULT_MAX_CHANNELS: usize = 64;
/// Longest event name, in bytes: as long as a channel's.
pub const DEFAULT_MAX_EVENT_NAME: usize = 256;
/// Most lines of one batch: what a broker takes in well under a client's usual time limit.
pub const DEFAULT_MAX_BATCH: usize = 1_000;
/// Events that one key may publish at once, where it may publish so many a second: two full batches.
pub const DEFAULT_PUBLISH_BURST: u32 = 2_000;
/// Longest URL (path and query), in bytes: what proxies in front commonly let through.
pub const DEFAULT_MAX_URL: usize = 8_192;

/// How much one request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an event's data as clients get it: a string decoded, anything else as its JSON text.
    pub max_data: usize,
    /// Entries of `channels` in one publish, repeated ones included.
    pub max_channels: usize,
    /// Bytes of an event's name.
    pub max_event_name: usize,
    /// Lines of a batch that are not blank.
    pub max_batch: usize,
    /// Bytes of path and query.
    pub max_url: usize,
    /// Events a second that one key may publish, one for each channel; 0: any number.
    pub publish_rate: u32,
    /// How many of these at once.
    pub publish_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_data: DEFAULT_MAX_DATA,
            max_channels: DEFAULT_MAX_CHANNELS,
            max_event_name: DEFAULT_MAX_EVENT_NAME,
            max_batch: DEFAULT_MAX_BATCH,
            max_url: DEFAULT_MAX_URL,
            publish_rate: 0,
            publish_burst: DEFAULT_PUBLISH_BURST,
        }
    }
}

/// The routes by which all nodes are told what to do with streams and tokens, and by which they are seen, for operators: where there
/// is an operator key (`needs_key`), or tokens are asked for, for nobody else. And the one that tells whether a user is there. As
/// [`router`] in all else.
pub fn node_routes(orders: Arc<dyn Orders>, census: Arc<dyn Census>, needs_key: bool, limits: Limits) -> Router {
    let of_nodes = Arc::new(census::OfNodes::new(census, needs_key));
    let seen =
        Router::new().route("/users/{id}", get(census::user)).route("/nodes", get(census::nodes)).with_state(of_nodes);
    let commander = Arc::new(orders::Commander::new(orders, needs_key, CancelMetrics::of_orders()));
    Router::new()
        .route("/channels/{channel}/disconnect", post(orders::disconnect_channel))
        .route("/users/{id}/disconnect", post(orders::disconnect_user))
        .route("/tokens/revoke", post(orders::revoke))
        .with_state(commander)
        .merge(seen)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(limits.max_url, url_limit))
}

/// The publish routes, those of what is held of a channel and of who is there, and the one that cancels; all lead to the same broker. Wrong methods are
/// answered here; unknown paths are left to whoever mounts it ([`not_found`]).
///
/// Handlers ask what a request may do, which [`auth::authenticate`] tells them: without that layer around it, they answer 500.
/// Install the metrics recorder before: counters are looked up here, once. It sets no deadline for a slow body: the
/// server in front does. A router merged with this one at the same paths must have no fallback of its own for wrong
/// methods, since axum takes only one for each path.
pub fn router(
    publish: Arc<dyn Publish>,
    channels: Arc<dyn Channels>,
    cancel: Arc<dyn Cancel>,
    census: Arc<dyn Census>,
    limits: Limits,
) -> Router {
    let of_channel = Arc::new(census::OfChannel::new(census, channels.clone()));
    let service = Arc::new(Service::new(publish, limits, Metrics::new()));
    let reader = Arc::new(history::Reader::new(channels));
    let held = Router::new()
        .route("/channels/{channel}/events", get(history::read))
        .route("/channels/{channel}", delete(history::erase))
        .with_state(reader)
        .route("/channels/{channel}", get(census::channel).with_state(of_channel));
    let canceller = Arc::new(cancel::Canceller::new(cancel, CancelMetrics::new()));
    let cancelling = Router::new().route("/channels/{channel}/cancel", post(cancel::cancel)).with_state(canceller);
    Router::new()
        .route("/publish", post(publish::publish))
        .route("/channels/{channel}/events", post(raw::publish))
        .route("/api/sse/notify", post(notify::notify))
        .with_state(service)
        .merge(held)
        .merge(cancelling)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(room::Rooms::new(limits), room::wait_for_room))
        .layer(from_fn_with_state(limits.max_url, url_limit))
}

/// Middleware that refuses a longer path and query than `max` bytes, 414 with field `url`; for
/// [`from_fn_with_state`]`(max, url_limit)`.
pub async fn url_limit(State(max): State<usize>, request: Request, next: Next) -> Response {
    let bytes = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
    if bytes <= max {
        return next.run(request).await;
    }
    Problem::new(StatusCode::URI_TOO_LONG, "url-too-long", "URL too long")
        .detail(format!("path and query have {bytes} bytes, the limit is {max}"))
        .field("url")
        .limit(max)
        .into_response()
}

/// Fallback for a path that nobody serves: 404.
pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "not found").detail("no resource has this path")
}

/// Fallback for a method that a path does not take: 405. The router adds `Allow`.
pub async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "method not allowed")
        .detail("this path takes other methods, the allow header lists them")
}
