//! End to end: the real binary, through its ports. One file a behaviour.

#![cfg(test)]
#![allow(unreachable_pub)] // one binary: every module's items are for the others

mod browser;
mod support;
