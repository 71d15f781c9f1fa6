//! `POST /tickets` and `?ticket=`: a token that has to go into a URL does so as a code that is good once, for seconds. And
//! `POST /events/renew`, by which an open stream goes on with another token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderValue, StatusCode};
use publisher::http::problem::Problem;
use publisher::http::{has_media_type, query, read_body};
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
    read_body(request.into_body(), "body", MAX_BODY).await?;
    let code = code()?;
    node.orders.keep_ticket(&digest(&code), &token.store().to_string(), TICKET_TTL).await?;
    let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Json(json!({ "ticket": code, "expires_in": TICKET_TTL.as_secs() }))).into_response())
}

/// Middleware that takes the ticket of a request for a stream, and hands on what it stands for as an [`Access`].
pub(super) async fn redeem(State(node): State<Arc<Node>>, mut request: Request, next: Next) -> Response {
    let Some(ticket) = ticket_of(&request) else { return next.run(request).await };
    let taken = match ticket {
        Some(ticket) => node.orders.take_ticket(&digest(&ticket)).await,
        None => Ok(None),
    };
    let token = match taken {
        Ok(stands_for) => stands_for.and_then(|text| Token::restore(&serde_json::from_str(&text).ok()?)),
        // Not final: an EventSource comes back, though by another ticket only.
        Err(_) => return events::turned_away(&node, TurnedAway::Broker),
    };
    match token.ok_or(AuthError::Ticket).and_then(|token| node.verifier.still_good(token, SystemTime::now())) {
        Ok(token) => {
            request.extensions_mut().insert(Access::Token(Arc::new(token)));
            next.run(request).await
        }
        Err(error) => node.auth.refuse(error),
    }
}

/// A ticket where one counts: no header wins over it. `Some(None)`: there is one, and it is none.
#[allow(clippy::option_option)]
fn ticket_of(request: &Request) -> Option<Option<String>> {
    if !is_stream(request.uri().path()) || request.headers().contains_key(AUTHORIZATION) {
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
    let body = read_body(request.into_body(), "body", MAX_BODY).await?;
    let Renew { connection } = serde_json::from_slice(&body)
        .map_err(|error| if error.is_data() { wrong_connection() } else { Problem::malformed_json(&error, 1) })?;
    if connection::number(&connection).is_none() {
        return Err(wrong_connection());
    }
    let renewal = Renewal { connection, token: token.store() };
    match told::renew(&node.registry, &renewal, node.verifier.settings().leeway) {
        Renewed::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Renewed::Refused => {
            let detail = "the token is another user's, or does not grant every channel of the stream";
            Err(Problem::new(StatusCode::FORBIDDEN, "renewal-refused", "renewal refused").detail(detail))
        }
        Renewed::NotHere => {
            node.orders.give(&Order::Renew(renewal)).await?;
            Ok(StatusCode::ACCEPTED.into_response())
        }
    }
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
