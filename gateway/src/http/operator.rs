//! Who may see more of the operator port than probes and metrics: whoever has the operator key, and on loopback everybody who is there.
//!
//! The key comes as `Authorization: Bearer`, or as the password of HTTP Basic, for which a browser asks by itself.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use publisher::http::problem::Problem;
use shared::auth::Verifier;

/// What makes a browser ask.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"sse-gateway operator port\", charset=\"UTF-8\"");

/// Whom [`only_operators`] lets through. Made by the app, never changed.
pub struct OperatorAccess {
    verifier: Arc<Verifier>,
    /// The port is bound to loopback.
    loopback: bool,
}

impl OperatorAccess {
    /// On a port that is bound to `loopback`, or not.
    #[must_use]
    pub fn new(verifier: Arc<Verifier>, loopback: bool) -> Self {
        Self { verifier, loopback }
    }

    /// The answer to who may not; `None` to who may.
    fn refusal(&self, request: &Request) -> Option<Response> {
        if self.has_key(request.headers()) || (self.loopback && is_asked_by_loopback(request)) {
            return None;
        }
        tracing::debug!("refused a request on the operator port");
        if !self.verifier.has_operator() {
            let detail = if self.loopback {
                "only by the name of loopback, such as http://127.0.0.1, or with an operator key: set auth.operator_key"
            } else {
                "this needs an operator key, and none is set: set auth.operator_key, or bind admin_listen to 127.0.0.1"
            };
            let problem = Problem::new(StatusCode::FORBIDDEN, "no-operator-key", "no operator key");
            return Some(problem.field("auth.operator_key").detail(detail).into_response());
        }
        let detail =
            "this needs the operator key (auth.operator_key), as Bearer token or as password, whatever the user";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized").detail(detail);
        let mut response = problem.into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        Some(response)
    }

    fn has_key(&self, headers: &HeaderMap) -> bool {
        let credentials = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
        let Some((scheme, rest)) = credentials else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.verifier.is_operator(rest.trim());
        }
        scheme.eq_ignore_ascii_case("basic")
            && password(rest.trim()).is_some_and(|password| self.verifier.is_operator(&password))
    }
}

/// Lets only those through; for `from_fn_with_state(access, only_operators)`.
pub(super) async fn only_operators(
    State(access): State<Arc<OperatorAccess>>,
    request: Request,
    next: Next,
) -> Response {
    match access.refusal(&request) {
        None => next.run(request).await,
        Some(refused) => refused,
    }
}

/// Of `user:password` in Base64.
fn password(credentials: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// Whether who asks knows that it asks this machine. A page from elsewhere can have a name of its own lead here, and would be taken
/// for one of this port's; but the request has that name. What is no browser may leave the name out.
fn is_asked_by_loopback(request: &Request) -> bool {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let mut hosts = request.headers().get_all(HOST).iter().map(|host| host.to_str().ok());
    let named = hosts.all(|host| host.is_some_and(is_loopback));
    named && authority.is_none_or(is_loopback)
}

/// `localhost`, a name below it or an address of loopback, with a port or without.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let name = name.to_ascii_lowercase();
    is_address || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loopback() {
        for host in [
            "localhost",
            "LocalHost:9090",
            "gateway.localhost:9090",
            "127.0.0.1",
            "127.0.0.1:9090",
            "127.1.2.3:9090",
            "[::1]",
            "[::1]:9090",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", ":", "[", "example.com", "localhost.example.com:9090", "192.0.2.1:9090", "notlocalhost", "0.0.0.0"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn only_who_names_loopback_is_there() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut request = http::Request::builder().uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            request.body(axum::body::Body::empty()).unwrap()
        };
        assert!(is_asked_by_loopback(&request("/", &["127.0.0.1:9090"])));
        assert!(is_asked_by_loopback(&request("/", &[])), "HTTP/1.0");
        assert!(is_asked_by_loopback(&request("http://localhost:9090/", &[])), "HTTP/2");
        assert!(!is_asked_by_loopback(&request("/", &["rebound.example:9090"])));
        assert!(!is_asked_by_loopback(&request("/", &["127.0.0.1", "rebound.example"])));
        assert!(!is_asked_by_loopback(&request("http://rebound.example/", &["localhost"])));
    }

    #[test]
    fn the_password_is_what_follows_the_first_colon() {
        let of = |text: &str| password(&STANDARD.encode(text));
        assert_eq!(of("operator:key"), Some("key".to_owned()));
        assert_eq!(of(":k:e:y"), Some("k:e:y".to_owned()));
        assert_eq!(of("key"), None);
        assert_eq!((password("***"), password("")), (None, None));
    }
}
