//! An event out of flags, checked against the configured limits.

use std::time::Duration;

use serde::de::IntoDeserializer as _;
use serde_json::value::{RawValue, to_raw_value};
use shared::config::duration;
use shared::envelope::Envelope;

use super::Failure;
use crate::config::Limits;
use crate::event::{EPHEMERAL_END, EPHEMERAL_ONCE, LONE_SURROGATE, check_name};
use crate::{Once, Publication};

/// What flags and input say, each of the right type and nothing checked yet.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) event: Option<String>,
    pub(super) data: Option<Box<RawValue>>,
    pub(super) retry: Option<Duration>,
    pub(super) end: bool,
    pub(super) ephemeral: bool,
    pub(super) once: Option<Once>,
}

impl Draft {
    /// Checks everything and makes the payload. `data_flag` is what the data came by.
    ///
    /// # Errors
    /// A [`Failure`] of usage, naming the flag.
    pub(super) fn finish(self, data_flag: &str, limits: &Limits) -> Result<Publication, Failure> {
        if let Some(name) = &self.event {
            event_name("--event", name, limits)?;
        }
        if self.ephemeral && self.end {
            return Err(Failure::usage(format!("--ephemeral: {EPHEMERAL_END}")));
        }
        if self.ephemeral && self.once.is_some() {
            return Err(Failure::usage(format!("--once: {EPHEMERAL_ONCE}")));
        }
        let retry = self.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        // Clients dispatch an empty name as no name.
        let event = self.event.filter(|name| !name.is_empty());
        let envelope = Envelope { event, data: self.data, retry, end: self.end };
        let Some(data) = envelope.data_text() else {
            return Err(Failure::usage(format!("{data_flag}: {LONE_SURROGATE}")));
        };
        if data.len() > limits.max_data {
            return Err(too_long(data_flag, limits.max_data));
        }
        let publication = Publication::envelope(&envelope)
            .map_err(|error| Failure::usage(format!("{data_flag}: cannot be written as JSON: {error}")))?;
        Ok(Publication { ephemeral: self.ephemeral, once: self.once, ..publication })
    }
}

/// A text as the data of a [`Draft`].
pub(super) fn text(data: &str) -> Result<Box<RawValue>, Failure> {
    to_raw_value(data).map_err(|error| Failure::usage(format!("the data cannot be written as JSON: {error}")))
}

pub(super) fn too_long(flag: &str, max: usize) -> Failure {
    Failure::usage(format!("{flag}: more than {max} bytes of data; the limit is limits.max_data"))
}

/// Whether an event may be called so.
pub(super) fn event_name(flag: &str, name: &str, limits: &Limits) -> Result<(), Failure> {
    check_name(name, limits.max_event_name).map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

/// A duration with its unit, as in a configuration.
pub(super) fn read_duration(text: &str) -> Result<Duration, String> {
    duration::deserialize(text.into_deserializer())
        .map_err(|_: serde::de::value::Error| "a duration has a unit, such as 3s or 500ms".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(draft: Draft) -> Result<String, String> {
        let limits = Limits { max_data: 5, max_event_name: 4, ..Limits::default() };
        match draft.finish("--data", &limits) {
            Ok(publication) => Ok(String::from_utf8(publication.payload.to_vec()).unwrap()),
            Err(Failure { code, text }) => {
                assert_eq!(code, 2);
                Err(text)
            }
        }
    }

    #[test]
    fn payloads() {
        let data = || Some(text("a\"b").unwrap());
        assert_eq!(finish(Draft { data: data(), ..Draft::default() }).unwrap(), r#"{"data":"a\"b"}"#);
        let full = Draft {
            event: Some("n".into()),
            data: data(),
            retry: Some(Duration::from_millis(1_500)),
            end: true,
            ..Draft::default()
        };
        assert_eq!(finish(full).unwrap(), r#"{"event":"n","data":"a\"b","retry":1500,"end":true}"#);
        let unnamed = Draft { event: Some(String::new()), ..Draft::default() };
        assert_eq!(finish(unnamed).unwrap(), "{}");
    }

    #[test]
    fn what_is_wrong_names_its_flag() {
        let raw = |json: &str| Some(RawValue::from_string(json.to_owned()).unwrap());
        let once = Once::parse("k").unwrap();
        for (draft, wanted) in [
            (Draft { event: Some("long!".into()), ..Draft::default() }, "--event: event has 5 bytes, the limit is 4"),
            (Draft { event: Some("sse.".into()), ..Draft::default() }, "--event: event names beginning sse. are"),
            (Draft { ephemeral: true, end: true, ..Draft::default() }, "--ephemeral: ephemeral and end contradict"),
            (Draft { ephemeral: true, once: Some(once), ..Draft::default() }, "--once: once and ephemeral contradict"),
            (Draft { data: raw(r#""\ud800""#), ..Draft::default() }, "--data: a string with half a surrogate pair"),
            (Draft { data: raw("123456"), ..Draft::default() }, "--data: more than 5 bytes of data"),
        ] {
            let error = finish(draft).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
        assert!(finish(Draft { data: raw(r#""\u00e9\u00e9x""#), ..Draft::default() }).is_ok(), "5 bytes once decoded");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(read_duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "3", "3 parsecs", "-1s"] {
            assert_eq!(read_duration(wrong), Err("a duration has a unit, such as 3s or 500ms".to_owned()), "{wrong}");
        }
    }
}
