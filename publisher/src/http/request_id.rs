//! A name for each request: what a load balancer has called it, or one made here. It is answered back, stands in every line that
//! the log has of the request and in every problem, so that what a user reports can be found in the log.
//!
//! Nothing of it is left once the head of the answer is there, so an event stream costs no more for it.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::problem::Code;

/// Where a request's name stands, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest name that is taken from a client, in bytes.
pub const MAX_REQUEST_ID: usize = 128;
/// Most bytes of a path that a line of the log has.
const MAX_PATH: usize = 256;

tokio::task_local! {
    /// Of the request that is being answered. Set by [`name_request`], read by the problems that it is answered with.
    static CURRENT: HeaderValue;
}

/// Middleware that gives each request its name: the outermost, so that it is in every answer. A request that is refused is a
/// line of the log at `debug`.
pub async fn name_request(request: Request, next: Next) -> Response {
    let id = given(request.headers()).cloned().unwrap_or_else(made);
    // Where anything of a request is logged, its name is.
    let span = tracing::error_span!("request", request_id = id.to_str().unwrap_or_default());
    let answered = CURRENT.scope(id.clone(), answer(request, next));
    let mut response = answered.instrument(span).await;
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// The name of the request that is being answered here; `None` outside of [`name_request`].
pub(super) fn current() -> Option<HeaderValue> {
    CURRENT.try_with(Clone::clone).ok()
}

async fn answer(request: Request, next: Next) -> Response {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return next.run(request).await;
    }
    let (method, path, began) = (request.method().clone(), shown(request.uri().path()), Instant::now());
    let response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let Code { code, reason } = response.extensions().get().copied().unwrap_or_default();
        tracing::debug!(%method, path, status = status.as_u16(), code, reason, took = ?began.elapsed(), "refused a request");
    }
    response
}

/// The query may hold a token; the path holds names.
fn shown(path: &str) -> String {
    path.chars().take(MAX_PATH).collect()
}

/// One, of 1 to [`MAX_REQUEST_ID`] printable characters of ASCII without spaces.
fn given(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    let (Some(id), None) = (ids.next(), ids.next()) else { return None };
    let sound = (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    sound.then_some(id)
}

/// 64 random bits: nobody has to be unable to guess it.
fn made() -> HeaderValue {
    HeaderValue::from_str(&format!("{:016x}", fastrand::u64(..))).unwrap_or(HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(ids: &[&[u8]]) -> HeaderMap {
        ids.iter().map(|id| (X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap())).collect()
    }

    #[test]
    fn names_that_are_taken() {
        let longest = "x".repeat(MAX_REQUEST_ID);
        for id in ["a", "!~", "7f3c-\"{}\"=:;,", &longest] {
            assert_eq!(given(&headers(&[id.as_bytes()])).unwrap(), id);
        }
        let long = "x".repeat(MAX_REQUEST_ID + 1);
        let refused: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"a b"], &[b"a\tb"], &["é".as_bytes()], &[long.as_bytes()], &[b"a", b"b"]];
        for ids in refused {
            assert_eq!(given(&headers(ids)), None, "{ids:?}");
        }
    }

    #[test]
    fn names_that_are_made_differ_and_could_be_taken() {
        let [one, other] = [made(), made()];
        assert_ne!(one, other);
        assert_eq!(given(&HeaderMap::from_iter([(X_REQUEST_ID, one.clone())])), Some(&one));
    }
}
