//! The publish routes, asked as a client asks them, over a broker that writes down what it was asked to publish.
#![cfg(test)]

mod any_bytes;
mod auth;
mod batch;
mod bodies;
mod cancel;
mod census;
mod history;
mod mounting;
mod notify;
mod one;
mod rate;
mod raw;
mod several;
mod support;
mod wrong;
