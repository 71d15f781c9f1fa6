//! From what was measured to what it means. Pure: nothing here connects, waits, or asks for the time.

pub(super) mod address;
pub(super) mod answer;
pub(super) mod clocks;
pub(super) mod cors;
pub(super) mod events;
pub(super) mod idle;
pub(super) mod nodes;
pub(super) mod resume;
