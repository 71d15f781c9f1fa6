//! The status page on the operator port: [files](super::files) at `/`, and `/status`, the event stream that it lives on.
//!
//! That stream is none of the hub's: it has to go on while the node stops, takes no more, or has lost Redis.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use publisher::http::problem::Problem;
use shared::event_stream::{self, encode};

use super::files::{CSS, File, HTML, SCRIPT, file};
use super::operator::Right;
use crate::status::{Feed, MAX_WATCHERS, Watcher};

/// When a page comes back whose stream broke.
const RETRY: Duration = Duration::from_secs(2);
/// When to try again where too many watch, in seconds.
const FULL_RETRY_AFTER: u32 = 5;

/// Each is at its name, the page at `/`.
static PAGE: File = file("index.html", HTML, include_str!("status/index.html"));
static FILES: [File; 4] = [
    file("status.css", CSS, include_str!("status/status.css")),
    file("status.js", SCRIPT, include_str!("status/status.js")),
    file("view.js", SCRIPT, include_str!("status/view.js")),
    file("chart.js", SCRIPT, include_str!("status/chart.js")),
];

/// The page, what it loads, and its stream. Who may see it is for whoever mounts it, who gives each request its [`Right`].
pub(super) fn router(feed: Arc<Feed>) -> Router {
    let mut router = Router::new().route("/", page(&PAGE)).route("/status", get(watch).with_state(feed));
    for file in &FILES {
        router = router.route(&format!("/{}", file.name), page(file));
    }
    router
}

fn page(file: &'static File) -> axum::routing::MethodRouter {
    get(move |headers: HeaderMap| async move { file.serve(&headers) })
}

async fn watch(State(feed): State<Arc<Feed>>, Extension(right): Extension<Right>) -> Response {
    let Some(watcher) = feed.watch() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-watchers", "too many watchers")
            .detail("as many watch the status of this node as may")
            .limit(MAX_WATCHERS)
            .retry_after(FULL_RETRY_AFTER)
            .into_response();
    };
    let headers = [
        (CONTENT_TYPE, event_stream::CONTENT_TYPE),
        (CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body(watcher, right)).into_response()
}

/// `retry:` first, then an event a second, to the end of the process, or of the right to it: a page comes back then, and is asked anew.
fn body(watcher: Watcher, right: Right) -> Body {
    let mut retry = Vec::new();
    encode::retry(&mut retry, RETRY);
    encode::end(&mut retry);
    let texts = stream::unfold((watcher, right), |(mut watcher, right)| async move {
        let text = watcher.next().await?;
        right.holds().then_some((text, (watcher, right)))
    });
    let bytes = stream::once(async { Bytes::from(retry) }).chain(texts);
    Body::from_stream(bytes.map(Ok::<_, Infallible>))
}

#[cfg(test)]
mod tests;
