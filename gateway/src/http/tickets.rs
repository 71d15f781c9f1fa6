//! `POST /tickets` and `?ticket=`: a token that has to go into a URL does so as a code that is good once, for seconds. And
//! `POST /events/renew`, by which an open stream goes on with another token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderValue, Method, StatusCode};
use publisher::http::problem::Problem;
use publisher::http::{Over, has_media_type, query, read_body};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::auth::{Access, AuthError, Token};
use shared::order::{Order, Renewal};

use super::{Node, events, is_stream, told};
use crate::connection::{self, Renewed};
use crate::metrics::TurnedAway;

/// How long a ticket is good.
const TICKET_TTL: Duration = Duration::from_secs(30);
/// Bytes of the bodies, which say little.
const MAX_BODY: usize = 1_024;

/// `POST /tickets`: a code for `?ticket=`, good once.
pub(super) async fn issue(
    State(node): State<Arc<Node>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let token = token_of(&access, "a ticket stands for a token")?;
    allow(&node, &request, &access)?;
    read_body(request.into_body(), "body", MAX_BODY).await?;
    let code = code()?;
    let stands_for = store(token, SystemTime::now() + TICKET_TTL);
    node.orders.keep_ticket(&digest(&code), &stands_for, TICKET_TTL).await?;
    let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Json(json!({ "ticket": code, "expires_in": TICKET_TTL.as_secs() }))).into_response())
}

/// Middleware that takes the ticket of a request for a stream, and hands on what it stands for as an [`Access`].
pub(super) async fn redeem(State(node): State<Arc<Node>>, mut request: Request, next: Next) -> Response {
    let Some(ticket) = ticket_of(&request) else { return next.run(request).await };
    let Some(digest) = ticket.map(|ticket| digest(&ticket)) else { return node.auth.refuse(AuthError::Ticket) };
    let taken = match node.orders.take_ticket(&digest).await {
        Ok(Some(stands_for)) => stands_for,
        Ok(None) => return node.auth.refuse(AuthError::Ticket),
        Err(_) => return events::turned_away(&node, TurnedAway::Broker),
    };
    let Some((until, token)) = restore(&taken) else { return node.auth.refuse(AuthError::Ticket) };
    match node.verifier.still_good(token, SystemTime::now()) {
        Ok(token) => _ = request.extensions_mut().insert(Access::Token(Arc::new(token))),
        Err(error) => return node.auth.refuse(error),
    }
    let response = next.run(request).await;
    if response.extensions().get::<TurnedAway>().is_some() {
        // Whoever was told to come back does so by the same URL, which has to be good then, for as long as it was.
        let left = until.duration_since(SystemTime::now()).unwrap_or_default().min(TICKET_TTL);
        if !left.is_zero() && node.orders.keep_ticket(&digest, &taken, left).await.is_err() {
            tracing::debug!("a ticket was used up by a stream that was told to come back");
        }
    }
    response
}

/// What is kept under a ticket's digest: until when it is good, and what the token says.
fn store(token: &Token, until: SystemTime) -> String {
    let until = until.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({ "until": until, "token": token.store() }).to_string()
}

fn restore(stored: &str) -> Option<(SystemTime, Token)> {
    let stored: serde_json::Value = serde_json::from_str(stored).ok()?;
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(stored.get("until")?.as_u64()?))?;
    Some((until, Token::restore(stored.get("token")?)?))
}

/// A ticket where one counts: no header wins over it. `Some(None)`: there is one, and it is none.
#[allow(clippy::option_option)]
fn ticket_of(request: &Request) -> Option<Option<String>> {
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let is_bearer = header.and_then(|header| header.get(..7)).is_some_and(|s| s.eq_ignore_ascii_case(b"bearer "));
    if request.method() != Method::GET || !is_stream(request.uri().path()) || is_bearer {
        return None;
    }
    let query = request.uri().query()?.as_bytes();
    match query::values(query, ["ticket"]) {
        Ok([None]) => None,
        Ok([Some(ticket)]) => Some((ticket.len() <= MAX_BODY).then_some(ticket)),
        Err(_) => Some(None),
    }
}

/// Body of `POST /events/renew`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    connection: String,
}

/// `POST /events/renew` with `{"connection": …}` and a fresh token: 204 where it was done, 202 where other nodes were told.
pub(super) async fn renew(
    State(node): State<Arc<Node>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let token = token_of(&access, "a stream goes on with a fresh token")?;
    if !has_media_type(request.headers(), "application/json") {
        return Err(Problem::unsupported_type("application/json", "the connection comes as application/json"));
    }
    allow(&node, &request, &access)?;
    let body = read_body(request.into_body(), "body", MAX_BODY).await?;
    let Renew { connection } = serde_json::from_slice(&body)
        .map_err(|error| if error.is_data() { wrong_connection() } else { Problem::malformed_json(&error, 1) })?;
    if connection::number(&connection).is_none() {
        return Err(wrong_connection());
    }
    let renewal = Renewal { connection, token: token.store() };
    match told::renew(&node.passes, &node.verifier, &renewal) {
        Renewed::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Renewed::Refused => {
            let detail =
                "the token is another user's or does not grant every channel of the stream, or that is about to end";
            Err(Problem::new(StatusCode::FORBIDDEN, "renewal-refused", "renewal refused").detail(detail))
        }
        Renewed::NotHere => {
            node.orders.give(&Order::Renew(renewal)).await?;
            Ok(StatusCode::ACCEPTED.into_response())
        }
    }
}

/// Each ticket is kept for its time, and each renewal read by every node: nobody has any number of them.
fn allow(node: &Node, request: &Request, access: &Access) -> Result<(), Problem> {
    let key = node.admission.key(request, access);
    node.admission.tickets.take_one(&key).map_err(|over| {
        let wait = if let Over::For(wait) = over { wait } else { Duration::from_secs(1) };
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tickets", "too many tickets")
            .detail("more tickets and renewals of one user than are given in the time")
            .retry_after(seconds)
    })
}

fn wrong_connection() -> Problem {
    Problem::invalid("connection", "the body is {\"connection\": …} with the name that sse.open has, 16 hex digits")
}

fn token_of<'a>(access: &'a Access, what: &str) -> Result<&'a Token, Problem> {
    match access {
        Access::Token(token) => Ok(token),
        Access::Open | Access::Operator => {
            let problem = Problem::new(StatusCode::CONFLICT, "no-token", "no token");
            Err(problem.detail(format!("{what}, and this request has none")))
        }
    }
}

/// 128 random bits, as hex.
fn code() -> Result<String, Problem> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", "no randomness").retry_after(1))?;
    Ok(hex(&bits))
}

/// By which a ticket is kept: whoever can read what the broker holds cannot use it.
fn digest(ticket: &str) -> String {
    hex(&Sha256::digest(ticket.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
