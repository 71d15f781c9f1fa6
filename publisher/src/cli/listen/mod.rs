//! `listen`: an event stream as a person or a script reads it. Comes back like a browser's `EventSource`.
//!
//! Events go to standard output; everything else (the gateway's own signals, what happens to the connection) to standard
//! error.

mod connection;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use http::HeaderValue;
use serde::Serialize;
use shared::event::RESERVED_EVENT_PREFIX;
use shared::event_stream::decode::{Decoded, Decoder, Received};
use tokio::time::sleep;

use self::connection::{Opened, Stop, Stream};
use super::url::Url;
use super::{Failure, output};

/// When to come back where the server said nothing: what browsers do.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);
/// Longest pause after errors; never below what the server asked for.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Print the events of an event stream, as they come.
///
/// Example: sse-publisher listen 'http://127.0.0.1:8080/events?channel=user:42' --json --count 1
///
/// Comes back like a browser when the connection ends, with the last id; ends with 0 when the server says that there is no
/// more (204), and with 1 when it refuses, or cannot be reached the first time. Events beginning sse. are the gateway's own
/// signals: they go to standard error, and do not count, unless --event names them.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Address of the event stream; http only
    #[arg(value_name = "URL", value_parser = Url::parse_plain)]
    url: Url,
    /// Only events of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// One JSON object a line: {"event":"...","data":"...","id":"..."}
    #[arg(long)]
    json: bool,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// Begin after the event with this id
    #[arg(long, value_name = "ID", value_parser = last_event_id, allow_hyphen_values = true)]
    last_event_id: Option<String>,
    /// File with a token, sent as Authorization: Bearer; read again for each connection
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// One event as JSON.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    data: &'a str,
    id: &'a str,
}

/// Why no more is read.
enum End {
    /// There are as many events as were asked for, or nobody reads them.
    Done,
    /// The connection ended, well or not.
    Lost(Option<String>),
}

struct Listener {
    args: Args,
    last_event_id: String,
    retry: Duration,
    printed: u64,
    /// Attempts that failed since one went well.
    failures: u32,
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let last_event_id = self.last_event_id.clone().unwrap_or_default();
        let mut listener = Listener { args: self, last_event_id, retry: DEFAULT_RETRY, printed: 0, failures: 0 };
        tokio::select! {
            result = listener.run() => result.map(|()| 0),
            () = output::closed() => Ok(0),
        }
    }
}

impl Listener {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut first = true;
        loop {
            let token = self.args.token_file.as_deref().map(token).transpose();
            let token = match token {
                Ok(token) => token,
                Err(text) => return Err(Failure::usage(text)),
            };
            let lost = match connection::open(&self.args.url, &self.last_event_id, token.as_ref()).await {
                Ok(Opened::Stream(stream)) => {
                    first = false;
                    match self.read(stream).await? {
                        End::Done => return Ok(()),
                        End::Lost(reason) => reason,
                    }
                }
                Ok(Opened::NoMore) => {
                    output::complain("the server says that there is no more");
                    return Ok(());
                }
                Err(Stop::Refused(text)) => return Err(Failure::run(text)),
                Err(Stop::Unreachable(text)) if first => return Err(Failure::run(text)),
                Err(Stop::Unreachable(text)) => Some(text),
            };
            let pause = self.pause(lost.is_some());
            let reason = lost.as_deref().unwrap_or("the stream ended");
            let text =
                humantime::format_duration(Duration::from_millis(pause.as_millis().try_into().unwrap_or(u64::MAX)));
            output::complain(&format!("{reason}; coming back in {text}"));
            sleep(pause).await;
        }
    }

    /// As long as the server said after a stream that ended well; longer and longer while it fails, each time another
    /// length, so that many who were cut off together do not come back together.
    fn pause(&mut self, failed: bool) -> Duration {
        if !failed {
            self.failures = 0;
            return self.retry;
        }
        let doubled = self.retry.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        doubled.min(MAX_BACKOFF.max(self.retry)).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    async fn read(&mut self, mut stream: Stream) -> Result<End, Failure> {
        let mut decoder = Decoder::new();
        // Until then the id of an earlier connection counts.
        let mut has_id = false;
        loop {
            let chunk = match stream.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(End::Lost(None)),
                Err(reason) => return Ok(End::Lost(Some(reason))),
            };
            let fed = decoder.feed(&chunk);
            for item in decoder.by_ref() {
                self.failures = 0;
                match item {
                    Decoded::Event(event) => {
                        has_id |= !event.id.is_empty();
                        if has_id {
                            self.last_event_id.clone_from(&event.id);
                        }
                        if self.take(&event)? {
                            return Ok(End::Done);
                        }
                    }
                    Decoded::Id(id) => {
                        has_id = true;
                        self.last_event_id = id;
                    }
                    Decoded::Retry(retry) => self.retry = retry.min(MAX_BACKOFF * 60),
                    Decoded::Comment(_) => {}
                }
            }
            fed.map_err(Failure::run)?;
        }
    }

    /// Prints an event where it is wanted. `true`: that was all.
    fn take(&mut self, event: &Received) -> Result<bool, Failure> {
        let named = self.args.event.contains(&event.event);
        if event.event.starts_with(RESERVED_EVENT_PREFIX) && !named {
            output::complain(&format!("{} {}", event.event, event.data));
            return Ok(false);
        }
        if !named && !self.args.event.is_empty() {
            return Ok(false);
        }
        let text = if self.args.json { self.json(event)? } else { self.text(event) };
        if let Err(error) = output::write(&text) {
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                return Ok(true);
            }
            return Err(Failure::run(format!("cannot write to standard output: {error}")));
        }
        self.printed += 1;
        Ok(self.args.count.is_some_and(|count| self.printed >= count.get()))
    }

    fn json(&self, event: &Received) -> Result<String, Failure> {
        let line = Line { event: &event.event, data: &event.data, id: &self.last_event_id };
        serde_json::to_string(&line).map(|line| line + "\n").map_err(Failure::run)
    }

    /// As it would stand in the stream.
    fn text(&self, event: &Received) -> String {
        let mut text = String::new();
        if event.event != "message" {
            text.push_str(&format!("event: {}\n", event.event));
        }
        for line in event.data.split('\n') {
            text.push_str(&format!("data: {line}\n"));
        }
        if !self.last_event_id.is_empty() {
            text.push_str(&format!("id: {}\n", self.last_event_id));
        }
        text.push('\n');
        text
    }
}

/// The header's value; in none of its errors is a byte of the token.
pub(super) fn token(file: &Path) -> Result<HeaderValue, String> {
    let place = |reason: String| format!("--token-file: {}: {reason}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| place(error.to_string()))?;
    let token = text.trim();
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut value = value.ok_or_else(|| place("it does not hold a token on one line".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a header can carry.
fn last_event_id(id: &str) -> Result<String, String> {
    match HeaderValue::from_bytes(id.as_bytes()) {
        Ok(_) => Ok(id.to_owned()),
        Err(_) => Err("an id may not have control characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(flags: &[&str]) -> Listener {
        let args = Args::try_parse_from([&["listen", "http://127.0.0.1/"], flags].concat()).unwrap();
        Listener { args, last_event_id: String::new(), retry: DEFAULT_RETRY, printed: 0, failures: 0 }
    }

    #[test]
    fn pauses_grow_while_it_fails_and_stay_in_bounds() {
        let mut listener = listener(&[]);
        assert_eq!(listener.pause(false), DEFAULT_RETRY);
        let mut most = DEFAULT_RETRY;
        for _ in 0..200 {
            let pause = listener.pause(true);
            assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
            most = (most * 2).min(MAX_BACKOFF);
        }
        assert_eq!(listener.pause(false), DEFAULT_RETRY);
        assert!(listener.pause(true) <= DEFAULT_RETRY, "it begins anew");
        listener.retry = Duration::from_secs(600);
        listener.failures = 5;
        assert!((Duration::from_secs(300)..=Duration::from_secs(600)).contains(&listener.pause(true)));
    }

    #[test]
    fn events_as_text_and_as_json() {
        let mut listener = listener(&[]);
        let event = |event: &str, data: &str| Received { event: event.into(), data: data.into(), id: String::new() };
        assert_eq!(listener.text(&event("message", "a\n\nb")), "data: a\ndata: \ndata: b\n\n");
        listener.last_event_id = "7".into();
        assert_eq!(listener.text(&event("n", "")), "event: n\ndata: \nid: 7\n\n");
        assert_eq!(
            listener.json(&event("n", "a\n\"")).unwrap(),
            "{\"event\":\"n\",\"data\":\"a\\n\\\"\",\"id\":\"7\"}\n"
        );
    }

    #[test]
    fn ids_that_no_header_can_carry() {
        assert!(last_event_id("17-0_abcde").is_ok() && last_event_id("한").is_ok());
        for id in ["a\nb", "a\r\nX: y", "\0"] {
            assert!(last_event_id(id).is_err(), "{id:?}");
        }
    }
}
