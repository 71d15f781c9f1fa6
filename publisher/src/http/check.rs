//! The rules for what a publish may say, the same whether it says so in JSON, in a query or in a path.

use std::borrow::Cow;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use serde_json::value::RawValue;
use shared::auth::Access;
use shared::channel::Channel;
use shared::envelope::Envelope;

use super::Limits;
use super::auth::{may_publish, may_read};
use super::problem::Problem;
use crate::event::{self, NameError};
use crate::{MAX_ONCE_BYTES, Once, OnceError, Publication};

/// A publish without its channels, each value of the right type and none checked yet.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) event: Option<String>,
    pub(super) data: Option<Box<RawValue>>,
    pub(super) retry: Option<u64>,
    pub(super) end: bool,
    pub(super) ephemeral: bool,
    pub(super) once: Option<String>,
}

impl Draft {
    /// Checks everything and makes the payload. `data_field` is what the client calls the data.
    ///
    /// # Errors
    /// 400 or 413, naming the field.
    pub(super) fn finish(self, data_field: &'static str, limits: &Limits) -> Result<Publication, Problem> {
        if let Some(name) = &self.event {
            event_name(name, limits)?;
        }
        let once = self.once.as_deref().map(once_key).transpose()?;
        if self.ephemeral && self.end {
            return Err(Problem::conflict("ephemeral", event::EPHEMERAL_END));
        }
        if self.ephemeral && once.is_some() {
            return Err(Problem::conflict("once", event::EPHEMERAL_ONCE));
        }
        // Clients dispatch an empty name as no name.
        let event = self.event.filter(|name| !name.is_empty());
        let envelope = Envelope { event, data: self.data, retry: self.retry, end: self.end };
        let Some(text) = envelope.data_text() else {
            return Err(Problem::invalid(data_field, event::LONE_SURROGATE));
        };
        if text.len() > limits.max_data {
            return Err(Problem::too_large(data_field, limits.max_data, "bytes"));
        }
        let publication = Publication::envelope(&envelope).map_err(|error| {
            Problem::invalid(data_field, format!("{data_field} cannot be written as JSON: {error}"))
        })?;
        Ok(Publication { ephemeral: self.ephemeral, once, ..publication })
    }
}

/// A text as the data of a [`Draft`].
pub(super) fn text_data(field: &'static str, text: &str) -> Result<Box<RawValue>, Problem> {
    serde_json::value::to_raw_value(text)
        .map_err(|error| Problem::invalid(field, format!("{field} cannot be written as JSON: {error}")))
}

/// A channel that may be published to.
pub(crate) fn channel(field: impl Into<Cow<'static, str>>, name: &str) -> Result<Channel, Problem> {
    let channel = match Channel::parse(name) {
        Ok(channel) => channel,
        Err(error) => return Err(Problem::channel(field, error)),
    };
    if channel.is_reserved() {
        let detail = "channels beginning sse. are the cluster's own, nobody publishes to them";
        return Err(Problem::reserved(field, detail));
    }
    Ok(channel)
}

/// The same, by its place in a path, where `access` may publish to it.
pub(super) fn channel_of_path(path: Result<Path<String>, PathRejection>, access: &Access) -> Result<Channel, Problem> {
    let channel = channel("channel", &name_of_path(path)?)?;
    may_publish(access, &channel, "channel")?;
    Ok(channel)
}

/// A channel that `access` may read.
pub(super) fn readable_channel_of_path(
    path: Result<Path<String>, PathRejection>,
    access: &Access,
) -> Result<Channel, Problem> {
    let channel = Channel::parse(&name_of_path(path)?).map_err(|error| Problem::channel("channel", error))?;
    may_read(access, &channel, "channel")?;
    Ok(channel)
}

fn name_of_path(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(name) = path.map_err(|_| Problem::invalid("channel", "channel is not percent-encoded UTF-8"))?;
    Ok(name)
}

fn event_name(name: &str, limits: &Limits) -> Result<(), Problem> {
    event::check_name(name, limits.max_event_name).map_err(|error| match error {
        NameError::Length { max, .. } => Problem::invalid("event", error.to_string()).limit(max),
        NameError::Character(_) => Problem::invalid("event", error.to_string()),
        NameError::Reserved => Problem::reserved("event", error.to_string()),
    })
}

fn once_key(key: &str) -> Result<Once, Problem> {
    Once::parse(key).map_err(|error| {
        let problem = Problem::invalid("once", error.to_string());
        match error {
            OnceError::Length { .. } => problem.limit(MAX_ONCE_BYTES),
            OnceError::Character { .. } => problem,
        }
    })
}
