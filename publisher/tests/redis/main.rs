//! The publisher library against a real Redis.
#![cfg(test)]

mod access;
mod batch;
mod broken;
mod cancel;
mod cluster;
mod cluster_moves;
mod errors;
mod history;
mod line;
mod lost_answers;
mod orders;
mod partitions;
mod receipts;
mod replicas;
mod sentinel;
mod support;
