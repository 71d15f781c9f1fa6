//! The section `[chat]`: where answers come from, and how large and how long one may become.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use shared::channel::{Channel, MAX_CHANNEL_BYTES};
use shared::config::{ConfigError, between, duration, within};

use super::upstream::Endpoint;

/// Characters that follow the prefix in a channel's name.
pub(super) const NAME_DIGITS: usize = 32;

/// How answers are made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatSettings {
    /// The endpoint that answers, to the letter: `https://api.example.com/v1/chat/completions`.
    pub upstream: Option<String>,
    /// What it is to answer with; `default` where nothing is said.
    pub model: Option<String>,
    /// Its token (`Authorization: Bearer ...`).
    pub key: Option<String>,
    /// Said to it before everything else.
    pub system: Option<String>,
    /// Begins the names of the answers' channels.
    pub prefix: String,
    /// What stands before `/events` in `Location`; nothing means the same origin.
    pub events_url: String,
    /// Least time from one chunk to the next.
    #[serde(with = "duration")]
    pub batch: Duration,
    /// How long the upstream may send nothing once it has begun to answer; until then, and without text, four times that.
    #[serde(with = "duration")]
    pub stall: Duration,
    /// How long an answer may take.
    #[serde(with = "duration")]
    pub max_time: Duration,
    /// Bytes of one answer.
    pub max_bytes: usize,
    /// Answers under way at a time.
    pub max_answers: usize,
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            upstream: None,
            model: None,
            key: None,
            system: None,
            prefix: "chat:".to_owned(),
            events_url: String::new(),
            batch: Duration::from_millis(50),
            stall: Duration::from_secs(30),
            max_time: Duration::from_secs(600),
            max_bytes: 1 << 20,
            max_answers: 256,
        }
    }
}

/// No secret leaves by a log line; an address may hold one behind its `?`.
impl fmt::Debug for ChatSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatSettings")
            .field("upstream", &self.server())
            .field("model", &self.model)
            .field("key", &self.key.as_ref().map(|_| "***"))
            .field("system", &self.system.as_ref().map(String::len))
            .field("prefix", &self.prefix)
            .field("events_url", &self.events_url)
            .field("batch", &self.batch)
            .field("stall", &self.stall)
            .field("max_time", &self.max_time)
            .field("max_bytes", &self.max_bytes)
            .field("max_answers", &self.max_answers)
            .finish()
    }
}

impl ChatSettings {
    /// The upstream as `https://host:port`, for logs.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        let endpoint = Endpoint::parse(self.upstream.as_deref()?);
        Some(endpoint.map_or_else(|_| "***".to_owned(), |endpoint| endpoint.server()))
    }

    /// Ranges, and rules between keys, each error naming its key (`chat.upstream`).
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut check = |key: &str, result: Result<(), String>| {
            if let Err(reason) = result {
                errors.push(ConfigError::invalid(&format!("chat.{key}"), reason));
            }
        };
        check("upstream", self.upstream.as_deref().map_or(Ok(()), |url| Endpoint::parse(url).map(drop)));
        check("key", self.check_key());
        check("prefix", check_prefix(&self.prefix));
        check("events_url", check_events_url(&self.events_url));
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        check("batch", between(self.batch, Duration::from_millis(10), second));
        check("stall", between(self.stall, second, 5 * minute));
        check("max_time", between(self.max_time, second, 20 * minute));
        check("max_bytes", within(self.max_bytes, 1 << 10, 3 << 20));
        check("max_answers", within(self.max_answers, 1, 10_000));
        errors
    }

    /// Says nothing of the key itself.
    fn check_key(&self) -> Result<(), String> {
        let Some(key) = &self.key else { return Ok(()) };
        if key.is_empty() || HeaderValue::from_str(key).is_err() {
            return Err("a key is a line of text without control characters, not empty".to_owned());
        }
        Ok(())
    }
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    let channel = Channel::parse(prefix).map_err(|error| format!("no channel's name begins so: {error}"))?;
    if channel.is_reserved() {
        return Err("channels beginning sse. are the cluster's own, nobody publishes to them".to_owned());
    }
    let most = MAX_CHANNEL_BYTES - NAME_DIGITS;
    if prefix.len() > most {
        return Err(format!("it has {} bytes, the limit is {most}, since {NAME_DIGITS} digits follow", prefix.len()));
    }
    Ok(())
}

fn check_events_url(url: &str) -> Result<(), String> {
    let begins = ["http://", "https://", "/"].iter().any(|start| url.starts_with(start));
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    if url.is_empty() || begins && plain {
        return Ok(());
    }
    Err(format!("{url:?} is no address such as https://events.example.com, no path such as /sse, and not empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let settings = ChatSettings {
            upstream: Some("https://h/v1?key=hunter2".into()),
            key: Some("s3cret".into()),
            ..ChatSettings::default()
        };
        let text = format!("{settings:?}");
        assert!(!text.contains("s3cret") && !text.contains("hunter2"), "{text}");
        assert!(text.contains("https://h:443"), "{text}");
        let settings = ChatSettings { key: Some("s3cret\n".into()), ..ChatSettings::default() };
        assert!(!settings.check()[0].to_string().contains("s3cret"));
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let wrong = ChatSettings {
            upstream: Some("ftp://me:hunter2@h/".into()),
            key: Some(String::new()),
            prefix: "sse.".into(),
            events_url: "events.example.com".into(),
            batch: Duration::from_millis(9),
            ..ChatSettings::default()
        };
        let errors: Vec<_> = wrong.check().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "invalid value for \"chat.upstream\": an upstream is http://host[:port]/path or https://host[:port]/path",
                "invalid value for \"chat.key\": a key is a line of text without control characters, not empty",
                "invalid value for \"chat.prefix\": channels beginning sse. are the cluster's own, nobody publishes to them",
                "invalid value for \"chat.events_url\": \"events.example.com\" is no address such as \
                 https://events.example.com, no path such as /sse, and not empty",
                "invalid value for \"chat.batch\": 9ms is not within 10ms and 1s",
            ]
        );
        for (prefix, events_url) in [("c", "/sse"), (&*"x".repeat(224), "https://e.example.com"), ("질문:", "")] {
            let right =
                ChatSettings { prefix: prefix.into(), events_url: events_url.into(), ..ChatSettings::default() };
            assert_eq!(right.check(), [], "{prefix} {events_url}");
        }
        for (prefix, events_url) in [("", "//a b"), ("a b", "/x?y"), (&*"x".repeat(225), "https://한글/")] {
            let wrong =
                ChatSettings { prefix: prefix.into(), events_url: events_url.into(), ..ChatSettings::default() };
            assert_eq!(wrong.check().len(), 2, "{prefix} {events_url}");
        }
    }
}
