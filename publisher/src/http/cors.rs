//! Cross-origin requests: which pages of other origins may read a port.

use std::time::Duration;

use axum::Router;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION, ORIGIN, RETRY_AFTER};
use http::{HeaderValue, Method, Uri};
use tower_http::cors::{AllowCredentials, AllowOrigin, CorsLayer};

use super::request_id::X_REQUEST_ID;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a browser may remember a preflight; browsers cut it to what they like.
const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);

/// Who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Nobody.
    Closed,
    /// Everybody, without credentials.
    Any,
    /// These origins, with credentials.
    Origins(Vec<AllowedOrigin>),
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `scheme://host[:port]`: that one.
    Exact(String),
    /// `scheme://*.domain[:port]`: every host below the domain, however deep, and not the domain itself.
    Below {
        /// `scheme://`
        scheme: String,
        /// `.domain[:port]`
        domain: String,
    },
}

/// Why a text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// It has not that form.
    #[error(
        "{0:?} is not an origin such as https://app.example.com or https://*.example.com (\"*\" stands for all, and stands alone)"
    )]
    Form(String),
    /// No browser would ever name it so.
    #[error("{0:?} names the usual port of its scheme, which browsers leave out: it would let nobody in")]
    UsualPort(String),
}

impl Cors {
    /// From the setting: `*` for everybody, nothing for nobody.
    ///
    /// # Errors
    /// The first entry that is no origin, or `*` beside others.
    pub fn parse(origins: &[String]) -> Result<Self, OriginError> {
        if origins == ["*"] {
            return Ok(Self::Any);
        }
        let origins = origins.iter().map(|origin| AllowedOrigin::parse(origin)).collect::<Result<Vec<_>, _>>()?;
        Ok(if origins.is_empty() { Self::Closed } else { Self::Origins(origins) })
    }

    /// Whether pages of `origin` may send credentials along. Where everybody may read, nobody may that.
    #[must_use]
    pub fn allows_credentials(&self, origin: &HeaderValue) -> bool {
        matches!(self, Self::Origins(origins) if is_allowed(origins, origin))
    }

    /// Answers preflights for all of `router`, and says on every answer who may read it. `methods` are those that its routes
    /// take.
    pub fn apply<S: Clone + Send + Sync + 'static>(&self, router: Router<S>, methods: &[Method]) -> Router<S> {
        let layer = match self {
            Self::Closed => return router,
            // The same answer for all: caches need not tell origins apart.
            Self::Any => CorsLayer::new().allow_origin(AllowOrigin::any()).vary([]),
            Self::Origins(origins) => {
                let (for_origin, for_credentials) = (origins.clone(), origins.clone());
                CorsLayer::new()
                    .allow_origin(AllowOrigin::predicate(move |origin, _| is_allowed(&for_origin, origin)))
                    .allow_credentials(AllowCredentials::predicate(move |origin, _| {
                        is_allowed(&for_credentials, origin)
                    }))
                    // Of refused ones too, or a cache would hand their answer to a page that may read it.
                    .vary([ORIGIN])
            }
        };
        let layer = layer
            .allow_methods(methods.to_vec())
            .allow_headers([CONTENT_TYPE, AUTHORIZATION, CACHE_CONTROL, LAST_EVENT_ID])
            // Where the channel is that an answer or a job will be told on; when to try again; and what to report.
            .expose_headers([LOCATION, RETRY_AFTER, X_REQUEST_ID])
            .max_age(MAX_AGE);
        router.layer(layer)
    }
}

fn is_allowed(origins: &[AllowedOrigin], origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| origins.iter().any(|allowed| allowed.matches(origin)))
}

impl AllowedOrigin {
    /// As browsers write it: nothing behind the host and the port, no upper case.
    fn parse(text: &str) -> Result<Self, OriginError> {
        let form = || OriginError::Form(text.to_owned());
        let Some((scheme, host)) = text.split_once("://*.") else {
            check(text, text)?;
            return Ok(Self::Exact(text.to_owned()));
        };
        // A whole top-level domain is nobody's, and an address has nothing below it.
        let name = host.split(':').next().unwrap_or_default();
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_domain = name == "localhost" || name.contains('.');
        if !is_domain || !are_labels(name) || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(form());
        }
        check(&format!("{scheme}://{host}"), text)?;
        Ok(Self::Below { scheme: format!("{scheme}://"), domain: format!(".{host}") })
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(allowed) => allowed == origin,
            Self::Below { scheme, domain } => {
                let below = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**domain));
                below.is_some_and(are_labels)
            }
        }
    }
}

/// Whether `origin`, of which people wrote `text`, is one as browsers write it.
fn check(origin: &str, text: &str) -> Result<(), OriginError> {
    let form = || OriginError::Form(text.to_owned());
    let uri: Uri = origin.parse().map_err(|_| form())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(form()) };
    let strange = |b: u8| b.is_ascii_uppercase() || matches!(b, b'@' | b'*');
    let port = authority.port_u16();
    // What follows a colon and is no port at all is let pass by the parser.
    let no_port = authority.port().is_none() && authority.as_str().len() != authority.host().len();
    if format!("{scheme}://{authority}") != origin || origin.bytes().any(strange) || no_port {
        return Err(form());
    }
    if matches!((scheme, port), ("https", Some(443)) | ("http", Some(80))) {
        return Err(OriginError::UsualPort(text.to_owned()));
    }
    HeaderValue::from_str(origin).map(drop).map_err(|_| form())
}

/// One or more names of hosts, a dot between two.
fn are_labels(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(origins: &[&str]) -> Result<Cors, OriginError> {
        Cors::parse(&origins.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn lets_in(entry: &str, origin: &str) -> bool {
        let Ok(Cors::Origins(origins)) = parse(&[entry]) else { panic!("{entry}") };
        is_allowed(&origins, &HeaderValue::from_str(origin).unwrap())
    }

    #[test]
    fn settings() {
        assert_eq!(parse(&[]), Ok(Cors::Closed));
        assert_eq!(parse(&["*"]), Ok(Cors::Any));
        let expected = ["https://a.example", "http://localhost:5173"].map(|o| AllowedOrigin::Exact(o.to_owned()));
        assert_eq!(parse(&["https://a.example", "http://localhost:5173"]), Ok(Cors::Origins(expected.to_vec())));
    }

    #[test]
    fn refuses_what_no_browser_sends() {
        for wrong in [
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://a.example/x",
            "HTTPS://a.example",
            "https://A.example",
            "https://u@a.example",
            "https://a.example?x",
            "https://a.example:",
            "https://a.example:x",
            "https://a.example:65536",
            "https://*",
            "https://*.",
            "https://*.com",
            "https://*.*.example",
            "https://a.*.example",
            "https://*a.example",
            "https://*.Example.com",
            "https://*.example.com/",
            "https://*.example..com",
            "https://*.u@example.com",
            "https://*.0.0.1",
            "https://*.example.com:x",
            "*.example.com",
            "null",
        ] {
            assert_eq!(parse(&[wrong]), Err(OriginError::Form(wrong.to_owned())), "{wrong:?}");
        }
        for wrong in ["https://a.example:443", "http://a.example:80", "https://*.example.com:443"] {
            assert_eq!(parse(&[wrong]), Err(OriginError::UsualPort(wrong.to_owned())), "{wrong:?}");
        }
        assert!(parse(&["*", "https://a.example"]).is_err());
    }

    #[test]
    fn an_origin_is_let_in_as_a_whole_or_not_at_all() {
        for (entry, yes, no) in [
            (
                "https://app.example.com",
                &["https://app.example.com"][..],
                &[
                    "http://app.example.com",
                    "https://app.example.com:8443",
                    "https://app.example.com.evil.example",
                    "https://evilapp.example.com",
                    "https://example.com",
                    "null",
                ][..],
            ),
            ("http://localhost:5173", &["http://localhost:5173"], &["http://localhost", "http://localhost:5174"]),
            (
                "https://*.example.com",
                &["https://a.example.com", "https://a.b.example.com", "https://a-1.example.com"],
                &[
                    "https://example.com",
                    "https://.example.com",
                    "https://a..example.com",
                    "https://evilexample.com",
                    "https://a.example.com:8443",
                    "http://a.example.com",
                    "https://a.example.com.evil.example",
                    "https://evil.example/.example.com",
                    "https://evil.example:1.example.com",
                    "https://u@a.example.com",
                    "https://A.example.com",
                    "https://*.example.com",
                    "null",
                ],
            ),
            (
                "https://*.example.com:8443",
                &["https://a.example.com:8443"],
                &["https://a.example.com", "https://a.example.com:443", "https://a.example.com:84430"],
            ),
            ("http://*.localhost:5173", &["http://app.localhost:5173"], &["http://localhost:5173"]),
        ] {
            for origin in yes {
                assert!(lets_in(entry, origin), "{entry} has to let in {origin}");
            }
            for origin in no {
                assert!(!lets_in(entry, origin), "{entry} must not let in {origin}");
            }
        }
    }
}
