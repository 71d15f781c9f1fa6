//! The event of the WHATWG event stream format: fields `event`, `data`, `id` and `retry`.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

use std::time::Duration;

/// Event names with this prefix are the gateway's own signals (`sse.open`, `sse.gap`); publishers may not use them.
pub const RESERVED_EVENT_PREFIX: &str = "sse.";

/// Shortest reconnection time that is ever sent; shorter ones are raised to it.
pub const MIN_RETRY: Duration = Duration::from_millis(100);
/// Longest reconnection time that is ever sent; longer ones are cut to it.
pub const MAX_RETRY: Duration = Duration::from_secs(3600);

/// One event, every field optional. What cannot be written on one line cannot be put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    event: Option<String>,
    data: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
}

/// A field that the format cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// CR or LF in `event` would begin another field.
    #[error("event may not have a line break")]
    EventLineBreak,
    /// CR or LF in `id` would begin another field.
    #[error("id may not have a line break")]
    IdLineBreak,
    /// A client ignores an `id` with NUL.
    #[error("id may not have a NUL")]
    IdNul,
}

impl Event {
    /// Sets the event's name. A client without one dispatches `message`.
    ///
    /// # Errors
    /// [`FieldError::EventLineBreak`].
    pub fn with_event(mut self, event: impl Into<String>) -> Result<Self, FieldError> {
        let event = event.into();
        if has_line_break(&event) {
            return Err(FieldError::EventLineBreak);
        }
        self.event = Some(event);
        Ok(self)
    }

    /// Sets the data, any text. CR, LF and CRLF each end one line of it; a client gets them all back as LF.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<String>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// Sets the id, which the client sends back as `Last-Event-ID`.
    ///
    /// # Errors
    /// [`FieldError::IdLineBreak`], [`FieldError::IdNul`].
    pub fn with_id(mut self, id: impl Into<String>) -> Result<Self, FieldError> {
        let id = id.into();
        if has_line_break(&id) {
            return Err(FieldError::IdLineBreak);
        }
        if id.contains('\0') {
            return Err(FieldError::IdNul);
        }
        self.id = Some(id);
        Ok(self)
    }

    /// Sets the reconnection time, within [`MIN_RETRY`] and [`MAX_RETRY`]; written in whole milliseconds.
    #[must_use]
    pub fn with_retry(mut self, retry: Duration) -> Self {
        self.retry = Some(retry.clamp(MIN_RETRY, MAX_RETRY));
        self
    }

    /// The event's name.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// The data. `None` (no `data:` line at all) is never dispatched by a client; an empty text is.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The reconnection time.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }
}

pub(crate) fn has_line_break(text: &str) -> bool {
    memchr::memchr2(b'\r', b'\n', text.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_forge_a_field() {
        for text in ["a\nb", "a\rb", "\r\n"] {
            assert_eq!(Event::default().with_event(text), Err(FieldError::EventLineBreak));
            assert_eq!(Event::default().with_id(text), Err(FieldError::IdLineBreak));
        }
        assert_eq!(Event::default().with_id("a\0"), Err(FieldError::IdNul));
    }

    #[test]
    fn retry_is_clamped() {
        let retry = |ms| Event::default().with_retry(Duration::from_millis(ms)).retry();
        assert_eq!(retry(0), Some(MIN_RETRY));
        assert_eq!(retry(u64::MAX), Some(MAX_RETRY));
        assert_eq!(retry(2_500), Some(Duration::from_millis(2_500)));
    }
}
