//! `pipe`: standard input as events, as it comes, and the channel's end after its end, or once the channel is cancelled.
//!
//! What is there together goes as one batch; what a slow producer writes goes at once. There is never more than one batch
//! under way, so that order is kept, and a producer that is faster than Redis waits in its own write.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use futures_util::future::{BoxFuture, FutureExt as _, pending};
use shared::channel::Channel;
use tokio::io::{AsyncReadExt as _, stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::cut::{By, Cutter};
use super::event::{Draft, event_name, text};
use super::{Common, Failure, channel, output};
use crate::config::{Config, Limits};
use crate::{Configured, Publication, Publish, Publisher};

/// Bytes read at a time: what a pipe holds.
const BUFFER: usize = 64 << 10;
/// Events of one batch.
const MAX_BATCH: usize = 512;
/// Ctrl-C reaches the producer and us alike, and its end of file may be seen before our signal. So the end waits a moment.
const SIGNAL_PAUSE: Duration = Duration::from_millis(50);

/// Publish standard input as events, a line each, and close the channel at its end.
///
/// Example: long-job | sse-publisher pipe --channel job:7 --event progress --end-event done
///
/// Prints {"published":n}, the number of events, on standard error. Closes the channel only when all of the input was
/// published, or with --cancellable what there was of it: after a failure (exit code 1), Ctrl-C (130) or SIGTERM (143) it
/// stays open.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Channel
    #[arg(long, value_parser = channel)]
    channel: Channel,
    /// Name of the events, what clients listen for [default: message]
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Where one event ends and the next begins
    #[arg(long, value_enum, default_value_t = By::Line)]
    by: By,
    /// Name of a last event, without data, with which the channel is closed [default: closed without one]
    #[arg(long, value_name = "NAME")]
    end_event: Option<String>,
    /// Stop when the channel is cancelled, now or within the last hour: read no more, close the channel, and say
    /// {"published":n,"cancelled":true}
    #[arg(long)]
    cancellable: bool,
    #[command(flatten)]
    common: Common,
}

/// How the input ended.
enum End {
    OfFile,
    Cancelled,
    /// With the exit code that shells know the signal by.
    Signal(u8),
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let config = self.common.load()?;
        let end = self.end(&config)?;
        let signal_error = |error| Failure::run(format!("cannot catch signals: {error}"));
        let mut signals = Signals::install().map_err(signal_error)?;
        let settings = config.redis_settings();
        let publisher = tokio::select! {
            publisher = Publisher::connect(&settings) => publisher.map_err(Failure::connect)?,
            code = signals.next() => return Ok(code),
        };
        let cancelled = if self.cancellable { publisher.cancelled(&self.channel).boxed() } else { pending().boxed() };
        let publish = Configured::new(Arc::new(publisher), config.channels.clone());
        let mut pipe =
            Pipe { args: &self, limits: &config.limits, publish: &publish, published: 0, is_cancelled: false };
        let result = pipe.run(&mut signals, cancelled, end).await;
        let (published, cancelled) = (pipe.published, if pipe.is_cancelled { ",\"cancelled\":true" } else { "" });
        if let Err(failure) = &result {
            output::complain(&failure.text);
        }
        output::note(&format!("{{\"published\":{published}{cancelled}}}"));
        result.map_err(|failure| Failure { text: String::new(), ..failure })
    }

    /// What closes the channel. Made and checked first: nobody wants to hear only at the end that there can be none.
    fn end(&self, config: &Config) -> Result<Publication, Failure> {
        for (flag, name) in [("--event", &self.event), ("--end-event", &self.end_event)] {
            name.as_deref().map_or(Ok(()), |name| event_name(flag, name, &config.limits))?;
        }
        let draft = Draft { event: self.end_event.clone(), end: true, ..Draft::default() };
        let end = draft.finish("--end-event", &config.limits)?;
        match config.channels.apply(&self.channel, end.clone()) {
            Ok(_) => Ok(end),
            Err(error) => Err(Failure::usage(format!("--channel: a pipe closes its channel: {error}"))),
        }
    }
}

struct Pipe<'a> {
    args: &'a Args,
    limits: &'a Limits,
    publish: &'a dyn Publish,
    /// Events of the input; its end does not count.
    published: usize,
    /// The input was not read to its end.
    is_cancelled: bool,
}

impl Pipe<'_> {
    async fn run(
        &mut self,
        signals: &mut Signals,
        cancelled: BoxFuture<'_, ()>,
        end: Publication,
    ) -> Result<u8, Failure> {
        let ended = self.input(signals, cancelled).await?;
        self.is_cancelled = matches!(ended, End::Cancelled);
        match ended {
            End::Signal(code) => Ok(code),
            End::OfFile | End::Cancelled => {
                let batch = vec![(self.args.channel.clone(), end)];
                for result in self.publish.publish_batch(batch).await {
                    result.map_err(|error| Failure::run(format!("the channel is not closed: {error}")))?;
                }
                Ok(0)
            }
        }
    }

    async fn input(&mut self, signals: &mut Signals, mut cancelled: BoxFuture<'_, ()>) -> Result<End, Failure> {
        let mut cutter = Cutter::new(self.args.by, self.limits.max_data);
        let (mut stdin, mut buffer) = (stdin(), vec![0; BUFFER]);
        loop {
            let read = tokio::select! {
                biased;
                code = signals.next() => return Ok(End::Signal(code)),
                () = &mut cancelled => return Ok(End::Cancelled),
                read = stdin.read(&mut buffer) => read,
            };
            let bytes = read.map_err(|error| Failure::run(format!("cannot read standard input: {error}")))?;
            let is_end = bytes == 0;
            if is_end {
                // Before the rest is published, which a signal cut off.
                tokio::select! {
                    biased;
                    code = signals.next() => return Ok(End::Signal(code)),
                    () = sleep(SIGNAL_PAUSE) => {}
                }
            }
            let mut texts = Vec::new();
            let cut = if is_end { cutter.finish(&mut texts) } else { cutter.feed(&buffer[..bytes], &mut texts) };
            // What came before something wrong is published all the same.
            self.send(&texts).await?;
            cut.map_err(Failure::run)?;
            if is_end {
                return Ok(End::OfFile);
            }
        }
    }

    /// Publishes `texts`, a batch after the other.
    async fn send(&mut self, texts: &[String]) -> Result<(), Failure> {
        for texts in texts.chunks(MAX_BATCH) {
            let mut batch = Vec::with_capacity(texts.len());
            for data in texts {
                let draft = Draft { event: self.args.event.clone(), data: Some(text(data)?), ..Draft::default() };
                batch.push((self.args.channel.clone(), draft.finish("the input", self.limits)?));
            }
            let mut first_error = None;
            for result in self.publish.publish_batch(batch).await {
                match result {
                    Ok(_) => self.published += 1,
                    Err(error) => {
                        first_error.get_or_insert(error);
                    }
                }
            }
            if let Some(error) = first_error {
                return Err(Failure::run(error));
            }
        }
        Ok(())
    }
}

/// Ctrl-C and SIGTERM, as the exit codes that shells know them by.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}
