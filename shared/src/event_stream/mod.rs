//! The WHATWG event stream format in bytes (`text/event-stream`): [`encode`] writes it, [`decode`] reads it, and each is
//! the other's inverse.

pub mod decode;
pub mod encode;

/// The media type.
pub const CONTENT_TYPE: &str = "text/event-stream";

#[cfg(test)]
mod inverse;
