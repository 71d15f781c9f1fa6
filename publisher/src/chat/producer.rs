//! One answer from its question to the end of its channel, whatever happens in between.
//!
//! It waits for nobody who reads. What it waits for, the source and the broker, it waits for within bounds, and hears
//! meanwhile that it is to stop.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use humantime::format_duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::pace::{Pace, Tally};
use super::source::{Piece, Question, Source, SourceError};
use crate::PublishError;
use crate::metrics::AnswerEnd;

/// Most text of one chunk, in bytes: as JSON it may be six times as long, and an event has at most 64 KiB.
const MAX_CHUNK: usize = 8 << 10;

type Answer = BoxStream<'static, Result<Piece, SourceError>>;

/// Bounds of one answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Least time between two chunks.
    pub(super) batch: Duration,
    pub(super) max_time: Duration,
    /// In all.
    pub(super) max_bytes: usize,
}

/// See above. One task has it.
pub(super) struct Producer {
    events: Events,
    bounds: Bounds,
    interrupts: Interrupts,
    /// How long it may take to learn that it was cancelled before. Zero where the channel's name was made up for it: then only
    /// who asked can know it.
    look_back: Duration,
    pace: Pace,
    /// Of what was published.
    tally: Tally,
    /// Received and not published yet: less than a chunk and a piece.
    text: String,
    /// Bytes that may still come.
    left: usize,
}

/// Why an answer ends.
#[derive(Debug, Clone)]
enum Ending {
    Complete(String),
    Cancelled,
    Source(SourceError),
    TooLong,
    TooSlow,
    Stopped,
    Publishing(PublishError),
}

/// What ends an answer from outside: heard once, and kept.
pub(super) struct Interrupts {
    cancelled: BoxFuture<'static, ()>,
    stop: CancellationToken,
    deadline: Instant,
    heard: Option<Ending>,
}

enum Step {
    Publish,
    Took(Option<Result<Piece, SourceError>>),
}

impl Producer {
    /// Begins now. `look_back` is how long the source is not asked, so that `cancelled` can find what was before.
    pub(super) fn new(
        events: Events,
        bounds: Bounds,
        look_back: Duration,
        cancelled: BoxFuture<'static, ()>,
        stop: CancellationToken,
    ) -> Self {
        let deadline = Instant::now() + bounds.max_time;
        Self {
            events,
            bounds,
            interrupts: Interrupts { cancelled, stop, deadline, heard: None },
            look_back,
            pace: Pace::new(bounds.batch),
            tally: Tally::default(),
            text: String::new(),
            left: bounds.max_bytes,
        }
    }

    /// Publishes the question, says on `begun` what came of that, and if it is published, the answer to its end. Returns how
    /// that ended, if there was an answer.
    pub(super) async fn run(
        mut self,
        source: &dyn Source,
        question: Question,
        begun: oneshot::Sender<Result<(), PublishError>>,
    ) -> Option<AnswerEnd> {
        let asked = self.interrupts.beside(self.events.question(question.text()), || {}).await;
        let failed = asked.is_err();
        let heard = begun.send(asked).is_ok();
        if failed {
            return None;
        }
        if !heard && self.look_back.is_zero() {
            // Who asked has gone, and nobody else was told the channel's name.
            return Some(self.end(Ending::Cancelled).await);
        }
        // Whether or not that is in time: later it is heard as well.
        let _ = timeout(self.look_back, self.interrupts.listen()).await;
        let mut answer = Some(source.answer(question));
        let ending = self.relay(&mut answer).await.unwrap_or_else(Ending::Publishing);
        // Whoever answers hears at once that no more is wanted.
        drop(answer);
        Some(self.end(ending).await)
    }

    /// Publishes what comes, until something ends it.
    async fn relay(&mut self, answer: &mut Option<Answer>) -> Result<Ending, PublishError> {
        loop {
            if let Some(ending) = &self.interrupts.heard {
                return Ok(ending.clone());
            }
            let Some(stream) = answer else { return Ok(Ending::Stopped) };
            let step = tokio::select! {
                biased;
                () = self.interrupts.listen() => continue,
                () = sleep_until(self.pace.next()), if !self.text.is_empty() => Step::Publish,
                item = stream.next(), if self.text.len() < MAX_CHUNK => Step::Took(item),
            };
            match step {
                Step::Publish => self.publish_some(answer).await?,
                Step::Took(Some(Ok(Piece::Text(text)))) => {
                    if !self.take(&text) {
                        return Ok(Ending::TooLong);
                    }
                }
                Step::Took(Some(Ok(Piece::End { reason }))) => return Ok(Ending::Complete(reason)),
                Step::Took(Some(Err(error))) => return Ok(Ending::Source(error)),
                Step::Took(None) => return Ok(Ending::Source(SourceError::unfinished())),
            }
        }
    }

    /// Whether there was room for all of `text`.
    fn take(&mut self, text: &str) -> bool {
        let fitting = &text[..text.floor_char_boundary(self.left)];
        self.text.push_str(fitting);
        self.left -= fitting.len();
        fitting.len() == text.len()
    }

    /// Publishes one chunk. Gives the answer up as soon as it is to end: the broker may be away for long.
    async fn publish_some(&mut self, answer: &mut Option<Answer>) -> Result<(), PublishError> {
        let rest = self.text.split_off(self.text.floor_char_boundary(MAX_CHUNK));
        let chunk = std::mem::replace(&mut self.text, rest);
        self.pace.take();
        self.interrupts.beside(self.events.chunk(&chunk), || drop(answer.take())).await?;
        self.tally.add(&chunk);
        Ok(())
    }

    /// The rest of the text, and the event that closes the channel.
    async fn end(&mut self, mut ending: Ending) -> AnswerEnd {
        while !self.text.is_empty() && !matches!(ending, Ending::Publishing(_)) {
            if let Err(error) = self.publish_some(&mut None).await {
                ending = Ending::Publishing(error);
            }
        }
        let total = self.tally.total();
        let told = match self.failure(&ending) {
            None => self.events.done(reason(&ending), total).await,
            Some(_) if matches!(ending, Ending::Publishing(PublishError::Unavailable { .. })) => {
                // It was tried for long enough.
                tracing::error!(channel = %self.events.channel(), "an answer stays without its end: {ending:?}");
                return AnswerEnd::Publishing;
            }
            Some((code, detail)) => {
                // The detail is data of an event: the log has none of those.
                tracing::warn!(channel = %self.events.channel(), code, "an answer failed");
                self.events.failed(code, &detail, total).await
            }
        };
        match told {
            Ok(()) => ending.kind(),
            Err(error) => {
                tracing::error!(channel = %self.events.channel(), %error, "an answer stays without its end");
                AnswerEnd::Publishing
            }
        }
    }

    /// What an ending is called that is no end of the answer itself.
    fn failure(&self, ending: &Ending) -> Option<(&'static str, String)> {
        let Bounds { max_time, max_bytes, .. } = self.bounds;
        Some(match ending {
            Ending::Complete(_) | Ending::Cancelled => return None,
            Ending::Source(error) => (error.code.as_str(), error.detail.clone()),
            Ending::TooLong => ("too_long", format!("the answer is longer than {max_bytes} bytes")),
            Ending::TooSlow => ("too_slow", format!("the answer took longer than {}", format_duration(max_time))),
            Ending::Stopped => ("stopped", "the service is stopping".to_owned()),
            Ending::Publishing(error) => ("publishing", error.to_string()),
        })
    }
}

impl Ending {
    fn kind(&self) -> AnswerEnd {
        match self {
            Self::Complete(_) => AnswerEnd::Done,
            Self::Cancelled => AnswerEnd::Cancelled,
            Self::Source(_) => AnswerEnd::Upstream,
            Self::TooLong => AnswerEnd::TooLong,
            Self::TooSlow => AnswerEnd::TooSlow,
            Self::Stopped => AnswerEnd::Stopped,
            Self::Publishing(_) => AnswerEnd::Publishing,
        }
    }
}

fn reason(ending: &Ending) -> &str {
    match ending {
        Ending::Complete(reason) => reason,
        _ => "cancelled",
    }
}

impl Interrupts {
    /// Is done once something was heard.
    async fn listen(&mut self) {
        if self.heard.is_some() {
            return;
        }
        let heard = tokio::select! {
            biased;
            () = &mut self.cancelled => Ending::Cancelled,
            () = self.stop.cancelled() => Ending::Stopped,
            () = sleep_until(self.deadline) => Ending::TooSlow,
        };
        self.heard = Some(heard);
    }

    /// Carries `work` out to its end, and calls `heard` once something was heard meanwhile, or before.
    async fn beside<T>(&mut self, work: impl Future<Output = T>, heard: impl FnOnce()) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = self.listen() => {}
        }
        heard();
        work.await
    }
}
