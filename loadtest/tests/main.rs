//! The program against small servers over real sockets: that it finds what is wrong, and nothing where all is well.

mod faults;
mod processes;
mod program;
mod redis;
mod scenarios;
mod server;
