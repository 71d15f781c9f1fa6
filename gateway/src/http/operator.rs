//! Who may see more of the operator port than probes and metrics: whoever has the operator key, and on loopback everybody who is there.
//!
//! The key comes as `Authorization: Bearer`, or as the password of HTTP Basic, for which a browser asks by itself. Such a password, and
//! being on loopback, is what a browser brings along for whoever has it ask, so with those a page of another site gets nothing.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use publisher::http::problem::Problem;
use shared::auth::Verifier;

/// What makes a browser ask.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"sse-gateway operator port\", charset=\"UTF-8\"");

/// Who has a browser ask: `same-origin`, `same-site` (another port, for one), `cross-site`, or `none`, somebody at the browser.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// How: `navigate`, for one.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// What for: `document`, and not `iframe`, is a page by itself.
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Where the status page is.
const PAGE: &str = "/";

/// Whom `only_operators` lets through. Made by the app, never changed.
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

    /// The answer to who may not.
    fn refusal(&self) -> Response {
        tracing::debug!("refused a request on the operator port");
        if !self.verifier.has_operator() {
            let detail = if self.loopback {
                "only by the name of loopback, such as http://127.0.0.1, or with an operator key: set auth.operator_key"
            } else {
                "this needs an operator key, and none is set: set auth.operator_key, or bind admin_listen to 127.0.0.1"
            };
            let problem = Problem::new(StatusCode::FORBIDDEN, "no-operator-key", "no operator key");
            return problem.field("auth.operator_key").detail(detail).into_response();
        }
        let detail =
            "this needs the operator key (auth.operator_key), as Bearer token or as password, whatever the user";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized").detail(detail);
        let mut response = problem.into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        response
    }

    fn is_key(&self, credentials: &Credentials) -> bool {
        match credentials {
            Credentials::Bearer(key) | Credentials::Basic(key) => self.verifier.is_operator(key),
        }
    }
}

/// What a request brings along.
#[derive(Clone)]
enum Credentials {
    Bearer(String),
    /// The password.
    Basic(String),
}

impl Credentials {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(rest.trim().to_owned()));
        }
        scheme.eq_ignore_ascii_case("basic").then(|| password(rest.trim()))?.map(Self::Basic)
    }
}

/// By what somebody was let in. Whoever goes on telling something asks again whether it still holds, since keys may be replaced. In the
/// extensions of each request that is let through.
#[derive(Clone)]
pub(super) struct Right {
    access: Arc<OperatorAccess>,
    /// Asked by loopback, on a port that is bound to it: that does not change.
    is_there: bool,
    credentials: Option<Credentials>,
}

impl Right {
    fn of(access: Arc<OperatorAccess>, request: &Request) -> Self {
        let is_there = access.loopback && is_asked_by_loopback(request);
        Self { access, is_there, credentials: Credentials::of(request.headers()) }
    }

    /// Whether it is one, as of now.
    pub(super) fn holds(&self) -> bool {
        self.is_there || self.credentials.as_ref().is_some_and(|credentials| self.access.is_key(credentials))
    }

    /// Whether a browser may have brought it along for a page that does not know it.
    fn is_brought_along(&self) -> bool {
        let Some(Credentials::Bearer(key)) = &self.credentials else { return true };
        !self.access.verifier.is_operator(key)
    }
}

/// Lets only those through; for `from_fn_with_state(access, only_operators)`. Whoever is let through has a [`Right`].
pub(super) async fn only_operators(
    State(access): State<Arc<OperatorAccess>>,
    mut request: Request,
    next: Next,
) -> Response {
    let right = Right::of(access, &request);
    if right.is_brought_along() && is_of_another_site(&request) {
        tracing::debug!("refused a page of another site on the operator port");
        let detail = "a page of another site may not ask for this: open the status page by itself";
        let problem = Problem::new(StatusCode::FORBIDDEN, "other-site", "asked for by a page of another site");
        return problem.detail(detail).into_response();
    }
    if !right.holds() {
        return right.access.refusal();
    }
    request.extensions_mut().insert(right);
    next.run(request).await
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

/// Whether a page of another site has a browser ask, as browsers say of each request to loopback and of each by TLS. Such a page cannot read
/// the answer, but it could hold every place of those who watch. A link to the page may be followed from anywhere.
fn is_of_another_site(request: &Request) -> bool {
    let header = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let follows_link = header(SEC_FETCH_MODE) == Some("navigate") && header(SEC_FETCH_DEST) == Some("document");
    match header(SEC_FETCH_SITE) {
        None | Some("same-origin" | "none") => false,
        Some(_) => !(follows_link && request.uri().path() == PAGE),
    }
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
    use shared::auth::Settings;

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

    fn request(uri: &str, headers: &[(HeaderName, &str)]) -> Request {
        let request = http::Request::builder().uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
        request.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn only_who_names_loopback_is_there() {
        let request =
            |uri: &str, hosts: &[&str]| request(uri, &hosts.iter().map(|host| (HOST, *host)).collect::<Vec<_>>());
        assert!(is_asked_by_loopback(&request("/", &["127.0.0.1:9090"])));
        assert!(is_asked_by_loopback(&request("/", &[])), "HTTP/1.0");
        assert!(is_asked_by_loopback(&request("http://localhost:9090/", &[])), "HTTP/2");
        assert!(!is_asked_by_loopback(&request("/", &["rebound.example:9090"])));
        assert!(!is_asked_by_loopback(&request("/", &["127.0.0.1", "rebound.example"])));
        assert!(!is_asked_by_loopback(&request("http://rebound.example/", &["localhost"])));
    }

    #[test]
    fn what_a_page_of_another_site_asks_for() {
        let is_of_another_site = |path: &str, site: &str, mode: &str, dest: &str| {
            let headers = [(SEC_FETCH_SITE, site), (SEC_FETCH_MODE, mode), (SEC_FETCH_DEST, dest)];
            is_of_another_site(&request(path, &headers))
        };
        for path in ["/", "/status", "/status.js"] {
            assert!(!super::is_of_another_site(&request(path, &[])), "no browser");
            for site in ["same-origin", "none"] {
                assert!(!is_of_another_site(path, site, "cors", "empty"), "{path} {site}");
                assert!(!is_of_another_site(path, site, "navigate", "document"), "{path} {site}");
            }
            for site in ["cross-site", "same-site", "", "what else there may be"] {
                assert!(is_of_another_site(path, site, "no-cors", "empty"), "{path} {site}");
                assert!(is_of_another_site(path, site, "navigate", "iframe"), "{path} {site}");
                assert_eq!(
                    is_of_another_site(path, site, "navigate", "document"),
                    path != "/",
                    "{path} {site}: a link"
                );
            }
        }
    }

    #[test]
    fn a_right_ends_with_its_key_and_that_of_loopback_never() {
        let [first, second] = ["the first operator key, long enough for one", "the second operator key, long enough"];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, first).unwrap();
        let settings = Settings { operator_key_file: Some(file.clone()), ..Settings::default() };
        let verifier = Arc::new(Verifier::load(&settings).unwrap());
        let right = |loopback, host: &str, authorization: &str| {
            let access = Arc::new(OperatorAccess::new(verifier.clone(), loopback));
            Right::of(access, &request("/status", &[(HOST, host), (AUTHORIZATION, authorization)]))
        };
        let basic = |key: &str| format!("Basic {}", STANDARD.encode(format!("anybody:{key}")));
        let rights = |key: &str| {
            let bearer = right(false, "gateway.example", &format!("Bearer {key}"));
            let rebound = right(true, "rebound.example", &basic(key));
            [bearer, right(false, "127.0.0.1", &basic(key)), rebound, right(true, "127.0.0.1", &basic(key))]
        };
        let (of_first, of_second) = (rights(first), rights(second));
        let hold = |rights: &[Right; 4]| rights.each_ref().map(Right::holds);
        assert_eq!((hold(&of_first), hold(&of_second)), ([true; 4], [false, false, false, true]));
        assert_eq!(of_first.each_ref().map(Right::is_brought_along), [false, true, true, true]);

        std::fs::write(&file, second).unwrap();
        verifier.reload().unwrap();
        assert_eq!((hold(&of_first), hold(&of_second)), ([false, false, false, true], [true; 4]));
        assert!(of_first[0].is_brought_along() && !of_second[0].is_brought_along());
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
