//! End to end: the real binary, through its ports. One file a behaviour.

#![cfg(test)]
#![allow(unreachable_pub)] // one binary: every module's items are for the others

mod auth;
mod bad_input;
mod broker_contract;
mod catch_up;
mod census;
mod channel_settings;
mod check;
mod check_connect;
mod closed_tab;
mod cluster;
mod connect;
mod contract;
mod cors;
mod demo;
mod history;
mod hostile;
mod lanes;
mod layers;
mod leases;
mod limits;
mod load_balancers;
mod losing_redis;
mod monitoring;
mod on_redis;
mod operator;
mod presence;
mod redis_acl;
mod redis_away;
mod redis_cluster;
mod reload;
mod request_ids;
mod resume;
mod sentinel;
mod slow;
mod start;
mod status;
mod stop;
mod streams;
mod support;
mod tls;
mod versions;
