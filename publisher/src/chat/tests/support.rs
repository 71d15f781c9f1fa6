//! A broker that writes down and can be away, a source that follows a script, and a chat over both.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use serde_json::Value;
use shared::channel::Channel;
use shared::cursor::CursorPart;
use shared::envelope::Envelope;
use shared::position::Position;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chat::{Chat, ChatSettings, Piece, Question, Source, SourceError};
use crate::{Cancel, Publication, Publish, PublishError, Receipt, Waiters};

/// Writes down every event, once by its key. The n-th gets position `n-0` and the tag `abcde`.
#[derive(Default)]
pub(super) struct Broker {
    state: Mutex<State>,
    waiters: Waiters,
}

#[derive(Default)]
struct State {
    events: Vec<(String, Envelope)>,
    keys: HashMap<(String, String), Position>,
    cancelled: HashSet<Channel>,
    /// Until then it cannot be had, but for a try now and then whose answer alone is lost.
    away_until: Option<Instant>,
    tries: u64,
    rejects: bool,
}

impl Publish for Broker {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        async move {
            // As a broker elsewhere does.
            sleep(Duration::from_millis(1)).await;
            self.state.lock().unwrap().publish(channel, &publication)
        }
        .boxed()
    }
}

impl State {
    fn publish(&mut self, channel: &Channel, publication: &Publication) -> Result<Receipt, PublishError> {
        self.tries += 1;
        let away = self.away_until.is_some_and(|until| Instant::now() < until);
        if away && !self.tries.is_multiple_of(3) {
            return Err(unavailable());
        }
        if self.rejects {
            return Err(PublishError::Rejected { reason: "no permission".into() });
        }
        let key = (channel.to_string(), publication.once.as_ref().unwrap().as_str().to_owned());
        let known = self.keys.get(&key).copied();
        let position = known.unwrap_or_else(|| {
            self.events.push((channel.to_string(), Envelope::parse(&publication.payload).unwrap()));
            Position { ms: u64::try_from(self.events.len()).unwrap(), seq: 0 }
        });
        self.keys.insert(key, position);
        if away {
            return Err(unavailable());
        }
        let cursor = CursorPart { partition: None, position, tag: "abcde".parse().unwrap() };
        Ok(Receipt { position: Some(position), cursor: Some(cursor), receivers: 1, duplicate: known.is_some() })
    }
}

fn unavailable() -> PublishError {
    PublishError::Unavailable { reason: "no connection".into(), retry_after: Duration::from_millis(1_500) }
}

impl Cancel for Broker {
    fn cancel<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<u64, PublishError>> {
        self.state.lock().unwrap().cancelled.insert(channel.clone());
        let found = self.waiters.wake(channel);
        std::future::ready(Ok(found.into())).boxed()
    }

    fn cancelled(&self, channel: &Channel) -> BoxFuture<'static, ()> {
        if self.state.lock().unwrap().cancelled.contains(channel) {
            // It has to ask first.
            return sleep(Duration::from_millis(20)).boxed();
        }
        let (waiter, _) = self.waiters.wait(channel);
        async move { waiter.cancelled().await }.boxed()
    }
}

impl Broker {
    pub(super) fn away_for(&self, time: Duration) {
        self.state.lock().unwrap().away_until = Some(Instant::now() + time);
    }

    pub(super) fn reject(&self) {
        self.state.lock().unwrap().rejects = true;
    }

    /// The events of a channel: names and data.
    pub(super) fn events(&self, channel: &Channel) -> Vec<(String, Value)> {
        let state = self.state.lock().unwrap();
        let of_channel = state.events.iter().filter(|(name, _)| *name == channel.as_str());
        of_channel
            .map(|(_, envelope)| {
                let data = serde_json::from_str(envelope.data.as_ref().unwrap().get()).unwrap();
                (envelope.event.clone().unwrap(), data)
            })
            .collect()
    }

    /// Fails unless the channel holds one answer that is what its last event says: the question, chunks, the end. Returns
    /// the text, and the last event.
    pub(super) fn answer(&self, channel: &Channel) -> (String, String, Value) {
        let ends: Vec<_> = {
            let state = self.state.lock().unwrap();
            let of_channel = state.events.iter().filter(|(name, _)| *name == channel.as_str());
            of_channel.map(|(_, envelope)| envelope.end).collect()
        };
        let events = self.events(channel);
        assert_eq!(events[0].0, "question");
        assert_eq!(ends.iter().position(|end| *end), Some(events.len() - 1), "the last event closes the channel");
        let (name, last) = events.last().unwrap().clone();
        assert!(name == "done" || name == "failed", "{name}");
        let chunks = &events[1..events.len() - 1];
        assert!(chunks.iter().all(|(name, _)| name == "chunk"), "{events:?}");
        let text: String = chunks.iter().map(|(_, data)| data["text"].as_str().unwrap()).collect();
        assert_eq!(last["chunks"], chunks.len());
        assert_eq!(last["bytes"], text.len());
        let mut tally = crate::chat::pace::Tally::default();
        tally.add(&text);
        assert_eq!(last["sha256"], serde_json::to_value(tally.total()).unwrap()["sha256"]);
        (text, name, last)
    }
}

/// One step of a script: after so many milliseconds comes this.
pub(super) type Step = (u64, Result<Piece, SourceError>);

/// Answers each question by the same script, and waits for ever behind its last step if that is no end.
pub(super) struct Script {
    steps: Vec<Step>,
    /// Answers that were polled, and those that were dropped.
    seen: Arc<Mutex<(u32, u32)>>,
}

impl Script {
    pub(super) fn new(steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps, seen: Arc::default() })
    }

    pub(super) fn asked(&self) -> u32 {
        self.seen.lock().unwrap().0
    }

    pub(super) fn dropped(&self) -> u32 {
        self.seen.lock().unwrap().1
    }
}

struct Dropped(Arc<Mutex<(u32, u32)>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.lock().unwrap().1 += 1;
    }
}

impl Source for Script {
    fn answer(&self, _question: Question) -> BoxStream<'static, Result<Piece, SourceError>> {
        let (steps, seen, guard) = (self.steps.clone().into_iter(), self.seen.clone(), Dropped(self.seen.clone()));
        unfold((steps, true, guard), move |(mut steps, first, guard)| {
            let seen = seen.clone();
            async move {
                if first {
                    seen.lock().unwrap().0 += 1;
                }
                let Some((ms, item)) = steps.next() else { return std::future::pending().await };
                sleep_until(Instant::now() + Duration::from_millis(ms)).await;
                Some((item, (steps, false, guard)))
            }
        })
        .boxed()
    }
}

pub(super) fn say(ms: u64, text: &str) -> Step {
    (ms, Ok(Piece::Text(text.to_owned())))
}

pub(super) fn end(reason: &str) -> Step {
    (0, Ok(Piece::End { reason: reason.to_owned() }))
}

/// A chat over a new broker.
pub(super) fn chat(source: Arc<dyn Source>, settings: ChatSettings) -> (Arc<Chat>, Arc<Broker>) {
    let broker = Arc::new(Broker::default());
    (Chat::new(broker.clone(), broker.clone(), source, settings), broker)
}

pub(super) async fn ask(chat: &Chat) -> Channel {
    chat.ask(Question::new("왜?"), None).await.unwrap()
}

/// Waits until no answer is under way.
pub(super) async fn all_over(chat: &Chat) {
    chat.close();
    chat.wait().await;
    assert_eq!((chat.under_way(), chat.places.available_permits()), (0, chat.settings.max_answers));
}
