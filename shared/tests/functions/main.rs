//! The functions of `sse.lua`, on real servers: as a library of Redis and of Valkey, and as a script.
//!
//! A file a subject; each test runs in every place. The text is loaded here, not by `shared::redis`, so that what fails is
//! the text; only `loading` is about how that is done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what fails here is to fail the test
#![allow(clippy::print_stdout)] // shown of a test that fails: where it ran
#![allow(unreachable_pub)] // nothing is reachable from outside a test

mod cancel;
mod clock;
mod end;
mod expiry;
mod lease;
mod loading;
mod nodes;
mod once;
mod partitions;
mod payloads;
mod presence;
mod publish;
mod refused;
mod support;
