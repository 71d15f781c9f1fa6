//! Errors as clients get them: problem details, RFC 9457, with what is wrong in `field` and what would be right in `limit`.
//!
//! It says what a person needs to put it right, and must not repeat secrets or data.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use shared::channel::{ChannelError, MAX_CHANNEL_BYTES};

use super::request_id;
use crate::PublishError;

/// Most characters of a client's own key that it is told back.
pub(super) const MAX_TOLD: usize = 64;
/// What stands before a problem's code in its `type`.
const TYPE_PREFIX: &str = "urn:problem:sse:";

/// The bound that was passed, or what would have been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Limit {
    /// A number, in the unit of the field.
    Number(u64),
    /// Anything else, such as a list of media types.
    Text(Cow<'static, str>),
}

impl From<usize> for Limit {
    fn from(number: usize) -> Self {
        // No pointer is wider than 64 bits.
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<u64> for Limit {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&'static str> for Limit {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

/// One error: an `application/problem+json` response, or the same object as one line of a batch's answer.
///
/// Members, in this order: `type`, `title`, `status`, and where there are any `detail`, `field`, `limit`; in a response
/// `request_id` too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    limit: Option<Limit>,
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem of type `urn:problem:sse:<code>`, the code in kebab case. A code always has the same status and title.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title, detail: Cow::Borrowed(""), field: None, limit: None, retry_after: None }
    }

    /// 400: a value breaks a rule.
    #[must_use]
    pub fn invalid(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-value", "invalid value").field(field).detail(detail)
    }

    /// 400: a value is not what it has to be, `wanted` with its article.
    #[must_use]
    pub fn wrong_type(field: impl Into<Cow<'static, str>>, wanted: &str) -> Self {
        let field = field.into();
        let detail = format!("{field} has to be {wanted}");
        Self::new(StatusCode::BAD_REQUEST, "wrong-type", "wrong type").field(field).detail(detail)
    }

    /// 400: a value is lacking.
    #[must_use]
    pub fn missing(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "missing-value", "missing value").field(field).detail(detail)
    }

    /// 400: given more than once.
    #[must_use]
    pub fn duplicate_key(field: impl Into<Cow<'static, str>>) -> Self {
        let field = field.into();
        let detail = format!("{field} is given more than once");
        Self::new(StatusCode::BAD_REQUEST, "duplicate-key", "duplicate key").field(field).detail(detail)
    }

    /// 400: two keys that are each right contradict each other.
    #[must_use]
    pub fn conflict(field: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "conflicting-keys", "conflicting keys").field(field).detail(detail)
    }

    /// 400: a name that only the cluster itself may use.
    #[must_use]
    pub fn reserved(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "reserved-name", "reserved name").field(field).detail(detail)
    }

    /// 403: a channel that may not be read, or published to, by who asks.
    #[must_use]
    pub fn not_granted(field: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "channel-not-granted", "channel not granted").field(field)
    }

    /// 400: not a channel name.
    #[must_use]
    pub fn channel(field: impl Into<Cow<'static, str>>, error: ChannelError) -> Self {
        let problem = Self::invalid(field, error.to_string());
        match error {
            ChannelError::TooLong { .. } => problem.limit(MAX_CHANNEL_BYTES),
            ChannelError::Empty | ChannelError::Character { .. } => problem,
        }
    }

    /// 400: not JSON, or not the kind of value it has to be. The text begins at `line` of the body (from 1).
    #[must_use]
    pub fn malformed_json(error: &serde_json::Error, line: usize) -> Self {
        if error.is_data() {
            return Self::wrong_type("body", "a JSON object");
        }
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = text.strip_suffix(&place).unwrap_or(&text);
        let (line, column) = (line + error.line().saturating_sub(1), error.column());
        Self::new(StatusCode::BAD_REQUEST, "malformed-json", "malformed JSON")
            .field("body")
            .detail(format!("{reason} at line {line} column {column}"))
    }

    /// 422: a key that this body does not have. What is told back of it is cut to 64 characters.
    #[must_use]
    pub fn unknown_key(key: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        let told: String = key.chars().take(MAX_TOLD).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-key", "unknown key").field(told).detail(detail)
    }

    /// 415: the body comes as something else than `taken`.
    #[must_use]
    pub fn unsupported_type(taken: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "unsupported media type")
            .field("content-type")
            .detail(detail)
            .limit(Limit::Text(Cow::Borrowed(taken)))
    }

    /// 413: more than `limit` of `unit`.
    #[must_use]
    pub fn too_large(field: &'static str, limit: usize, unit: &str) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "too large")
            .field(field)
            .detail(format!("{field} has more than {limit} {unit}"))
            .limit(limit)
    }

    /// What is wrong with this request, for a person to read: lower case, no full stop.
    #[must_use]
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Where in the request it is, as the client wrote it.
    #[must_use]
    pub fn field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The bound that was passed, or what would be taken.
    #[must_use]
    pub fn limit(self, limit: impl Into<Limit>) -> Self {
        Self { limit: Some(limit.into()), ..self }
    }

    /// When to try again, in whole seconds; at least 1, so that nobody comes back at once. Only a response carries it, as
    /// `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    /// Whether a bound was passed that is a number.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        matches!(self.limit, Some(Limit::Number(_)))
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Unavailable { retry_after, .. } => {
                // Rounded up: coming back too early is what the header is there to prevent.
                let seconds = retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0));
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "broker not available")
                    .detail(detail)
                    .retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
            }
            PublishError::Refused { field, .. } => Self::invalid(field, detail),
            PublishError::Rejected { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "broker-error", "broker error").detail(detail)
            }
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write(&mut map)?;
        map.end()
    }
}

impl Problem {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("type", &format_args!("{TYPE_PREFIX}{}", self.code))?;
        map.serialize_entry("title", self.title)?;
        map.serialize_entry("status", &self.status.as_u16())?;
        if !self.detail.is_empty() {
            map.serialize_entry("detail", &self.detail)?;
        }
        if let Some(field) = &self.field {
            map.serialize_entry("field", field)?;
        }
        if let Some(limit) = &self.limit {
            map.serialize_entry("limit", limit)?;
        }
        Ok(())
    }
}

/// A problem as the answer to the request of that name.
struct Answered<'a>(&'a Problem, Option<&'a str>);

impl Serialize for Answered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.write(&mut map)?;
        if let Some(id) = self.1 {
            map.serialize_entry("request_id", id)?;
        }
        map.end()
    }
}

/// What the log has of an answer that is a problem; in its extensions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Code {
    pub(super) code: &'static str,
    /// Of who is not let in.
    pub(super) reason: Option<&'static str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let id = request_id::current();
        let answered = Answered(&self, id.as_ref().and_then(|id| id.to_str().ok()));
        let mut response = (self.status, headers, Json(answered)).into_response();
        response.extensions_mut().insert(Code { code: self.code, reason: None });
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn members_in_order_and_only_those_there() {
        let full = Problem::new(StatusCode::BAD_REQUEST, "some-code", "t").limit(7_u64).field("f").detail("d");
        assert_eq!(
            serde_json::to_string(&full).unwrap(),
            r#"{"type":"urn:problem:sse:some-code","title":"t","status":400,"detail":"d","field":"f","limit":7}"#
        );
        let bare = Problem::new(StatusCode::NOT_FOUND, "c", "t");
        assert_eq!(serde_json::to_string(&bare).unwrap(), r#"{"type":"urn:problem:sse:c","title":"t","status":404}"#);
        let text = serde_json::to_string(&bare.limit("a, b")).unwrap();
        assert!(text.ends_with(r#""limit":"a, b"}"#), "{text}");
    }

    #[test]
    fn what_a_broker_says() {
        let text = |error: PublishError| serde_json::to_string(&Problem::from(error)).unwrap();
        assert_eq!(
            text(PublishError::Refused { field: "once", reason: "once is for durable events".into() }),
            r#"{"type":"urn:problem:sse:invalid-value","title":"invalid value","status":400,"detail":"once is for durable events","field":"once"}"#
        );
        assert_eq!(
            text(PublishError::Rejected { reason: "WRONGTYPE x".into() }),
            r#"{"type":"urn:problem:sse:broker-error","title":"broker error","status":500,"detail":"the broker refuses: WRONGTYPE x"}"#
        );
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        let seconds = |retry_after| {
            let error = PublishError::Unavailable { reason: "x".into(), retry_after };
            let response = Problem::from(error).into_response();
            response.headers()[RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(seconds(Duration::ZERO), "1");
        assert_eq!(seconds(Duration::from_millis(1)), "1");
        assert_eq!(seconds(Duration::from_secs(2)), "2");
        assert_eq!(seconds(Duration::from_millis(2_001)), "3");
        assert_eq!(seconds(Duration::MAX), u32::MAX.to_string());
    }
}
