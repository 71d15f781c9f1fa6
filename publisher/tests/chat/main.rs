//! Answers over a real Redis, from a real HTTP server as the upstream, asked for by HTTP.
#![cfg(test)]

mod answers;
mod failures;
mod outages;
mod support;
