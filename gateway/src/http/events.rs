//! Opens event streams.
//!
//! An `EventSource` that gets anything but 200 gives up for good, and sees no headers. So a request that is right but cannot
//! be served now is answered with 200, a `retry:` and the end; only a request that will never be right gets a 4xx.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, StatusCode};
use publisher::http::problem::Problem;
use publisher::http::{has_media_type, read_body};
use shared::auth::{Access, AuthError, Token};
use shared::channel::Channel;
use shared::event::MAX_RETRY;
use shared::event_stream::{self, encode};
use tokio::time::Instant;

use super::admission::Caller;
use super::{Node, params, told};
use crate::connection::{self, Connection, Credential, Greeting, Guard, Resume, is_over, jittered_retry};
use crate::hub::{Wakeup, all_live};
use crate::lane::{Carried, EventStream, Way};
use crate::metrics::{Limited, TurnedAway};

/// What an `EventSource` sends when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long before its end a stream is told that its token expires; half of the time, where it has less than twice that.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);

/// First event of `/api/sse/connect`.
const CONNECTED: Greeting = Greeting { event: "connect", data: "연결되었습니다" };

/// `GET /events?channel=a&channel=b`; without a channel, the user's own. Whether channels may be read is known before a cursor
/// is looked at: here and below.
pub(super) async fn by_query(
    State(node): State<Arc<Node>>,
    Extension(way): Extension<Way>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let channels =
        params::channels_of_query(query, &access, &node.limits).inspect_err(|problem| count(&node, problem))?;
    let wanted = wanted(request.headers(), query, &node)?;
    let caller = Caller::of(&request, &access, &node.admission);
    Ok(open(&node, &way, &access, &channels, &wanted, caller).await)
}

/// `POST /events` with `{"channels": [...]}`, for lists too long for a URL.
pub(super) async fn by_body(
    State(node): State<Arc<Node>>,
    Extension(way): Extension<Way>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = Caller::of(&request, &access, &node.admission);
    let key = node.admission.key(&request, &access);
    let (head, body) = request.into_parts();
    if !has_media_type(&head.headers, "application/json") {
        return Err(Problem::unsupported_type("application/json", "the channels come as application/json"));
    }
    let channels = {
        let most = params::max_body(&node.limits);
        let _room = node.admission.bodies.take(&key, most).await;
        let body = read_body(body, "body", most).await?;
        params::channels_of_body(&body, &access, &node.limits).inspect_err(|problem| count(&node, problem))?
    };
    let wanted = wanted(&head.headers, head.uri.query().unwrap_or_default(), &node)?;
    Ok(open(&node, &way, &access, &channels, &wanted, caller).await)
}

/// `GET /api/sse/connect?userId=42`: the channel `user:42`, with a first event that says so.
pub(super) async fn connect(
    State(node): State<Arc<Node>>,
    Extension(way): Extension<Way>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let channel = params::channel_of_user(query, &access)?;
    let wanted = connection::Request { greeting: Some(CONNECTED), ..wanted(request.headers(), query, &node)? };
    let caller = Caller::of(&request, &access, &node.admission);
    Ok(open(&node, &way, &access, &[channel], &wanted, caller).await)
}

/// The header wins over the query: a browser that comes back repeats its first URL.
fn wanted(headers: &HeaderMap, query: &str, node: &Node) -> Result<connection::Request, Problem> {
    let mut wanted = params::request(query, &node.limits)?;
    let sent = headers.get_all(LAST_EVENT_ID).iter().find(|sent| !sent.is_empty());
    if let Some(sent) = sent {
        wanted.resume = sent.to_str().map_or(Resume::Unknown, Resume::parse);
    }
    Ok(wanted)
}

/// Counts more channels, or longer names, than are taken.
fn count(node: &Node, problem: &Problem) {
    if problem.is_over_limit() {
        node.admission.metrics().over(Limited::Channels);
    }
}

async fn open(
    node: &Arc<Node>,
    way: &Way,
    access: &Access,
    channels: &[Channel],
    wanted: &connection::Request,
    caller: Caller,
) -> Response {
    let caller = caller.on(channels, access, &node.admission);
    let asked = Instant::now();
    let opened = attach(node, way, channels, wanted, caller).await;
    let opened = opened.map(|opened| opened.map(|connection| connection.asked_at(asked)));
    if let Ok(Some(connection)) = &opened {
        // What a page knows of its stream, beside the name of the request that it cannot see.
        tracing::debug!(connection = connection.name(), channels = channels.len(), "opening an event stream");
    }
    let Access::Token(token) = access else { return answer(node, way, wanted, opened) };
    let opened = opened.map(|opened| opened.map(|connection| connection.admitted(credential(node, token))));
    // Revoked since it was verified. Whoever revokes it from now on finds the stream.
    if node.verifier.is_revoked(token) {
        return node.auth.refuse(AuthError::Revoked);
    }
    answer(node, way, wanted, opened)
}

fn credential(node: &Node, token: &Token) -> Credential {
    let terms = told::terms(token, node.verifier.settings().leeway);
    let left = terms.expires.duration_since(SystemTime::now()).unwrap_or_default();
    Credential { passes: node.passes.clone(), terms, notice: EXPIRY_NOTICE.min(left / 2) }
}

fn answer(
    node: &Node,
    way: &Way,
    wanted: &connection::Request,
    opened: Result<Option<Connection>, TurnedAway>,
) -> Response {
    match opened {
        Ok(Some(connection)) => match way {
            Way::Hyper(transport) => stream(Body::new(EventStream::new(connection, transport.clone()))),
            Way::Direct(_) => {
                let mut response = stream(Body::empty());
                response.extensions_mut().insert(Carried::new(connection));
                response
            }
        },
        // The one answer at which an `EventSource` stops for good, and is meant to.
        Ok(None) => (StatusCode::NO_CONTENT, [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))]).into_response(),
        Err(reason) => turn_away(node, reason, &wanted.resume),
    }
}

/// `None`: all channels have ended, and the client has all of them.
async fn attach(
    node: &Arc<Node>,
    way: &Way,
    channels: &[Channel],
    wanted: &connection::Request,
    caller: Caller,
) -> Result<Option<Connection>, TurnedAway> {
    if node.lifecycle.is_draining() {
        return Err(TurnedAway::Draining);
    }
    let place = node.admission.admit(caller).await?;
    let (wakeup, metrics) = match way {
        Way::Hyper(_) => (Arc::new(Wakeup::default()), &node.on_hyper),
        Way::Direct(wakeup) => (wakeup.clone(), &node.on_direct),
    };
    let attached = channels.iter().map(|channel| node.hub.attach(channel, &wakeup));
    let subscriptions = attached.collect::<Result<Vec<_>, _>>().map_err(|_| TurnedAway::Draining)?;
    let now = Instant::now();
    if subscriptions.iter().any(|subscription| node.hub.is_away(subscription.partition(), now)) {
        return Err(TurnedAway::Broker);
    }
    match tokio::time::timeout(node.limits.open_timeout, all_live(&subscriptions, &wakeup)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(TurnedAway::Draining),
        Err(_) => return Err(TurnedAway::Broker),
    }
    if is_over(&node.hub, &subscriptions, &wanted.resume) {
        return Ok(None);
    }
    let guard = || Guard::open(metrics.clone(), place);
    Connection::open(&node.hub, &node.connection, &wakeup, subscriptions, wanted, guard, fastrand::Rng::new())
        .map(Some)
        .map_err(|_| TurnedAway::Broker)
}

/// The same for who has not come so far that a cursor was looked at.
pub(super) fn turned_away(node: &Node, reason: TurnedAway) -> Response {
    turn_away(node, reason, &Resume::Now)
}

/// 200, when to come back, and the end. With the client's own cursor, since some clients forget it with each answer that has
/// none.
fn turn_away(node: &Node, reason: TurnedAway, resume: &Resume) -> Response {
    node.metrics.turned_away(reason);
    tracing::debug!(reason = reason.as_str(), "turned an event stream away");
    let mut bytes = Vec::new();
    let retry = jittered_retry(node.connection.retry, &mut fastrand::Rng::new());
    encode::retry(&mut bytes, (retry + node.admission.turned_away(reason)).min(MAX_RETRY));
    if let Some(cursor) = resume.cursor() {
        encode::id(&mut bytes, &cursor);
    }
    encode::end(&mut bytes);
    let mut response = stream(Body::from(bytes));
    response.extensions_mut().insert(reason);
    response
}

fn stream(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}
