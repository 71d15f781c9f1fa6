//! Publishing: what a backend says ([`Publication`]), who carries it out ([`Publish`]) and holds the history
//! ([`Channels`]), and the HTTP routes over these seams ([`http`]).
//!
//! A gateway on its embedded broker mounts the same routes, so that one process is enough to begin with.

mod cancel;
pub mod census;
mod channel_settings;
mod channels;
pub mod chat;
pub mod cli;
pub mod config;
pub mod demo;
mod event;
mod health;
pub mod http;
pub mod metrics;
mod operator;
pub mod orders;
pub mod producers;
mod publication;
mod publisher;
mod random;
pub mod serve;
mod server;

pub use cancel::{CANCEL_TTL, Cancel, Waiter, Waiters};
pub use channel_settings::{ChannelRule, ChannelSettings, Configured, MAX_RULE_HISTORY, MAX_RULE_TTL};
pub use channels::{Channels, HistoryEntry, HistoryPage, LastEvent, MAX_HISTORY_BYTES};
pub use event::Event;
pub use publication::{
    DEFAULT_HISTORY, DEFAULT_TTL, MAX_ONCE_BYTES, MAX_TTL, ONCE_TTL, Once, OnceError, Publication, Publish,
    PublishError, Receipt,
};
pub use publisher::{ConnectError, Publisher};
