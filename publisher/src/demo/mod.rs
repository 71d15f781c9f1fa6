//! What the demo pages show, behind `demo = true`: moving figures ([`ticker`]), and jobs that take a while and tell how far
//! they are ([`Demo`], [`router`]). A gateway on the embedded broker that shows the pages mounts the same.
//!
//! | module | what it holds |
//! |---|---|
//! | `jobs` | the route `/demo/jobs`, how many jobs there may be, and their end with the process |
//! | `job` | one job: what it counts, and what it says meanwhile |
//! | `count` | lines, words, bytes and SHA-256 of a text that comes in pieces |
//! | [`ticker`] | when a figure is due, and on which channel |
//! | `figures` | the figures: random walks |
//!
//! It is an example of a producer, written as one would write one's own: over [`Publish`](crate::Publish) and
//! [`Cancel`](crate::Cancel), with `once` keys, so that a try is repeated without publishing twice.

mod count;
mod figures;
mod job;
mod jobs;
mod ticker;

#[cfg(test)]
mod fake;

pub use self::jobs::{Demo, MAX_JOB_BYTES, MAX_JOBS, router};
pub use self::ticker::ticker;
