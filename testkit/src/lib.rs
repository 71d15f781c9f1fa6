//! What the tests of several crates share: real servers that they start, our own binaries, and patience without sleeping.
//!
//! For tests, and for `chaos` and `sse-bench`, which start what tests start: nothing that is shipped may depend on it, and it
//! depends on no crate of ours. It must not start anything that outlives its test, nor use a port or folder that is not its
//! own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what fails here is to fail the test

mod binary;
mod certificates;
pub mod manual;
mod patience;
mod ports;
mod prometheus;
mod proxy;
mod redis;
mod redis_cluster;
mod sentinels;
mod tls;
mod tokens;

pub use binary::binary;
pub use certificates::Certificates;
pub use patience::{PATIENCE, eventually, eventually_within, soon};
pub use ports::free_ports;
pub use prometheus::{Prometheus, promtool};
pub use proxy::Proxy;
pub use redis::{RedisServer, RedisServerBuilder};
pub use redis_cluster::{RedisCluster, RedisClusterBuilder, SLOTS};
pub use sentinels::{SENTINEL_NAME, Sentinels, SentinelsBuilder};
pub use tls::{TlsStream, TlsTunnel, tls_client, tls_connect};
pub use tokens::TokenKey;

use std::path::{Path, PathBuf};

/// The folder of the whole workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
