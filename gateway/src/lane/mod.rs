//! Lanes move a connection's bytes to its socket. They decide nothing about events.
//!
//! [`hyper`](mod@hyper) is the lane through the HTTP library: HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge, all routes.

mod body;
pub mod hyper;
mod response;
mod transport;
mod way;

pub use self::body::EventStream;
pub use self::transport::Transport;
pub use self::way::{Carried, Way};
