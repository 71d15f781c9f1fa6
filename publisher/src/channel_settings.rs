//! What whole families of channels have in common, by how their names begin: [`ChannelSettings`], a part of a
//! configuration, and [`Configured`], which applies them to every publication on its way to a broker.
//!
//! It decides at the publisher; gateways and brokers must not need to know of it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::channel::{Channel, RESERVED_PREFIX};
use shared::config::ConfigError;
use shared::envelope::Payload;

use crate::{Publication, Publish, PublishError, Receipt};

/// Most entries that a rule lets a history keep.
pub const MAX_RULE_HISTORY: u32 = 1_000_000;
/// Longest that a rule lets a history live: 366 days.
pub const MAX_RULE_TTL: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The rules, in any order: an array of tables `[[channels]]` in a configuration file. Of those whose prefix a channel's
/// name begins with, the longest one counts, whole: what it leaves out is not taken from a shorter one, but is the
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelSettings(pub Vec<ChannelRule>);

/// Settings of the channels whose names begin with `prefix`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// 0 to 256 bytes; the empty one is every channel's.
    pub prefix: String,
    /// Entries that the history keeps where a publication says nothing, 1 to [`MAX_RULE_HISTORY`].
    #[serde(default)]
    pub history: Option<NonZeroU32>,
    /// How long the history lives at least where a publication says nothing: whole seconds, 1 s to [`MAX_RULE_TTL`].
    #[serde(default, with = "text")]
    pub ttl: Option<Duration>,
    /// Every event is ephemeral, whatever its publication says.
    #[serde(default)]
    pub ephemeral: bool,
}

impl ChannelSettings {
    /// What [`shared::config::load_checked`] is to be taught of the key `channels`, whose default is empty.
    #[must_use]
    pub fn taught() -> (&'static str, Value) {
        ("channels", serde_json::json!({"prefix": "", "history": null, "ttl": null, "ephemeral": false}))
    }

    /// Ranges, and rules between keys, each error naming its key (`channels[1].prefix`).
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        for (number, rule) in self.0.iter().enumerate() {
            let mut check = |key: &str, result: Result<(), String>| {
                if let Err(reason) = result {
                    errors.push(ConfigError::invalid(&format!("channels[{number}].{key}"), reason));
                }
            };
            check("prefix", check_prefix(&rule.prefix));
            check("prefix", self.check_alone(number, &rule.prefix));
            check("history", rule.history.map_or(Ok(()), check_history));
            check("ttl", rule.ttl.map_or(Ok(()), check_ttl));
            check("ephemeral", rule.check_ephemeral());
        }
        errors
    }

    /// The rule of `channel`, if there is one.
    #[must_use]
    pub fn rule(&self, channel: &Channel) -> Option<&ChannelRule> {
        let fitting = self.0.iter().filter(|rule| channel.as_str().starts_with(&rule.prefix));
        fitting.max_by_key(|rule| rule.prefix.len())
    }

    /// `publication` as the channel's rule makes it.
    ///
    /// # Errors
    /// [`PublishError::Refused`] where every event of the channel is ephemeral, and this one has a `once` key or closes
    /// the channel.
    pub fn apply(&self, channel: &Channel, publication: Publication) -> Result<Publication, PublishError> {
        let Some(rule) = self.rule(channel) else { return Ok(publication) };
        if rule.ephemeral {
            return ephemeral(channel, publication);
        }
        let (history, ttl) = (publication.history.or(rule.history), publication.ttl.or(rule.ttl));
        Ok(Publication { history, ttl, ..publication })
    }

    fn check_alone(&self, number: usize, prefix: &str) -> Result<(), String> {
        match self.0.iter().take(number).position(|other| other.prefix == prefix) {
            Some(other) => Err(format!("channels[{other}] has the same prefix {prefix:?}")),
            None => Ok(()),
        }
    }
}

impl ChannelRule {
    fn check_ephemeral(&self) -> Result<(), String> {
        if self.ephemeral && (self.history.is_some() || self.ttl.is_some()) {
            return Err("ephemeral events have no history, so neither history nor ttl may be set with it".to_owned());
        }
        Ok(())
    }
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.starts_with(RESERVED_PREFIX) {
        return Err("channels beginning sse. are the cluster's own, nobody publishes to them".to_owned());
    }
    if prefix.is_empty() {
        return Ok(());
    }
    Channel::parse(prefix).map(drop).map_err(|error| format!("no channel's name begins so: {error}"))
}

fn check_history(history: NonZeroU32) -> Result<(), String> {
    if history.get() <= MAX_RULE_HISTORY {
        return Ok(());
    }
    Err(format!("{history} is not within 1 and {MAX_RULE_HISTORY}"))
}

fn check_ttl(ttl: Duration) -> Result<(), String> {
    if !(Duration::from_secs(1)..=MAX_RULE_TTL).contains(&ttl) {
        return Err(format!("{ttl:?} is not within 1s and 366d"));
    }
    if ttl.subsec_nanos() != 0 {
        return Err(format!("{ttl:?} is not a whole number of seconds"));
    }
    Ok(())
}

fn ephemeral(channel: &Channel, publication: Publication) -> Result<Publication, PublishError> {
    let refused = |field: &'static str, why: &str| {
        Err(PublishError::Refused { field, reason: format!("every event on {channel} is ephemeral: {why}") })
    };
    if publication.once.is_some() {
        return refused("once", "there is no position to answer a repeated once key with");
    }
    if Payload::parse(&publication.payload).is_end() {
        return refused("end", "an end has to be in history, so that who comes late learns of it");
    }
    Ok(publication.ephemeral())
}

/// A [`Publish`] that applies [`ChannelSettings`] to whatever passes through it.
pub struct Configured {
    publish: Arc<dyn Publish>,
    settings: ChannelSettings,
}

impl Configured {
    /// `settings` have been checked.
    #[must_use]
    pub fn new(publish: Arc<dyn Publish>, settings: ChannelSettings) -> Self {
        Self { publish, settings }
    }
}

impl Publish for Configured {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        match self.settings.apply(channel, publication) {
            Ok(publication) => self.publish.publish(channel, publication),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    /// Those refused are left out; the others are published together.
    fn publish_batch<'a>(
        &'a self,
        batch: Vec<(Channel, Publication)>,
    ) -> BoxFuture<'a, Vec<Result<Receipt, PublishError>>> {
        let mut accepted = Vec::with_capacity(batch.len());
        let mut refusals = Vec::with_capacity(batch.len());
        for (channel, publication) in batch {
            match self.settings.apply(&channel, publication) {
                Ok(publication) => {
                    accepted.push((channel, publication));
                    refusals.push(None);
                }
                Err(error) => refusals.push(Some(error)),
            }
        }
        async move {
            let outcomes = if accepted.is_empty() { Vec::new() } else { self.publish.publish_batch(accepted).await };
            let mut outcomes = outcomes.into_iter();
            let mut next = || outcomes.next().unwrap_or_else(no_outcome);
            refusals.into_iter().map(|refusal| refusal.map_or_else(&mut next, Err)).collect()
        }
        .boxed()
    }
}

/// A broker that gives too few outcomes breaks its contract; nobody may take that for success.
fn no_outcome() -> Result<Receipt, PublishError> {
    Err(PublishError::Rejected { reason: "it did not answer this event of the batch".to_owned() })
}

/// An optional duration as text.
mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use shared::config::duration;

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "duration")] Duration);

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Text).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|Text(value)| value))
    }
}

#[cfg(test)]
mod tests;
