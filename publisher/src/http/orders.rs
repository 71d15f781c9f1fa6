//! Orders to all nodes: `POST /channels/{channel}/disconnect`, `POST /users/{id}/disconnect`, `POST /tokens/revoke`. For
//! operators where there is authentication.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::auth::{Access, MAX_TOKEN_BYTES};
use shared::channel::Channel;
use shared::order::{Order, Revocation};

use super::members::Members;
use super::problem::Problem;
use super::{body, check};
use crate::PublishError;
use crate::metrics::{CancelMetrics, Outcome};
use crate::orders::Orders;

/// Bytes of a body: `{"sub": "..."}` with the longest names, each byte escaped.
const MAX_BODY: usize = 64 << 10;
/// Longest `sub` and `jti`, in bytes: no token has longer ones.
const MAX_NAME: usize = MAX_TOKEN_BYTES;
/// Longest that a revocation is remembered, and how long where the request does not say when its tokens expire: a year.
const REVOKED_FOR: u64 = 366 * 24 * 3_600;
/// What else is given with tokens' times.
const LEEWAY: u64 = 300;

/// What carries them out, and counts.
pub(super) struct Commander {
    orders: Arc<dyn Orders>,
    /// There is an operator key: without it nobody may, though all else be open.
    needs_key: bool,
    metrics: CancelMetrics,
}

/// The answer: every node is told.
#[derive(Serialize)]
struct Given {
    /// Unix seconds, of a revocation: until when it is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl Commander {
    pub(super) fn new(orders: Arc<dyn Orders>, needs_key: bool, metrics: CancelMetrics) -> Self {
        Self { orders, needs_key, metrics }
    }

    fn operator(&self, access: &Access) -> Result<(), Problem> {
        operator_only(access, self.needs_key)
    }

    async fn give(&self, order: Result<Order, Problem>) -> Result<Response, Problem> {
        let order = order.inspect_err(|_| self.metrics.count(Outcome::Refused))?;
        let result = self.orders.give(&order).await;
        self.metrics.count(outcome(&result));
        result?;
        let until = if let Order::Revoke(revocation) = &order { Some(revocation.until) } else { None };
        Ok((StatusCode::ACCEPTED, Json(Given { until })).into_response())
    }
}

/// Refuses whoever is no operator, where there is an operator key (`needs_key`) or tokens are asked for.
pub(super) fn operator_only(access: &Access, needs_key: bool) -> Result<(), Problem> {
    let may = match access {
        Access::Operator => true,
        Access::Open => !needs_key,
        Access::Token(_) => false,
    };
    let detail = "this needs the operator key, as Authorization: Bearer";
    let refused = || Problem::new(StatusCode::FORBIDDEN, "operator-only", "operator only").detail(detail);
    may.then_some(()).ok_or_else(refused)
}

/// `POST /channels/{channel}/disconnect`
pub(super) async fn disconnect_channel(
    State(commander): State<Arc<Commander>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let order = async {
        commander.operator(&access)?;
        let channel = check::channel_of_path(path, &access)?;
        no_body(request).await?;
        Ok(Order::DisconnectChannel { channel })
    };
    commander.give(order.await).await
}

/// `POST /users/{id}/disconnect`
pub(super) async fn disconnect_user(
    State(commander): State<Arc<Commander>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let order = async {
        commander.operator(&access)?;
        let Ok(Path(user)) = path else { return Err(Problem::invalid("id", "the id is not UTF-8")) };
        Channel::user(&user).map_err(|error| Problem::channel("id", error))?;
        no_body(request).await?;
        Ok(Order::DisconnectUser { user })
    };
    commander.give(order.await).await
}

/// `POST /tokens/revoke` with `{"jti": …}` or `{"sub": …}`, and `exp` where it is known.
pub(super) async fn revoke(
    State(commander): State<Arc<Commander>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let order = async {
        commander.operator(&access)?;
        if !body::has_media_type(request.headers(), "application/json") {
            return Err(Problem::unsupported_type("application/json", "what is revoked comes as application/json"));
        }
        let body = body::read(request.into_body(), "body", MAX_BODY).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Order::Revoke(revocation(&body, now)?))
    };
    commander.give(order.await).await
}

fn revocation(body: &[u8], now: u64) -> Result<Revocation, Problem> {
    let Members(members) = serde_json::from_slice(body).map_err(|error| Problem::malformed_json(&error, 1))?;
    let mut seen = members.iter().enumerate();
    if let Some((_, (key, _))) = seen.find(|(i, (key, _))| members[..*i].iter().any(|(before, _)| before == key)) {
        return Err(Problem::duplicate_key(key.clone()));
    }
    let members: Map<String, Value> = members.into_iter().collect();
    if let Some(key) = members.keys().find(|key| !["jti", "sub", "exp"].contains(&key.as_str())) {
        return Err(Problem::unknown_key(key, "unknown key, this body has jti or sub, and exp"));
    }
    let (token, user) = (name(&members, "jti")?, name(&members, "sub")?);
    match (&token, &user) {
        (None, None) => return Err(Problem::missing("jti", "say which tokens: jti (one) or sub (all of a user)")),
        (Some(_), Some(_)) => return Err(Problem::conflict("sub", "jti and sub exclude each other")),
        _ => {}
    }
    let until = match members.get("exp") {
        None => now + REVOKED_FOR,
        Some(value) => {
            let most = now + REVOKED_FOR;
            let exp = value.as_u64().filter(|exp| (now.saturating_sub(LEEWAY)..=most).contains(exp));
            let detail = "exp is when the last of the tokens expires, in seconds since 1970: not in the past, and at most a year \
                from now";
            exp.ok_or_else(|| Problem::invalid("exp", detail).limit(most))?.saturating_add(LEEWAY)
        }
    };
    Ok(Revocation { token, user, at: now, until })
}

fn name(members: &Map<String, Value>, key: &'static str) -> Result<Option<String>, Problem> {
    let Some(value) = members.get(key) else { return Ok(None) };
    let Some(text) = value.as_str() else { return Err(Problem::wrong_type(key, "a string")) };
    if !(1..=MAX_NAME).contains(&text.len()) {
        let detail = format!("{key} has {} bytes, the limit is 1 to {MAX_NAME}", text.len());
        return Err(Problem::invalid(key, detail).limit(MAX_NAME));
    }
    Ok(Some(text.to_owned()))
}

/// A body means nothing, but some clients send `{}`.
async fn no_body(request: Request) -> Result<(), Problem> {
    body::read(request.into_body(), "body", MAX_BODY).await.map(drop)
}

fn outcome(result: &Result<(), PublishError>) -> Outcome {
    result.as_ref().map_or_else(Outcome::of, |()| Outcome::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn read(body: &str) -> Result<Revocation, Problem> {
        revocation(body.as_bytes(), NOW)
    }

    #[test]
    fn what_is_revoked() {
        let of = |token: Option<&str>, user: Option<&str>, until| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Revocation { token: text(token), user: text(user), at: NOW, until }
        };
        assert_eq!(read(r#"{"jti":"j"}"#).unwrap(), of(Some("j"), None, NOW + REVOKED_FOR));
        let exp = NOW + 60;
        assert_eq!(read(&format!(r#"{{"sub":"42","exp":{exp}}}"#)).unwrap(), of(None, Some("42"), exp + 300));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(MAX_NAME + 1);
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{}", "jti"),
            (r#"{"jti":"j","sub":"42"}"#, "sub"),
            (r#"{"jti":7}"#, "jti"),
            (r#"{"sub":""}"#, "sub"),
            (&format!(r#"{{"sub":"{long}"}}"#), "sub"),
            (r#"{"jti":"j","exp":"soon"}"#, "exp"),
            (r#"{"jti":"j","exp":99999999999999}"#, "exp"),
            (r#"{"jti":"j","exp":1}"#, "exp"),
            (r#"{"jti":"a","jti":"b"}"#, "jti"),
            (r#"{"jti":"j","why":"x"}"#, "why"),
        ] {
            let problem = serde_json::to_value(read(body).unwrap_err()).unwrap();
            assert_eq!(problem["field"], field, "{body}: {problem}");
        }
    }
}
