//! Request bodies, never more of one in memory than is allowed, and the media type they come as.

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use shared::channel::MAX_CHANNEL_BYTES;

use super::Limits;
use super::problem::Problem;
use crate::publication::MAX_ONCE_BYTES;

/// Longest batch, in bytes: far more than the lines of a usual one, far less than what would hurt.
pub(super) const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// What stands around the data of a publish: channels, event name, once key, each as escaped as JSON allows, and white space.
const AROUND_DATA_BYTES: usize = 64 * 1024;

/// Longest JSON publish (or form) that could be valid, in bytes. A byte is written with at most six (`\u0000`); the data
/// get some more, so that white space in them is no matter, and the names theirs where many are allowed.
pub(super) fn max_json(limits: &Limits) -> usize {
    let names = limits.max_channels.saturating_mul(MAX_CHANNEL_BYTES) + limits.max_event_name + MAX_ONCE_BYTES;
    let escaped = limits.max_data.saturating_add(names).saturating_mul(6);
    limits.max_data.saturating_mul(8).max(escaped).saturating_add(AROUND_DATA_BYTES)
}

/// Reads a body of at most `limit` bytes. One that says it is longer is not read at all, any other only so far.
///
/// # Errors
/// 413 with `field` and `limit`; 400 when the body breaks off.
pub async fn read(body: Body, field: &'static str, limit: usize) -> Result<Bytes, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Problem::too_large(field, limit, "bytes"));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(field, limit, "bytes")),
        Err(_) => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "incomplete-body", "incomplete body");
            Err(problem.field(field).detail("the body broke off before its end"))
        }
    }
}

/// Whether the body comes as `media_type`, whatever its parameters.
pub fn has_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(http::HeaderValue::to_str) else { return false };
    let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
    essence.trim().eq_ignore_ascii_case(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let is_json = |value: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(value))]);
            has_media_type(&headers, "application/json")
        };
        for right in
            ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"]
        {
            assert!(is_json(right), "{right}");
        }
        for wrong in ["", ";", "application/jsonx", "application/x-ndjson", "text/plain; application/json"] {
            assert!(!is_json(wrong), "{wrong}");
        }
        assert!(!has_media_type(&HeaderMap::new(), "application/json"));
    }

    #[test]
    fn the_worst_valid_publish_fits() {
        let limits = Limits::default();
        let escaped = limits.max_data + limits.max_channels * 256 + limits.max_event_name + 128;
        assert!(max_json(&limits) > escaped * 6);
        assert_eq!(max_json(&limits), 589_824, "as documented");
        let many = Limits { max_channels: 1_024, max_data: 1, ..limits };
        assert!(max_json(&many) > 1_024 * (MAX_CHANNEL_BYTES * 6 + 3));
    }
}
