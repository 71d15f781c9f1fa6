//! The envelope: the JSON in which an event travels from a publisher to the gateways.
//!
//! `{"event"?: string, "data"?: any, "retry"?: ms, "end"?: bool}`, and nothing else. Anybody may put any bytes on a
//! channel, so reading is total: what is not an envelope is delivered whole, as data.

use std::borrow::Cow;
use std::time::Duration;

use memchr::memmem;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::event::{Event, RESERVED_EVENT_PREFIX, has_line_break};

/// An event as publishers write it. `null` is a value like any other for `data`, and a wrong type for the rest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Name of the event; no CR or LF, not beginning `sse.`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Any JSON value, its key order and number text kept.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Reconnection time in milliseconds, clamped to 100 ms - 1 h when it is delivered.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub retry: Option<u64>,
    /// Closes the channel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

/// `Some` for any value that is there, so that `null` is not taken for absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Envelope {
    /// An envelope of `data` as text.
    ///
    /// # Errors
    /// None that a string can cause; the type is serde_json's.
    pub fn text(data: &str) -> serde_json::Result<Self> {
        Ok(Self { data: Some(serde_json::value::to_raw_value(data)?), ..Self::default() })
    }

    /// Reads a payload strictly.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        // serde would take a list for the fields in their order.
        if payload.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let envelope: Self = serde_json::from_slice(payload).ok()?;
        let forged = |name: &str| has_line_break(name) || name.starts_with(RESERVED_EVENT_PREFIX);
        if envelope.event.as_deref().is_some_and(forged) {
            return None;
        }
        // A string with a lone surrogate is JSON, yet no text.
        envelope.data_text().is_some().then_some(envelope)
    }

    /// The payload: compact JSON, absent fields left out.
    ///
    /// # Errors
    /// None that an envelope can cause; the type is serde_json's.
    pub fn to_payload(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The data as it is sent: a string as it is, anything else as its JSON text, nothing as the empty text. `None` for a
    /// JSON string that is not Unicode text.
    #[must_use]
    pub fn data_text(&self) -> Option<Cow<'_, str>> {
        let json = self.data.as_deref().map_or("\"\"", RawValue::get);
        if !json.starts_with('"') {
            return Some(Cow::Borrowed(json));
        }
        // Most strings have no escapes and can be borrowed.
        let inner = json.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        serde_json::from_str::<String>(json).ok().map(Cow::Owned)
    }
}

/// What a payload says.
#[derive(Debug, Clone)]
pub enum Payload<'a> {
    /// An envelope.
    Envelope(Envelope),
    /// Anything else, delivered whole as data; invalid UTF-8 replaced, since an event stream is UTF-8.
    Opaque(Cow<'a, str>),
}

impl<'a> Payload<'a> {
    /// Reads any bytes.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Self {
        match Envelope::parse(payload) {
            Some(envelope) => Self::Envelope(envelope),
            None => Self::Opaque(String::from_utf8_lossy(payload)),
        }
    }

    /// Whether `payload` closes its channel. Most say nothing of an end, by which they are known without being read.
    #[must_use]
    pub fn ends(payload: &[u8]) -> bool {
        // JSON may write the letters of a key as escapes.
        let says = |what: &[u8]| memmem::find(payload, what).is_some();
        (says(b"\"end\"") || says(b"\\u00")) && Payload::parse(payload).is_end()
    }

    /// Whether it closes its channel.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Envelope(envelope) if envelope.end)
    }

    /// The event that clients get, still without an id.
    ///
    /// With neither `data` nor `end` the data is empty, since a client drops an event without any; a named event is
    /// given empty data even with `end`, since somebody listens for that name. A mere `{"end": true}` is no event.
    #[must_use]
    pub fn to_event(&self) -> Event {
        let envelope = match self {
            Self::Opaque(text) => return Event::default().with_data(text.as_ref()),
            Self::Envelope(envelope) => envelope,
        };
        // `parse` lets no line break through; an envelope built by hand loses such a name rather than forging a field.
        let mut event = match envelope.event.as_deref() {
            Some(name) => Event::default().with_event(name).unwrap_or_default(),
            None => Event::default(),
        };
        if envelope.data.is_some() || !envelope.end || envelope.event.is_some() {
            event = event.with_data(envelope.data_text().unwrap_or_default());
        }
        match envelope.retry {
            Some(ms) => event.with_retry(Duration::from_millis(ms)),
            None => event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_stream::encode;
    use proptest::prelude::*;

    fn sent(payload: &str) -> String {
        let mut out = Vec::new();
        encode::event(&mut out, &Payload::parse(payload.as_bytes()).to_event());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn envelopes() {
        assert_eq!(sent(r#"{"event":"n","data":"x"}"#), "event: n\ndata: x\n\n");
        assert_eq!(sent(r#"{"data":{"b":1.50,"a":1e400}}"#), "data: {\"b\":1.50,\"a\":1e400}\n\n");
        assert_eq!(sent(r#"{"data":null}"#), "data: null\n\n");
        assert_eq!(sent(r#"{"data":"a\r\nb"}"#), "data: a\ndata: b\n\n");
        assert_eq!(sent("{\"data\":{\n\"a\":1}}"), "data: {\ndata: \"a\":1}\n\n");
        assert_eq!(sent("{}"), "data:\n\n");
        assert_eq!(sent(r#"{"event":"n"}"#), "event: n\ndata:\n\n");
        assert_eq!(sent(r#"{"retry":5,"data":""}"#), "data:\nretry: 100\n\n");
        assert_eq!(sent(r#" {"data" : "x" } "#), "data: x\n\n");
        assert_eq!(sent(r#"{"data":"\u00e9\""}"#), "data: é\"\n\n");
    }

    #[test]
    fn a_list_is_data() {
        for list in [r#"["n"]"#, "[]", r#"["n",1,5,true]"#, " [\"n\",{\"end\":true}]"] {
            assert!(Envelope::parse(list.as_bytes()).is_none(), "{list}");
            assert_eq!(sent(list), format!("data: {list}\n\n"));
        }
    }

    #[test]
    fn end() {
        assert_eq!(sent(r#"{"end":true}"#), "\n", "only a position, no event");
        assert_eq!(sent(r#"{"end":true,"data":"x"}"#), "data: x\n\n");
        assert_eq!(sent(r#"{"end":true,"event":"done"}"#), "event: done\ndata:\n\n");
        assert_eq!(sent(r#"{"end":false}"#), "data:\n\n");
        assert!(Payload::parse(br#"{"end":true}"#).is_end());
        assert!(!Payload::parse(br#"{"end":false}"#).is_end());
        assert!(!Payload::parse(b"end").is_end());
        for payload in [
            r#"{"end":true}"#,
            r#"{"end":false}"#,
            r#"{ "data": 1, "\u0065nd" : true }"#,
            r#"{"e\u006Ed":true}"#,
            r#"{"\u0065\u006e\u0064":true}"#,
            r#"{"data":"\"end\":true"}"#,
            r#"{"data":{"end":true}}"#,
            r#"{"end":true,"end":false}"#,
            "end",
            "",
        ] {
            assert_eq!(Payload::ends(payload.as_bytes()), Payload::parse(payload.as_bytes()).is_end(), "{payload}");
        }
        assert!(Payload::ends(br#"{"\u0065nd":true}"#));
    }

    #[test]
    fn anything_else_is_data() {
        for payload in [
            "hello",
            "",
            "42",
            "null",
            "\"text\"",
            "[1]",
            r#"{"data":"x","more":1}"#,
            r#"{"event":1}"#,
            r#"{"event":null}"#,
            r#"{"event":"a\nb"}"#,
            r#"{"event":"sse.gap"}"#,
            r#"{"retry":"5"}"#,
            r#"{"retry":-1}"#,
            r#"{"retry":1.5}"#,
            r#"{"retry":null}"#,
            r#"{"end":1}"#,
            r#"{"end":null}"#,
            r#"{"data":"x"} trailing"#,
            r#"{"data":1,"data":2}"#,
            r#"{"data":"\ud800"}"#,
            r#"{"data":"#,
        ] {
            let mut expected = Vec::new();
            encode::event(&mut expected, &Event::default().with_data(payload));
            assert_eq!(sent(payload), String::from_utf8(expected).unwrap(), "{payload}");
        }
        let invalid = Payload::parse(b"a\xFF").to_event();
        assert_eq!(invalid.data(), Some("a\u{fffd}"));
    }

    #[test]
    fn payload_leaves_out_what_is_absent() {
        let mut envelope = Envelope::text("x\"\n").unwrap();
        assert_eq!(envelope.to_payload().unwrap(), br#"{"data":"x\"\n"}"#);
        envelope = Envelope { event: Some("n".into()), retry: Some(5), end: true, data: None };
        assert_eq!(envelope.to_payload().unwrap(), br#"{"event":"n","retry":5,"end":true}"#);
    }

    proptest! {
        #[test]
        fn text_survives(data in any::<String>()) {
            let payload = Envelope::text(&data).unwrap().to_payload().unwrap();
            let event = Payload::parse(&payload).to_event();
            prop_assert_eq!(event.data(), Some(data.as_str()));
        }

        #[test]
        fn any_bytes_at_all(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Payload::parse(&payload).to_event();
            prop_assert_eq!(Payload::ends(&payload), Payload::parse(&payload).is_end());
        }
    }
}
