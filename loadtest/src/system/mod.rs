//! What the operating system says of processes and memory. It must not start or stop anything.

pub(crate) mod memory;
pub(crate) mod process;
