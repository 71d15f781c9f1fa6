//! What goes to those who watch: one text after the other, each whole by itself. Whoever reads slowly misses some and holds up
//! nobody; what is kept for all of them together is the latest.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Most that watch at a time: each is a socket, and a text a second.
pub const MAX_WATCHERS: usize = 32;

/// Share it by `Arc`.
#[derive(Debug)]
pub struct Feed {
    /// The latest text, as it goes to sockets; `None` once there will be no more. Written by `gather` and `close`.
    texts: watch::Sender<Option<Bytes>>,
    /// Changes whenever somebody begins to watch.
    begun: watch::Sender<()>,
    places: Arc<Semaphore>,
}

/// One who watches. Dropping it gives its place back.
#[derive(Debug)]
pub struct Watcher {
    texts: watch::Receiver<Option<Bytes>>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// Nobody watches, and there is no text.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let texts = watch::channel(Some(Bytes::new())).0;
        Arc::new(Self { texts, begun: watch::channel(()).0, places: Arc::new(Semaphore::new(MAX_WATCHERS)) })
    }

    /// One more who watches, from the next text on, which is made for it at once; `None` where there are [`MAX_WATCHERS`].
    #[must_use]
    pub fn watch(&self) -> Option<Watcher> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let watcher = Watcher { texts: self.texts.subscribe(), _place: place };
        self.begun.send_replace(());
        Some(watcher)
    }

    /// Whether anybody watches.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.texts.receiver_count() > 0
    }

    /// Changes whenever somebody begins to watch, from now on.
    pub(super) fn begun(&self) -> watch::Receiver<()> {
        self.begun.subscribe()
    }

    /// Gives `text` to everybody, unless it is closed.
    pub(super) fn tell(&self, text: Bytes) {
        self.texts.send_if_modified(|latest| {
            let is_open = latest.is_some();
            if is_open {
                *latest = Some(text);
            }
            is_open
        });
    }

    /// Ends for everybody, also for those who come later.
    pub fn close(&self) {
        self.texts.send_replace(None);
    }
}

impl Watcher {
    /// The next text. Those that came while nobody asked are left out, but for the last. `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.texts.borrow().is_none() {
            return None;
        }
        self.texts.changed().await.ok()?;
        self.texts.borrow_and_update().clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_next_text_whole_and_none_that_was_there_before() {
        let feed = Feed::new();
        feed.tell(Bytes::from_static(b"old"));
        let mut begun = feed.begun();
        let mut watcher = feed.watch().unwrap();
        assert!(begun.has_changed().unwrap(), "whoever gathers is told");
        begun.mark_unchanged();
        assert_eq!(watcher.next().now_or_never(), None);
        for text in ["1", "2", "3"] {
            feed.tell(Bytes::from(text));
        }
        assert_eq!(watcher.next().now_or_never().flatten().as_deref(), Some(&b"3"[..]));
        assert_eq!(watcher.next().now_or_never(), None);
    }

    #[test]
    fn so_many_and_no_more_until_one_goes() {
        let feed = Feed::new();
        assert!(!feed.is_watched());
        let mut watchers: Vec<_> = (0..MAX_WATCHERS).map(|_| feed.watch().unwrap()).collect();
        assert!(feed.watch().is_none());
        watchers.pop();
        assert!(feed.is_watched() && feed.watch().is_some());
        watchers.clear();
        assert!(!feed.is_watched());
    }

    #[test]
    fn an_end_for_those_who_are_there_and_those_who_come() {
        let feed = Feed::new();
        let mut before = feed.watch().unwrap();
        feed.close();
        feed.tell(Bytes::from_static(b"late"));
        let mut after = feed.watch().unwrap();
        assert_eq!((before.next().now_or_never(), after.next().now_or_never()), (Some(None), Some(None)));
    }
}
