//! What every test here needs: a gateway of its own, clients that read event streams, and patience without sleeping.

mod gateway;
mod raw;
mod service;
mod stream;

pub use gateway::{Builder, Exit, Gateway, Lane};
pub use raw::Raw;
pub use service::Service;
pub use stream::Stream;
pub use testkit::{PATIENCE, eventually, soon};
