//! Publishing: what a backend says ([`Publication`]), who carries it out ([`Publish`]), and the HTTP routes over that
//! seam ([`http`]).
//!
//! A gateway on its embedded broker mounts the same routes, so that one process is enough to begin with.

pub mod http;
pub mod metrics;
mod publication;

pub use publication::{
    DEFAULT_HISTORY, DEFAULT_TTL, MAX_ONCE_BYTES, ONCE_TTL, Once, OnceError, Publication, Publish, PublishError,
    Receipt,
};
