//! The gateway: holds event streams and delivers to them what a broker brings.
//!
//! Who may import whom: `http > lane > connection > hub > broker > shared`, left may use right, never back. An event enters
//! by [`broker`], waits in a channel log of the [`hub`], is read by a [`connection`] and moved to its socket by a [`lane`];
//! [`http`] opens connections, [`app`] owns every task, [`shutdown`] is the written order in which they end. [`demo`] is what
//! the demo pages need besides, and [`status`] what the status page shows.

pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod connection;
pub mod demo;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod hub;
pub mod lane;
pub mod metrics;
pub mod shutdown;
pub mod status;
