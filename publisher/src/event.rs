//! An event as a backend writes it in Rust: [`Event`], and the rules that every publish obeys, by whatever way it comes.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shared::envelope::Envelope;
use shared::event::RESERVED_EVENT_PREFIX;

use crate::http::{DEFAULT_MAX_DATA, DEFAULT_MAX_EVENT_NAME};
use crate::{Once, Publication, PublishError};

/// Why an ephemeral event cannot close its channel.
pub(crate) const EPHEMERAL_END: &str =
    "ephemeral and end contradict each other: an end has to be in history, so that who comes late learns of it";
/// Why an ephemeral event has no idempotency key.
pub(crate) const EPHEMERAL_ONCE: &str = "once and ephemeral contradict each other: an ephemeral event has no position to \
                                         answer a repeated key with";
/// Why a JSON string can be no data.
pub(crate) const LONE_SURROGATE: &str = "a string with half a surrogate pair is not Unicode text";

/// One event, to be published by a [`Publisher`](crate::Publisher).
///
/// Whether it can be is found out when it is published, all of it before any of it: [`PublishError::Refused`].
///
/// ```
/// use publisher::{Event, Once};
/// use std::time::Duration;
///
/// # #[derive(serde::Serialize)]
/// # struct Order { id: u32 }
/// let hello = Event::text("hello").named("greeting");
/// let paid = Event::json(&Order { id: 7 })?.named("paid").once(Once::parse("order-7/paid")?);
/// let typing = Event::text("ada").named("typing").ephemeral();
/// let last = Event::text("bye").ended().ttl(Duration::from_secs(60));
/// # for event in [hello, paid, typing, last] { event.into_publication()?; }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Event {
    name: Option<String>,
    data: Option<Data>,
    retry: Option<Duration>,
    end: bool,
    ephemeral: bool,
    once: Option<Once>,
    history: Option<NonZeroU32>,
    ttl: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Data {
    Text(String),
    Json(Box<RawValue>),
}

impl Event {
    /// An event with a text as its data, 0 to 64 KiB. Each of CR, LF and CRLF in it ends one line; a client gets LF.
    #[must_use]
    pub fn text(data: impl Into<String>) -> Self {
        Self::new(Some(Data::Text(data.into())))
    }

    /// An event with a value as its data: clients get a string as it is, anything else as JSON text, up to 64 KiB.
    ///
    /// # Errors
    /// Those of the value's own [`Serialize`].
    pub fn json<T: Serialize + ?Sized>(data: &T) -> serde_json::Result<Self> {
        to_raw_value(data).map(Self::raw)
    }

    /// The same from JSON text that is there already; key order and number text are kept.
    #[must_use]
    pub fn raw(data: Box<RawValue>) -> Self {
        Self::new(Some(Data::Json(data)))
    }

    /// Closes the channel, and says nothing else: its readers' streams end, and nobody is connected to it again until
    /// something is published.
    #[must_use]
    pub fn end() -> Self {
        Self { end: true, ..Self::new(None) }
    }

    fn new(data: Option<Data>) -> Self {
        Self { name: None, data, retry: None, end: false, ephemeral: false, once: None, history: None, ttl: None }
    }

    /// The same with a name, what a client listens for: up to 256 bytes, no CR, LF or NUL, not beginning `sse.`. Clients
    /// dispatch an event without one, or with an empty one, as `message`.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same with a reconnection time, in whole milliseconds; gateways keep it within 100 ms and 1 h.
    #[must_use]
    pub fn retry(self, retry: Duration) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// The same with an idempotency key.
    #[must_use]
    pub fn once(self, once: Once) -> Self {
        Self { once: Some(once), ..self }
    }

    /// The same, and the channel's history keeps so many entries; see [`DEFAULT_HISTORY`](crate::DEFAULT_HISTORY).
    #[must_use]
    pub fn history(self, entries: NonZeroU32) -> Self {
        Self { history: Some(entries), ..self }
    }

    /// The same, and the channel's history lives at least so long, in whole seconds rounded up; see
    /// [`DEFAULT_TTL`](crate::DEFAULT_TTL).
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// The same, and it closes the channel, as [`end`](Self::end).
    #[must_use]
    pub fn ended(self) -> Self {
        Self { end: true, ..self }
    }

    /// The same, live only: no position, no history, never replayed.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        Self { ephemeral: true, ..self }
    }

    /// Checks everything and makes the payload.
    ///
    /// # Errors
    /// [`PublishError::Refused`], naming the field as it is called in JSON: `event`, `data`, `once`, `ephemeral`.
    pub fn into_publication(self) -> Result<Publication, PublishError> {
        if let Some(name) = &self.name {
            check_name(name, DEFAULT_MAX_EVENT_NAME).map_err(|error| refused("event", error.to_string()))?;
        }
        if self.ephemeral && self.end {
            return Err(refused("ephemeral", EPHEMERAL_END));
        }
        if self.ephemeral && self.once.is_some() {
            return Err(refused("once", EPHEMERAL_ONCE));
        }
        let not_json = |error: serde_json::Error| refused("data", format!("data cannot be written as JSON: {error}"));
        let data = match self.data {
            Some(Data::Text(text)) => Some(to_raw_value(&text).map_err(not_json)?),
            Some(Data::Json(json)) => Some(json),
            None => None,
        };
        let retry = self.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        // Clients dispatch an empty name as no name.
        let event = self.name.filter(|name| !name.is_empty());
        let envelope = Envelope { event, data, retry, end: self.end };
        let Some(text) = envelope.data_text() else { return Err(refused("data", LONE_SURROGATE)) };
        if text.len() > DEFAULT_MAX_DATA {
            let reason = format!("data has {} bytes, the limit is {DEFAULT_MAX_DATA}", text.len());
            return Err(refused("data", reason));
        }
        let publication = Publication::envelope(&envelope).map_err(not_json)?;
        let Self { ephemeral, once, history, ttl, .. } = self;
        Ok(Publication { ephemeral, once, history, ttl, ..publication })
    }
}

fn refused(field: &'static str, reason: impl Into<String>) -> PublishError {
    PublishError::Refused { field, reason: reason.into() }
}

/// Why a text is no name of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("event has {bytes} bytes, the limit is {max}")]
    Length { bytes: usize, max: usize },
    #[error("event may not have {0:?} (no CR, LF or NUL)")]
    Character(char),
    #[error("event names beginning sse. are the gateway's own signals")]
    Reserved,
}

/// Whether an event may be called so; `max` in bytes.
pub(crate) fn check_name(name: &str, max: usize) -> Result<(), NameError> {
    if name.len() > max {
        return Err(NameError::Length { bytes: name.len(), max });
    }
    // CR and LF would begin another field; NUL is dropped or refused by intermediaries and clients.
    if let Some(character) = name.chars().find(|c| matches!(c, '\r' | '\n' | '\0')) {
        return Err(NameError::Character(character));
    }
    // Readers of the stream that trim more than the one space after the colon see the same name.
    if name.trim_start().starts_with(RESERVED_EVENT_PREFIX) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(event: Event) -> String {
        String::from_utf8(event.into_publication().unwrap().payload.to_vec()).unwrap()
    }

    fn refusal(event: Event) -> (&'static str, String) {
        match event.into_publication().unwrap_err() {
            PublishError::Refused { field, reason } => (field, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn payloads() {
        assert_eq!(payload(Event::text("a\r\n\"b\"")), r#"{"data":"a\r\n\"b\""}"#);
        assert_eq!(payload(Event::json(&[1, 2]).unwrap().named("n")), r#"{"event":"n","data":[1,2]}"#);
        assert_eq!(payload(Event::json("text").unwrap()), r#"{"data":"text"}"#);
        let raw = RawValue::from_string(r#"{"b":1.50,"a":1e400}"#.to_owned()).unwrap();
        assert_eq!(payload(Event::raw(raw)), r#"{"data":{"b":1.50,"a":1e400}}"#);
        assert_eq!(payload(Event::end()), r#"{"end":true}"#);
        assert_eq!(payload(Event::text("").named("").ended()), r#"{"data":"","end":true}"#, "an empty name is none");
        assert_eq!(payload(Event::text("x").retry(Duration::from_micros(5_999))), r#"{"data":"x","retry":5}"#);
        assert_eq!(payload(Event::end().retry(Duration::MAX)), r#"{"retry":18446744073709551615,"end":true}"#);
    }

    #[test]
    fn settings_go_with_it() {
        let (once, history) = (Once::parse("k").unwrap(), NonZeroU32::new(5).unwrap());
        let event = Event::text("x").once(once.clone()).history(history).ttl(Duration::from_secs(7));
        let publication = event.into_publication().unwrap();
        assert_eq!((publication.once, publication.history), (Some(once), Some(history)));
        assert_eq!((publication.ttl, publication.ephemeral), (Some(Duration::from_secs(7)), false));
        assert!(Event::text("x").ephemeral().into_publication().unwrap().ephemeral);
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        let text = || Event::text("x");
        assert_eq!(refusal(text().ephemeral().ended()), ("ephemeral", EPHEMERAL_END.to_owned()));
        let once = Once::parse("k").unwrap();
        assert_eq!(refusal(text().ephemeral().once(once)), ("once", EPHEMERAL_ONCE.to_owned()));
        for (name, reason) in [
            ("a\nb", r"event may not have '\n' (no CR, LF or NUL)"),
            ("a\0", r"event may not have '\0' (no CR, LF or NUL)"),
            ("sse.gap", "event names beginning sse. are the gateway's own signals"),
            (" \u{a0}sse.gap", "event names beginning sse. are the gateway's own signals"),
            (&"x".repeat(257), "event has 257 bytes, the limit is 256"),
        ] {
            assert_eq!(refusal(text().named(name)), ("event", reason.to_owned()));
        }
        payload(text().named("x".repeat(256)));
        let lone = RawValue::from_string(r#""\ud800""#.to_owned()).unwrap();
        assert_eq!(refusal(Event::raw(lone)), ("data", LONE_SURROGATE.to_owned()));
        payload(Event::text("x".repeat(65_536)));
        let long = refusal(Event::text("x".repeat(65_537)));
        assert_eq!(long, ("data", "data has 65537 bytes, the limit is 65536".to_owned()));
    }
}
