//! What one event stream says, from the bytes of its socket to its events. Pure: it must not know sockets or time.
//!
//! Neither keeps anything between two reads that end where a block ends, which is nearly always: a connection costs a few
//! dozen bytes.

pub(crate) mod answer;
pub(crate) mod blocks;
