//! What every test here needs: a gateway of its own, clients that read event streams, and patience without sleeping.

mod gateway;
mod raw;
mod stream;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use gateway::{Exit, Gateway};
pub use raw::Raw;
pub use stream::Stream;

/// How long anything may take to come true; far longer than it should, so that a busy machine fails nothing.
pub const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is an answer; fails with `what` when there was none for [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = check().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(PAUSE).await;
    }
}

/// Waits for `future`; fails with `what` when it takes longer than [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
