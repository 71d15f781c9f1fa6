//! The demo pages: plain [files](super::files) in the program itself. `/` and `/demo/<file>`, for a node that shows them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderMap;
use publisher::http::not_found;

use super::Node;
use super::files::{CSS, File, HTML, SCRIPT, file};

/// The page at `/`.
const INDEX: &str = "index.html";

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
    file.serve(headers)
}

#[cfg(test)]
mod tests;
