//! The demo pages: plain files, in the program itself. `/` and `/demo/<file>`, for a node that shows them.
//!
//! They are read again with each visit (`no-cache`), by their `ETag` where nothing changed. They have no script or style
//! in their text and load nothing from elsewhere, and browsers are told to hold them to that.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, StatusCode};
use publisher::http::not_found;

use super::Node;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What a page may load, and who may show it in a frame. `data:` is for icons.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";
/// What every file comes with.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // What `frame-ancestors` says, for browsers that do not know it.
    (X_FRAME_OPTIONS, "DENY"),
    // No page that opened this one can reach into it, and none that it opens.
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
];

/// The page at `/`.
const INDEX: &str = "index.html";

struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const fn file(name: &'static str, media_type: &'static str, text: &'static str) -> File {
    File { name, media_type, text }
}

/// All of them; a test compares this with the folder.
static FILES: &[File] = &[
    file(INDEX, HTML, include_str!("demo/index.html")),
    file("index.js", SCRIPT, include_str!("demo/index.js")),
    file("notifications.html", HTML, include_str!("demo/notifications.html")),
    file("notifications.js", SCRIPT, include_str!("demo/notifications.js")),
    file("answer.html", HTML, include_str!("demo/answer.html")),
    file("answer.js", SCRIPT, include_str!("demo/answer.js")),
    file("answer-view.js", SCRIPT, include_str!("demo/answer-view.js")),
    file("dashboard.html", HTML, include_str!("demo/dashboard.html")),
    file("dashboard.js", SCRIPT, include_str!("demo/dashboard.js")),
    file("dashboard-view.js", SCRIPT, include_str!("demo/dashboard-view.js")),
    file("progress.html", HTML, include_str!("demo/progress.html")),
    file("progress.js", SCRIPT, include_str!("demo/progress.js")),
    file("progress-view.js", SCRIPT, include_str!("demo/progress-view.js")),
    file("scale.html", HTML, include_str!("demo/scale.html")),
    file("scale.js", SCRIPT, include_str!("demo/scale.js")),
    file("connection.js", SCRIPT, include_str!("demo/connection.js")),
    file("page.js", SCRIPT, include_str!("demo/page.js")),
    file("style.css", CSS, include_str!("demo/style.css")),
];

/// `/` and `/demo/{file}`; wrong methods and unknown paths are left to whoever mounts it.
pub(super) fn router() -> Router<Arc<Node>> {
    Router::new().route("/", get(index)).route("/demo/{file}", get(by_name))
}

async fn index(headers: HeaderMap) -> Response {
    serve(INDEX, &headers).await
}

async fn by_name(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    // A name that is no text is that of no file.
    let name = path.map_or_else(|_| String::new(), |Path(name)| name);
    serve(&name, &headers).await
}

async fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else { return not_found().await.into_response() };
    let tag = tag(file.text);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.into_iter().any(|known| matches(known, &tag)) {
        return (StatusCode::NOT_MODIFIED, HEADERS, [(ETAG, tag)]).into_response();
    }
    (HEADERS, [(ETAG, tag), (CONTENT_TYPE, file.media_type.to_owned())], file.text).into_response()
}

/// Of the content alone, so that all nodes of one build say the same.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` names this tag. A proxy that compressed an answer has made it a weak one (`W/`).
fn matches(known: &str, tag: &str) -> bool {
    known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests;
