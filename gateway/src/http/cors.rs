//! Cross-origin requests: which pages of other origins may read the public port.

use std::time::Duration;

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderValue, Method, Uri};
use tower_http::cors::{AllowOrigin, CorsLayer};

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
    Origins(Vec<HeaderValue>),
}

/// Why a text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin such as https://app.example.com (\"*\" stands for all, and stands alone)")]
pub struct OriginError(String);

impl Cors {
    /// From the setting: `*` for everybody, nothing for nobody.
    ///
    /// # Errors
    /// The first entry that is no origin, or `*` beside others.
    pub fn parse(origins: &[String]) -> Result<Self, OriginError> {
        if origins == ["*"] {
            return Ok(Self::Any);
        }
        let origins = origins.iter().map(|origin| parse_origin(origin)).collect::<Result<Vec<_>, _>>()?;
        Ok(if origins.is_empty() { Self::Closed } else { Self::Origins(origins) })
    }

    /// Whether pages of `origin` may send credentials along. Where everybody may read, nobody may that.
    pub(super) fn allows_credentials(&self, origin: &HeaderValue) -> bool {
        matches!(self, Self::Origins(origins) if origins.contains(origin))
    }

    pub(super) fn layer(&self) -> CorsLayer {
        let layer = match self {
            Self::Closed => return CorsLayer::new(),
            Self::Any => CorsLayer::new().allow_origin(AllowOrigin::any()),
            Self::Origins(origins) => {
                CorsLayer::new().allow_origin(AllowOrigin::list(origins.iter().cloned())).allow_credentials(true)
            }
        };
        layer
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([CONTENT_TYPE, AUTHORIZATION, CACHE_CONTROL, LAST_EVENT_ID])
            // Where the channel is that an answer or a job will be told on.
            .expose_headers([LOCATION])
            .max_age(MAX_AGE)
    }
}

/// `scheme://host[:port]`, as browsers write it: nothing after it, no upper case.
fn parse_origin(text: &str) -> Result<HeaderValue, OriginError> {
    let error = || OriginError(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| error())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(error()) };
    if format!("{scheme}://{authority}") != text || text.contains('@') || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(error());
    }
    HeaderValue::from_str(text).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(origins: &[&str]) -> Result<Cors, OriginError> {
        Cors::parse(&origins.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn settings() {
        assert_eq!(parse(&[]), Ok(Cors::Closed));
        assert_eq!(parse(&["*"]), Ok(Cors::Any));
        let expected = ["https://a.example", "http://localhost:5173"].map(HeaderValue::from_static);
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
        ] {
            assert_eq!(parse(&[wrong]), Err(OriginError(wrong.to_owned())), "{wrong:?}");
        }
        assert!(parse(&["*", "https://a.example"]).is_err());
    }
}
