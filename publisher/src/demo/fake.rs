//! A broker in memory for tests of producers: it writes down what was published and when, fails when it is told to, and
//! hears who is to stop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::channel::Channel;
use shared::cursor::{CursorPart, Tag};
use shared::envelope::Envelope;
use shared::position::Position;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Cancel, Channels, HistoryEntry, HistoryPage, LastEvent, Publication, Publish, PublishError, Receipt};

/// The n-th event has position `n-0`.
pub(super) struct Fake {
    state: Mutex<State>,
}

/// An event as it was published.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) channel: String,
    pub(super) payload: String,
    pub(super) once: Option<String>,
    pub(super) at: Instant,
}

#[derive(Default)]
struct State {
    told: Vec<Told>,
    /// Tries, those that failed included.
    tries: usize,
    /// What every try is answered with, if anything.
    error: Option<PublishError>,
    /// What receipts say.
    receivers: u64,
    once: HashMap<(String, String), Position>,
    entries: HashMap<String, Vec<HistoryEntry>>,
    cancelled: HashMap<String, CancellationToken>,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn set_error(&self, error: Option<PublishError>) {
        self.state().error = error;
    }

    pub(super) fn away() -> PublishError {
        PublishError::Unavailable { reason: "no connection".to_owned(), retry_after: Duration::from_secs(1) }
    }

    pub(super) fn set_receivers(&self, receivers: u64) {
        self.state().receivers = receivers;
    }

    pub(super) fn tries(&self) -> usize {
        self.state().tries
    }

    /// All that was published.
    pub(super) fn told(&self) -> Vec<Told> {
        self.state().told.clone()
    }

    /// The payloads of one channel, in order.
    pub(super) fn payloads(&self, channel: &str) -> Vec<String> {
        self.told().into_iter().filter(|told| told.channel == channel).map(|told| told.payload).collect()
    }

    /// Whether the channel's last event closed it.
    pub(super) fn is_ended(&self, channel: &str) -> bool {
        let last = self.payloads(channel).pop();
        last.and_then(|last| Envelope::parse(last.as_bytes())).is_some_and(|last| last.end)
    }
}

impl Publish for Fake {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        let outcome = self.state().publish(channel.as_str(), &publication);
        std::future::ready(outcome).boxed()
    }
}

impl State {
    fn publish(&mut self, channel: &str, publication: &Publication) -> Result<Receipt, PublishError> {
        self.tries += 1;
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let once = publication.once.as_ref().map(|once| once.as_str().to_owned());
        let key = once.clone().map(|once| (channel.to_owned(), once));
        if let Some(known) = key.as_ref().and_then(|key| self.once.get(key)) {
            return Ok(receipt(*known, 0, true));
        }
        let payload = String::from_utf8(publication.payload.to_vec()).unwrap();
        self.told.push(Told { channel: channel.to_owned(), payload, once, at: Instant::now() });
        let position = Position { ms: u64::try_from(self.told.len()).unwrap(), seq: 0 };
        self.once.extend(key.map(|key| (key, position)));
        let entries = self.entries.entry(channel.to_owned()).or_default();
        let previous = entries.last().map_or(Position::ZERO, |entry| entry.position);
        entries.push(HistoryEntry { position, previous, payload: publication.payload.clone() });
        Ok(receipt(position, self.receivers, false))
    }

    fn history(&self, channel: &str, after: Position, limit: usize) -> Result<HistoryPage, PublishError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let held = self.entries.get(channel).cloned().unwrap_or_default();
        let last = held.last().map(|last| LastEvent { position: last.position, ended: false });
        let entries = held.into_iter().filter(|entry| entry.position > after).collect();
        let mut page =
            HistoryPage { clock: Position::MAX, time_ms: 0, tag: tag(), partition: None, last, entries, more: false };
        page.cut(limit);
        Ok(page)
    }
}

impl Channels for Fake {
    fn history<'a>(
        &'a self,
        channel: &'a Channel,
        after: Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>> {
        let outcome = self.state().history(channel.as_str(), after, limit);
        std::future::ready(outcome).boxed()
    }

    fn erase<'a>(&'a self, _channel: &'a Channel) -> BoxFuture<'a, Result<bool, PublishError>> {
        std::future::ready(Ok(false)).boxed()
    }
}

impl Cancel for Fake {
    fn cancel<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<u64, PublishError>> {
        self.state().cancelled.entry(channel.to_string()).or_default().cancel();
        std::future::ready(Ok(1)).boxed()
    }

    fn cancelled(&self, channel: &Channel) -> BoxFuture<'static, ()> {
        let token = self.state().cancelled.entry(channel.to_string()).or_default().clone();
        token.cancelled_owned().boxed()
    }
}

fn tag() -> Tag {
    "abcde".parse().unwrap()
}

fn receipt(position: Position, receivers: u64, duplicate: bool) -> Receipt {
    let cursor = CursorPart { partition: None, position, tag: tag() };
    Receipt { position: Some(position), cursor: Some(cursor), receivers, duplicate }
}
