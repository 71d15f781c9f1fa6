//! Who may come in on the public port: what the publish routes have too, with the node's own counters and its list of origins.

use std::sync::Arc;

use publisher::http::auth::Auth;
use shared::auth::Verifier;

use super::Cors;
use crate::metrics;

/// What the middleware works with. Cookies are taken from pages of the origins that `cors` lists, and from the port's own.
#[must_use]
pub fn auth(verifier: Arc<Verifier>, cors: &Cors) -> Arc<Auth> {
    let cors = cors.clone();
    Auth::new(verifier, metrics::auth(), move |origin| cors.allows_credentials(origin))
}
