//! The program against small servers over real sockets: that it finds what is wrong, and nothing where all is well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what fails here is to fail the test

mod faults;
mod processes;
mod program;
mod redis;
mod scenarios;
mod server;
