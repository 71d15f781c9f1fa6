//! What clients may expect of a connection, by whichever lane its bytes go: the direct lane and the hyper lane differ in what
//! they cost, and in nothing that a client sees.

mod answers;
mod crowds;
mod exchange;
mod heads;
mod leaving;
mod pipelining;
mod reading;
mod smuggling;
mod splitting;
mod waiting;
