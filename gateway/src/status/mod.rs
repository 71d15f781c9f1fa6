//! What the status page shows: this node's figures and who else is there, gathered on the operator port's thread and kept for
//! ten minutes, so that a page that opens knows what was before it.
//!
//! | file | what it holds |
//! |---|---|
//! | [`feed`] | what goes to those who watch, and how many may |
//! | [`gather`](mod@gather) | the task: looks once a second, keeps, tells |
//! | [`roll`] | which nodes there are, asked of the broker |
//! | `sample`, `quantile` | the metrics as numbers, and what lies between two readings of them |
//! | `ring` | the last ten minutes |
//! | `log`, `changes` | the last hundred changes of state, and how they are noticed |
//! | `text` | all of it as one JSON text |
//!
//! Nothing here is on the way of an event: what is shown is read from the metrics that there are anyway, once a second while somebody
//! watches and every five seconds otherwise. It must not ask Redis for more than which nodes there are.

mod changes;
pub mod feed;
pub mod gather;
mod log;
mod quantile;
mod ring;
pub mod roll;
mod sample;
mod text;

pub use self::feed::{Feed, MAX_WATCHERS, Watcher};
pub use self::gather::{Sources, gather};
pub use self::roll::Roll;
