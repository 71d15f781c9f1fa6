//! The answer as the response's own body: the channel's events as they are published, for whoever asked.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{StreamExt as _, once, unfold};
use shared::event_stream::encode;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Events that may wait for a slow client, beyond what its socket takes. One is 100 bytes as a rule, 50 KB at most.
const QUEUE: usize = 32;
/// Longest silence, well within what proxies allow.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client that speaks the format comes back.
const RETRY: Duration = Duration::from_secs(3);

/// Where a producer puts blocks, and what reads them.
pub(super) fn queue() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(QUEUE)
}

/// A body of what comes from `blocks`, until nothing comes any more. Never ends a silence itself.
pub(super) fn body(blocks: mpsc::Receiver<Bytes>) -> Body {
    let mut first = Vec::new();
    encode::retry(&mut first, RETRY);
    encode::end(&mut first);
    let rest = unfold(blocks, async |mut blocks| {
        let block = match timeout(KEEP_ALIVE, blocks.recv()).await {
            Ok(block) => block?,
            Err(_) => comment(),
        };
        Some((block, blocks))
    });
    let first = once(std::future::ready(Bytes::from(first)));
    Body::from_stream(first.chain(rest).map(Ok::<_, std::convert::Infallible>))
}

fn comment() -> Bytes {
    let mut comment = Vec::new();
    encode::comment(&mut comment, "");
    comment.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_broken_and_the_end_is_the_end() {
        let (sender, blocks) = queue();
        let mut body = body(blocks);
        let mut next = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
        assert_eq!(next().await.unwrap(), "retry: 3000\n\n");
        let start = Instant::now();
        assert_eq!(next().await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed(), KEEP_ALIVE);
        sender.try_send("data: x\n\n".into()).unwrap();
        drop(sender);
        assert_eq!(next().await.unwrap(), "data: x\n\n");
        assert_eq!(next().await, None);
        assert_eq!(start.elapsed(), KEEP_ALIVE);
    }
}
