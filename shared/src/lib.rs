//! Words and wire formats that the gateway, the publisher and the load tester all speak.
//!
//! | module | what it holds |
//! |---|---|
//! | [`channel`] | names of topics, validated |
//! | [`position`] | order of durable events: [`Position`](position::Position), [`Epoch`](position::Epoch) |
//! | [`continuity`] | whether events follow on from where a reader is, or which gap there is |
//! | [`cursor`] | what a client sends back in `Last-Event-ID` |
//! | [`event`] | the four fields of the WHATWG event stream format |
//! | [`event_stream`] | that format in bytes: encoder and incremental decoder |
//! | [`envelope`] | the JSON in which an event travels to the gateways |
//! | [`keys`] | names in Redis, and which partition a channel belongs to |
//! | [`order`] | what all nodes are told to do with streams and tokens |
//! | [`census`] | what nodes say of themselves, and how they are asked for their connections |
//! | [`redis`] | settings, connections, the function library, and a message's bytes |
//! | [`net`] | sockets to listen on and to accept: bound, timed, closed without taking an answer away |
//! | [`auth`] | tokens and the operator key: who may read and publish what |
//! | [`config`] | layers of configuration, loaded with errors a person can act on |
//! | [`telemetry`] | logs and the metrics recorder |
//! | [`metrics`], [`process`] | how a metric is declared; what the system knows of this process |
//! | [`signals`], [`reload`] | when a process is to end, or to read again what it can |
//!
//! Only [`redis`] and [`net`] open sockets, and only when asked to.

pub mod auth;
pub mod census;
pub mod channel;
pub mod config;
pub mod continuity;
pub mod cursor;
pub mod envelope;
pub mod event;
pub mod event_stream;
pub mod keys;
pub mod metrics;
pub mod net;
pub mod order;
pub mod position;
pub mod process;
pub mod redis;
pub mod reload;
pub mod signals;
pub mod telemetry;
