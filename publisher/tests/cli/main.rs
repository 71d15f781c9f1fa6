//! The program `sse-publisher` as people and scripts use it: real processes, a real Redis.
#![cfg(test)]

mod cancel;
mod check;
mod demo;
mod doctor;
mod drain;
mod history;
mod listen;
mod outage;
mod pipe;
mod publish;
mod relay;
mod request_ids;
mod serve;
mod start;
mod support;
mod tls;
