//! What is done to find out, each with deadlines of its own. What it means is not decided here.

pub(super) mod clocks;
pub(super) mod cors;
pub(super) mod events;
pub(super) mod idle;
pub(super) mod nodes;
pub(super) mod resume;
