//! A client that does what a browser's `EventSource` does, and forgets nothing of it.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>: it reads the stream with the project's own decoder,
//! remembers the last event ID as soon as a block that has one is complete, honours `retry:`, comes back when a stream ends
//! or breaks, and gives up for good on an answer that is no event stream. Beyond that it never goes twice in a row to the
//! same node, and now and then it leaves by itself, as a telephone does that changes its network.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use shared::cursor::Cursor;
use shared::event_stream::CONTENT_TYPE as EVENT_STREAM;
use shared::event_stream::decode::{Decoded, Decoder, Received};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::oracle::Heard;
use crate::partitions::Partitions;
use crate::plan::Visitor;
use crate::publishing::{Numbered, channel_name};
use crate::record::{Connect, Record, part};

/// Reconnection time until a server says another.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// How long a connection lives that the client leaves by itself.
const STAYS: std::ops::Range<f64> = 0.5..6.0;

/// One client. It ends when it is told to, or on what an `EventSource` does not survive.
pub struct EventSource {
    http: Client,
    /// Public ports of the nodes.
    nodes: Vec<u16>,
    query: String,
    partitions: Arc<Partitions>,
    record: Arc<Mutex<Record>>,
    began: Instant,
    rng: fastrand::Rng,
    last_event_id: String,
    retry: Duration,
    node: usize,
}

/// Why a connection is over.
enum Over {
    /// Come back.
    Ended(String),
    /// Never come back.
    Fatal(String),
}

#[derive(Deserialize)]
struct GapData {
    channel: String,
    reason: String,
    cursor: String,
}

impl EventSource {
    /// A client that was never connected, in a round that began at `began`.
    #[must_use]
    pub fn new(http: &Client, nodes: &[u16], visitor: &Visitor, partitions: &Arc<Partitions>, began: Instant) -> Self {
        let mut rng = fastrand::Rng::with_seed(visitor.seed);
        let names = visitor.channels.iter().map(|channel| format!("channel={}", channel_name(*channel)));
        Self {
            http: http.clone(),
            nodes: nodes.to_vec(),
            query: names.collect::<Vec<_>>().join("&"),
            partitions: partitions.clone(),
            record: Arc::new(Mutex::new(Record::new(&visitor.channels))),
            began,
            last_event_id: String::new(),
            retry: FIRST_RETRY,
            node: rng.usize(..nodes.len()),
            rng,
        }
    }

    /// What it lives through, while it does.
    #[must_use]
    pub fn record(&self) -> Arc<Mutex<Record>> {
        self.record.clone()
    }

    /// Connects and comes back until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let living = async {
            loop {
                match self.connect().await {
                    Over::Ended(how) => self.ended(how),
                    Over::Fatal(how) => {
                        lock(&self.record).fatal.push(how.clone());
                        return self.ended(how);
                    }
                }
                sleep(self.retry.mul_f64(1.0 + 0.5 * self.rng.f64())).await;
                // Another node than the last one, where there is another.
                if self.nodes.len() > 1 {
                    self.node = (self.node + self.rng.usize(1..self.nodes.len())) % self.nodes.len();
                }
            }
        };
        stop.run_until_cancelled(living).await;
    }

    fn ended(&self, how: String) {
        let at = self.began.elapsed();
        if let Some(connect) = lock(&self.record).connects.last_mut() {
            connect.ended = Some((at, how));
        }
    }

    async fn connect(&mut self) -> Over {
        let cursor = self.last_event_id.clone();
        let connect = Connect { at: self.began.elapsed(), node: self.node + 1, cursor, answered: false, ended: None };
        lock(&self.record).connects.push(connect);
        let url = format!("http://127.0.0.1:{}/events?{}", self.nodes[self.node], self.query);
        let mut request = self.http.get(url).header(ACCEPT, EVENT_STREAM);
        if !self.last_event_id.is_empty() {
            request = request.header("last-event-id", &self.last_event_id);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Over::Ended(format!("no answer: {}", cause(&error))),
        };
        // 204 is right when every channel has ended. None ever does here.
        if response.status() != StatusCode::OK {
            return Over::Fatal(format!("node {} answered {}", self.node + 1, response.status()));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind != EVENT_STREAM && !kind.starts_with(&format!("{EVENT_STREAM};")) {
            return Over::Fatal(format!("node {} answered 200 with content-type \"{kind}\"", self.node + 1));
        }
        if let Some(connect) = lock(&self.record).connects.last_mut() {
            connect.answered = true;
        }
        let leaves = self.rng.bool();
        let stays = Duration::from_secs_f64(STAYS.start + (STAYS.end - STAYS.start) * self.rng.f64());
        if !leaves {
            return self.read(response).await;
        }
        timeout(stays, self.read(response)).await.unwrap_or_else(|_| Over::Ended("left by itself".to_owned()))
    }

    async fn read(&mut self, mut response: Response) -> Over {
        let mut decoder = Decoder::new();
        // Browsers begin each stream with the ID they have; an empty one counts only once the stream has set some.
        let mut has_id = false;
        loop {
            let bytes = match response.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Over::Ended("the stream ended".to_owned()),
                Err(error) => return Over::Ended(format!("the stream broke: {}", cause(&error))),
            };
            let fed = decoder.feed(&bytes);
            for decoded in decoder.by_ref() {
                match decoded {
                    Decoded::Comment(_) => {}
                    Decoded::Retry(retry) => self.retry = retry,
                    Decoded::Id(id) => {
                        has_id = true;
                        self.set_id(id);
                    }
                    Decoded::Event(received) => {
                        has_id |= !received.id.is_empty();
                        if let Err(fatal) = self.dispatch(&received) {
                            return Over::Fatal(fatal);
                        }
                        if has_id {
                            self.set_id(received.id);
                        }
                    }
                }
            }
            if let Err(error) = fed {
                return Over::Fatal(error.to_string());
            }
        }
    }

    fn set_id(&mut self, id: String) {
        self.last_event_id = id;
        let mut record = lock(&self.record);
        if record.start.is_none() && !self.last_event_id.is_empty() {
            record.start = Some((self.began.elapsed(), self.last_event_id.parse().ok()));
        }
    }

    fn dispatch(&mut self, received: &Received) -> Result<(), String> {
        let at = self.began.elapsed();
        match received.event.as_str() {
            "message" => {
                let data: Numbered = parse(received)?;
                self.heard(&data.channel, |_| Ok(Heard::Event { n: data.n, at }))
            }
            "sse.gap" => {
                let GapData { channel, reason, cursor } = parse(received)?;
                self.heard(&channel, |partition| {
                    let cursor: Option<Cursor> = cursor.parse().ok();
                    let exact = cursor.as_ref().and_then(|cursor| part(cursor, partition));
                    match cursor.filter(|_| exact.is_none()) {
                        Some(of) => Err(format!("a gap on {channel}, of partition {partition}, says {of}")),
                        None => Ok(Heard::Gap { reason, cursor: exact, at }),
                    }
                })
            }
            // The gateway's other words say nothing of events.
            _ => Ok(()),
        }
    }

    /// `heard`: what it is, from the channel's partition.
    fn heard(&self, name: &str, heard: impl FnOnce(u16) -> Result<Heard, String>) -> Result<(), String> {
        let mut record = lock(&self.record);
        let Some(channel) = record.channels.iter().copied().find(|channel| channel_name(*channel) == name) else {
            return Err(format!("node {} sent something of channel {name}, which nobody asked for", self.node + 1));
        };
        record.heard.push((channel, heard(self.partitions.of(channel))?));
        Ok(())
    }
}

fn parse<'a, T: Deserialize<'a>>(received: &'a Received) -> Result<T, String> {
    serde_json::from_str(&received.data)
        .map_err(|error| format!("a {} cannot be read ({error}): {}", received.event, received.data))
}

/// The innermost reason: what is around it says only that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A client that panicked has still recorded what it did before.
pub(crate) fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
