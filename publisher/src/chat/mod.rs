//! Answers that stream in: a question is asked, and the answer goes, as it comes, to a channel of its own.
//!
//! | module | what it holds |
//! |---|---|
//! | `source` | the seam to whatever makes the text |
//! | `upstream` | an endpoint that speaks OpenAI's format |
//! | `local` | a text of our own, for the demo |
//! | `producer` | one answer from its question to the end of its channel |
//! | `events`, `pace` | its events, each published once; how rarely |
//! | `http`, `request`, `stream` | `POST /chat` |
//! | `settings` | the section `[chat]` |
//!
//! It must not know which broker carries the events, nor wait for anybody who reads them.

mod events;
mod http;
mod local;
mod pace;
mod producer;
mod request;
mod settings;
mod source;
mod stream;
mod upstream;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use shared::channel::Channel;
use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::events::Events;
pub use self::http::router;
pub use self::local::Local;
use self::producer::{Bounds, Producer};
pub use self::settings::ChatSettings;
pub use self::source::{MAX_PIECE, Message, Piece, Question, Role, Source, SourceCode, SourceError};
pub(crate) use self::upstream::trusting_the_system;
pub use self::upstream::{Endpoint, Upstream};
use crate::metrics::AnswerMetrics;
use crate::random::hex_128;
use crate::{Cancel, Publish, PublishError};

/// How long the source waits on a channel that the caller named, since it may have been cancelled before: a few round trips
/// to the broker. Nobody can have cancelled one that is made up here.
const LOOK_BACK: Duration = Duration::from_millis(100);

/// Channels that callers named, while there is an answer under way on them.
type Named = Arc<Mutex<HashSet<Channel>>>;

/// Answers questions. Owns a task for each answer under way.
pub struct Chat {
    publish: Arc<dyn Publish>,
    cancel: Arc<dyn Cancel>,
    source: Arc<dyn Source>,
    settings: ChatSettings,
    metrics: Arc<AnswerMetrics>,
    /// A permit for each answer under way, given back by its task. Closed by [`close`](Self::close).
    places: Arc<Semaphore>,
    /// Written at the beginning of an answer, and by its end.
    named: Named,
    /// The answers under way. Closed with `places`.
    answers: TaskTracker,
    /// Cancelled by [`stop`](Self::stop); every answer under way listens.
    stop: CancellationToken,
}

/// Why a question is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There are as many answers under way as there may be.
    #[error("there are {max} answers under way, as many as there may be")]
    Busy {
        /// `chat.max_answers`.
        max: usize,
    },
    /// The channel that was named is not one of answers.
    #[error("channel does not begin with {prefix}, as those of answers do")]
    Foreign {
        /// `chat.prefix`.
        prefix: String,
    },
    /// There is an answer under way on the channel that was named, in this process; two would be one text.
    #[error("there is an answer under way on this channel; ask again when it has ended, or on another")]
    UnderWay,
    /// [`Chat::close`] was called.
    #[error("the service is stopping")]
    Stopping,
    /// The question could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What answers: the upstream of `settings`, else a text of our own for the `demo`; `None` where there is neither.
///
/// # Errors
/// That the address of the upstream is none.
pub fn source(settings: &ChatSettings, demo: bool) -> Result<Option<Arc<dyn Source>>, String> {
    if let Some(upstream) = Upstream::new(settings)? {
        return Ok(Some(Arc::new(upstream)));
    }
    Ok(if demo { Some(Arc::new(Local)) } else { None })
}

impl Chat {
    /// Answers by `source`, and publishes by `publish`. `settings` have been checked; what they say of an upstream is for
    /// whoever makes the source. Install the metrics recorder before.
    #[must_use]
    pub fn new(
        publish: Arc<dyn Publish>,
        cancel: Arc<dyn Cancel>,
        source: Arc<dyn Source>,
        settings: ChatSettings,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(settings.max_answers.min(Semaphore::MAX_PERMITS)));
        let (answers, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Arc::new(AnswerMetrics::new());
        Arc::new(Self { publish, cancel, source, settings, metrics, places, named: Named::default(), answers, stop })
    }

    /// Publishes `question` on `channel`, which begins with `chat.prefix`, or on one with a name that nobody can guess, and
    /// has it answered there.
    ///
    /// Returns the channel once the question is on it. From then on the answer goes on whatever becomes of the caller, and
    /// closes the channel, with `done` or `failed`, unless the broker is away for a minute.
    ///
    /// # Errors
    /// [`AskError`]. Nothing is answered then.
    pub async fn ask(&self, question: Question, channel: Option<Channel>) -> Result<Channel, AskError> {
        self.begin(question, channel, None).await
    }

    /// The same, with somebody who reads the blocks of the stream as they are published, if not too slowly.
    async fn begin(
        &self,
        question: Question,
        channel: Option<Channel>,
        reader: Option<mpsc::Sender<Bytes>>,
    ) -> Result<Channel, AskError> {
        // Before the permit: who was given one is waited for.
        let under_way = self.answers.token();
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits) => return Err(AskError::Busy { max: self.settings.max_answers }),
            Err(TryAcquireError::Closed) => return Err(AskError::Stopping),
        };
        let id = random_id()?;
        let (channel, named) = match channel {
            Some(channel) => (channel.clone(), Some(self.name(channel)?)),
            None => (self.channel_of(&id)?, None),
        };
        let look_back = if named.is_some() { LOOK_BACK } else { Duration::ZERO };
        let events = Events::new(self.publish.clone(), channel.clone(), id, reader);
        let ChatSettings { batch, max_time, max_bytes, .. } = self.settings;
        let bounds = Bounds { batch, max_time, max_bytes };
        let producer = Producer::new(events, bounds, look_back, self.cancel.cancelled(&channel), self.stop.clone());
        let (said, begun) = oneshot::channel();
        let (source, metrics) = (self.source.clone(), self.metrics.clone());
        let answer = async move {
            let open = metrics.begin();
            // On the heap: it is large.
            if let Some(end) = Box::pin(producer.run(&*source, question, said)).await {
                metrics.count(end);
            }
            drop((open, place, named));
        };
        // What the log has of it names the request that asked.
        self.answers.spawn(answer.in_current_span());
        drop(under_way);
        match begun.await {
            Ok(published) => published.map(|()| channel).map_err(AskError::from),
            // Its task was cut off.
            Err(_) => Err(AskError::Stopping),
        }
    }

    /// Takes no more questions. Answers under way go on.
    pub fn close(&self) {
        self.places.close();
        self.answers.close();
    }

    /// Ends the answers under way, with `failed` and the reason `stopped`.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it is [closed](Self::close) and no answer is under way. With the broker away that takes up to two
    /// minutes after [`stop`](Self::stop).
    pub async fn wait(&self) {
        self.answers.wait().await;
    }

    /// Answers under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.answers.len()
    }

    /// The channel is the caller's for one answer, until what is returned is dropped.
    fn name(&self, channel: Channel) -> Result<NamedChannel, AskError> {
        // Any other is somebody else's: an answer would shorten its history, and close it.
        if !channel.as_str().starts_with(&self.settings.prefix) {
            return Err(AskError::Foreign { prefix: self.settings.prefix.clone() });
        }
        // Nothing under this lock panics half-way.
        if !self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.clone()) {
            return Err(AskError::UnderWay);
        }
        Ok(NamedChannel { channel, named: self.named.clone() })
    }

    fn channel_of(&self, id: &str) -> Result<Channel, AskError> {
        Channel::parse(&format!("{}{id}", self.settings.prefix)).map_err(|error| {
            let reason = format!("chat.prefix: {error}");
            AskError::Publish(PublishError::Rejected { reason })
        })
    }
}

/// A place in [`Named`].
struct NamedChannel {
    channel: Channel,
    named: Named,
}

impl Drop for NamedChannel {
    fn drop(&mut self) {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.channel);
    }
}

/// 128 bits that nobody can guess, as hex digits.
fn random_id() -> Result<String, AskError> {
    hex_128().map_err(|error| {
        let reason = format!("the system has no random numbers: {error}");
        AskError::Publish(PublishError::Rejected { reason })
    })
}

#[cfg(test)]
mod tests;
