//! Who sent a request, and what they may do: a middleware that verifies the token and hands on an [`Access`], which the
//! handlers ask.
//!
//! A token comes as `Authorization: Bearer`, as `access_token` in the query where that is allowed, or as a cookie where one is
//! named, in this order. Cookies come along with requests that other pages make too, so those are looked at more closely.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use shared::auth::{Access, AuthError, Verifier};
use shared::channel::Channel;

use super::problem::{Code, Problem};
use super::query;
use crate::metrics::AuthMetrics;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The token in the query.
const QUERY_TOKEN: &str = "access_token";

/// Whether pages of an origin may send the cookie along.
type Origins = dyn Fn(&HeaderValue) -> bool + Send + Sync;

/// What [`authenticate`] works with. Made once, shared by all requests.
pub struct Auth {
    verifier: Arc<Verifier>,
    metrics: AuthMetrics,
    origins: Box<Origins>,
}

impl Auth {
    /// `origins` says which origins beside the port's own may send a cookie with their requests.
    #[must_use]
    pub fn new(
        verifier: Arc<Verifier>,
        metrics: AuthMetrics,
        origins: impl Fn(&HeaderValue) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { verifier, metrics, origins: Box::new(origins) })
    }

    fn access(&self, request: &Request) -> Result<Access, AuthError> {
        let bearer = bearer(request.headers()).transpose()?;
        if bearer.is_some_and(|key| self.verifier.is_operator(key)) {
            return Ok(Access::Operator);
        }
        if !self.verifier.is_set() {
            return Ok(Access::Open);
        }
        let token = match bearer {
            Some(token) => Cow::Borrowed(token),
            None => self.token_of_browser(request)?.ok_or(AuthError::Missing)?,
        };
        let token = self.verifier.verify(&token, SystemTime::now())?;
        Ok(Access::Token(Arc::new(token)))
    }

    /// One that needs no header of its own.
    fn token_of_browser<'a>(&self, request: &'a Request) -> Result<Option<Cow<'a, str>>, AuthError> {
        let settings = self.verifier.settings();
        if settings.query_token {
            let query = request.uri().query().unwrap_or_default().as_bytes();
            let [token] = query::values(query, [QUERY_TOKEN]).map_err(|_| AuthError::Malformed)?;
            if let Some(token) = token {
                return Ok(Some(Cow::Owned(token)));
            }
        }
        let Some(name) = settings.cookie.as_deref() else { return Ok(None) };
        let Some(token) = cookie(request.headers(), name) else { return Ok(None) };
        self.check_origin(request)?;
        Ok(Some(Cow::Borrowed(token)))
    }

    fn check_origin(&self, request: &Request) -> Result<(), AuthError> {
        let mut origins = request.headers().get_all(ORIGIN).iter();
        let allowed = match (origins.next(), origins.next()) {
            (Some(origin), None) => is_own(origin, request) || (self.origins)(origin),
            (Some(_), Some(_)) => false,
            // Browsers send none with what reads from their own origin, and some none with what a form posts.
            (None, _) => !is_cross_site(request.headers()),
        };
        if allowed { Ok(()) } else { Err(AuthError::Origin) }
    }

    /// Whether there is an operator key.
    #[must_use]
    pub fn has_operator(&self) -> bool {
        self.verifier.has_operator()
    }

    /// The answer to who is refused.
    #[must_use]
    pub fn refuse(&self, error: AuthError) -> Response {
        self.metrics.count(error);
        let mut response = problem(error).into_response();
        if let Some(code) = response.extensions_mut().get_mut::<Code>() {
            code.reason = Some(error.as_str());
        }
        let challenge = match error {
            AuthError::Missing => "Bearer",
            AuthError::Origin | AuthError::NotGranted => return response,
            _ => "Bearer error=\"invalid_token\"",
        };
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

/// Middleware that answers 401 to who has no good token where one is needed, and hands an [`Access`] to everybody else; for
/// `from_fn_with_state(auth, authenticate)`. A handler that asks for one and is not behind this answers 500.
pub async fn authenticate(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    // A preflight carries no token, and no handler takes it for anything else.
    if request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    // A ticket was taken for it.
    let ticket = request.extensions_mut().remove::<Access>().map(Ok);
    match ticket.unwrap_or_else(|| auth.access(&request)) {
        Ok(access) => {
            request.extensions_mut().insert(access);
            let response = next.run(request).await;
            if response.status() == StatusCode::FORBIDDEN {
                auth.metrics.count(AuthError::NotGranted);
            }
            response
        }
        Err(error) => auth.refuse(error),
    }
}

/// Refuses, 403, a channel that may not be read. `field` is what the client calls it.
///
/// # Errors
/// `channel-not-granted`.
pub fn may_read(access: &Access, channel: &Channel, field: impl Into<Cow<'static, str>>) -> Result<(), Problem> {
    if access.may_read(channel) { Ok(()) } else { Err(not_granted(channel, field)) }
}

/// The same for a channel that may not be published to.
///
/// # Errors
/// `channel-not-granted`.
pub fn may_publish(access: &Access, channel: &Channel, field: impl Into<Cow<'static, str>>) -> Result<(), Problem> {
    if access.may_publish(channel) { Ok(()) } else { Err(not_granted(channel, field)) }
}

/// The same for a channel whose name will be made up, and begin with `prefix`.
pub(crate) fn may_publish_all(access: &Access, prefix: &str) -> Result<(), Problem> {
    if access.may_publish_all(prefix) {
        return Ok(());
    }
    let detail = format!("the token has to grant publishing to all channels that begin with {prefix}: {prefix}*");
    Err(Problem::not_granted("channel").detail(detail))
}

fn not_granted(channel: &Channel, field: impl Into<Cow<'static, str>>) -> Problem {
    let problem = Problem::not_granted(field);
    if channel.is_reserved() {
        return problem.detail("channels beginning sse. are the cluster's own: they need the operator key");
    }
    problem.detail(AuthError::NotGranted.to_string())
}

fn problem(error: AuthError) -> Problem {
    let problem = match error {
        AuthError::Origin => Problem::new(StatusCode::FORBIDDEN, "origin-not-allowed", "origin not allowed"),
        _ => Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized"),
    };
    problem.detail(error.to_string())
}

/// `None` where there is no header, or one of another scheme.
fn bearer(headers: &HeaderMap) -> Option<Result<&str, AuthError>> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(space);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    Some(std::str::from_utf8(token).map(str::trim).map_err(|_| AuthError::Malformed))
}

/// The first cookie of that name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(found, _)| *found == name)?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// By host and port: which scheme a browser used is not known behind a proxy.
fn is_own(origin: &HeaderValue, request: &Request) -> bool {
    let Some((_, origin)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let host = request.uri().authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| request.headers().get(HOST)?.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(origin))
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site")
}
