//! Files that are in the program itself: pages, and what they load.
//!
//! They are read again with each visit (`no-cache`), by their `ETag` where nothing changed. They have no script or style
//! in their text and load nothing from elsewhere, and browsers are told to hold them to that.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, StatusCode};

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

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

/// One of them.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    pub(super) text: &'static str,
}

pub(super) const fn file(name: &'static str, media_type: &'static str, text: &'static str) -> File {
    File { name, media_type, text }
}

impl File {
    /// It, or that the client has it.
    pub(super) fn serve(&self, headers: &HeaderMap) -> Response {
        let tag = tag(self.text);
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        if known.into_iter().any(|known| matches(known, &tag)) {
            return (StatusCode::NOT_MODIFIED, HEADERS, [(ETAG, tag)]).into_response();
        }
        (HEADERS, [(ETAG, tag), (CONTENT_TYPE, self.media_type.to_owned())], self.text).into_response()
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_again_in_any_list() {
        let tag = tag("a");
        assert_ne!(tag, super::tag("b"));
        for known in ["*", &tag, &format!("W/{tag}"), &format!("\"x\", {tag}"), &format!("\"x\",W/{tag} , \"y\"")] {
            assert!(matches(known, &tag), "{known}");
        }
        for other in ["", "\"x\"", tag.trim_matches('"')] {
            assert!(!matches(other, &tag), "{other}");
        }
    }
}
