//! What gateway and publisher both have to know of Redis: settings, how to connect, the functions they call, and the bytes
//! of a message.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | the `[redis]` section of either configuration |
//! | [`client`] | addresses without their secrets, connections with deadlines |
//! | [`functions`] | the function library: loaded when absent or older, called with FCALL or EVALSHA |
//! | [`mod@look`] | whether a server will do, for people who ask: nothing is changed there |
//! | [`server`] | one server, for as long as it is the one to go to |
//! | `url`, `sentinel`, `cluster` | what leads to a server: its address, or Sentinels or nodes of a Cluster that are asked for it |
//! | [`message`] | a durable message on the wire |
//! | [`start`] | the first connection of a process: what it needs of a server, and what it says when that is not there |
//!
//! It must not decide when to reconnect, retry or give up: that is the business of whoever holds the connection.

pub mod client;
mod cluster;
pub mod functions;
pub mod look;
pub mod message;
mod sentinel;
pub mod server;
pub mod settings;
pub mod start;
mod url;

pub use client::{Client, ClientError, describe, first_error};
pub use functions::{ClockReply, Functions, LeaseReply, NodesReply, PublishReply};
pub use look::{Finding, Need, look};
pub use server::Server;
pub use settings::Settings;
pub use start::{StartError, Started};
