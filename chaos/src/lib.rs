//! Proves by breaking a real cluster that no durable event is lost, repeated or out of order, or that its clients were told
//! so by `sse.gap`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`fault`] | the faults by name |
//! | [`plan`] | what happens in a round, drawn from a seed |
//! | [`world`] | the cluster: [`store`] (Redis), [`node`] (gateways), [`link`] between them; [`lanes`]: by which lane each node serves |
//! | [`publishing`], [`client`] | who talks and who listens; [`record`]: what a listener lived through |
//! | [`partitions`] | which partition each channel belongs to |
//! | [`inflict`] | how each fault is done |
//! | [`oracle`] | what was owed against what was heard; pure |
//! | [`round`] | all of it, once; [`evidence`], [`tally`]: what is told of it |
//!
//! It starts everything that it breaks, and must not touch a process, port or folder that is not its own. Timing is not
//! drawn from the seed: the same seed does the same things, at about the same times.

pub mod client;
pub mod evidence;
pub mod fault;
pub mod inflict;
pub mod lanes;
pub mod link;
pub mod node;
pub mod oracle;
pub mod partitions;
pub mod plan;
pub mod publishing;
pub mod record;
pub mod round;
pub mod store;
pub mod tally;
pub mod world;
