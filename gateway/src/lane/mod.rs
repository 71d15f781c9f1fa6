//! Lanes move a connection's bytes to its socket. They decide nothing about events.
//!
//! | lane | what it serves |
//! |---|---|
//! | direct | `GET` for an event stream by HTTP/1.1, on event loops of ours |
//! | [`hyper`](mod@hyper) | through the HTTP library: all else, HTTP/1.0, HTTP/1.1 and HTTP/2, and whatever comes by TLS |
//!
//! Sockets come to the direct lane first, where there is one; what it does not serve it gives to the other. Those of a port that
//! speaks TLS come to the hyper lane alone.

mod accept;
mod body;
pub(crate) mod direct;
mod heads;
mod heard;
pub mod hyper;
mod response;
mod serve;
mod tls;
mod transport;
mod way;

pub use self::accept::bind;
pub use self::body::EventStream;
pub use self::heads::{DEFAULT_HEAD_TIMEOUT, DEFAULT_MAX_HEAD, Heads};
pub use self::serve::{DirectPort, LaneSettings, Peers, TlsPort, serve};
pub use self::transport::Transport;
pub use self::way::{Carried, Way};
