//! `publish`: one event, on one or more channels.

use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::channel::Channel;
use tokio::io::AsyncReadExt as _;

use super::event::{Draft, read_duration, text, too_long};
use super::{Common, Failure, channel, connect, output};
use crate::config::Limits;
use crate::{Once, Publication, PublishError, Receipt};

/// Publish one event, and print the receipt.
///
/// Example: sse-publisher publish --channel user:42 --event notification --json '{"message":"hi"}'
///
/// Prints {"id":"...","receivers":1}: the cursor right after the event, and how many gateways have somebody on the channel
/// (0 is no failure: the event is in the channel's history). "duplicate":true where the --once key was known.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Channel; may be repeated: then there is a line for each, which names it
    #[arg(long, required = true, value_parser = channel)]
    channel: Vec<Channel>,
    /// Name of the event, what clients listen for [default: message]
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Data as text; - reads standard input, without its last line break
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,
    /// Data as JSON; - reads standard input
    #[arg(long, conflicts_with = "data", value_name = "JSON", allow_hyphen_values = true)]
    json: Option<String>,
    /// Idempotency key: a second publish with it within 10 minutes changes nothing
    #[arg(long, value_name = "KEY", value_parser = Once::parse)]
    once: Option<Once>,
    /// Live only: no id, no history
    #[arg(long)]
    ephemeral: bool,
    /// Close the channel: its streams end
    #[arg(long)]
    end: bool,
    /// When clients come back after their connection ended, such as 3s
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    retry: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

const NOTHING: &str = "nothing to publish: give --data, --json, --event, --retry or --end (--data '' for empty data)";

/// One line of the answer.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Accepted {
        id: Option<String>,
        receivers: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    Failed {
        error: String,
    },
}

impl From<Receipt> for Outcome {
    fn from(receipt: Receipt) -> Self {
        let id = receipt.cursor.map(|cursor| cursor.to_string());
        Self::Accepted { id, receivers: receipt.receivers, duplicate: receipt.duplicate }
    }
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let config = self.common.load()?;
        if self.channel.len() > config.limits.max_channels {
            let max = config.limits.max_channels;
            return Err(Failure::usage(format!(
                "--channel: more than {max} of them; the limit is limits.max_channels"
            )));
        }
        let mut channels: Vec<Channel> = Vec::with_capacity(self.channel.len());
        for channel in &self.channel {
            if !channels.contains(channel) {
                channels.push(channel.clone());
            }
        }
        let publication = self.publication(&config.limits).await?;
        let publish = connect(&config).await?;
        let batch = channels.iter().map(|channel| (channel.clone(), publication.clone())).collect();
        let results = publish.publish_batch(batch).await;
        report(&channels, results)
    }

    async fn publication(self, limits: &Limits) -> Result<Publication, Failure> {
        let Self { event, data, json, once, ephemeral, end, retry, .. } = self;
        let (flag, data) = match (data.as_deref(), json.as_deref()) {
            (Some("-"), _) => ("--data", Some(text(without_line_break(&read_input("--data", limits).await?))?)),
            (Some(data), _) => ("--data", Some(text(data)?)),
            (None, Some("-")) => ("--json", Some(read_json(&read_input("--json", limits).await?)?)),
            (None, Some(json)) => ("--json", Some(read_json(json)?)),
            (None, None) if event.is_some() || end || retry.is_some() => ("--data", None),
            (None, None) => return Err(Failure::usage(NOTHING)),
        };
        Draft { event, data, retry, end, ephemeral, once }.finish(flag, limits)
    }
}

/// Prints a line a channel. Several that fail are told in their places too, so that a script can tell them apart.
fn report(channels: &[Channel], results: Vec<Result<Receipt, PublishError>>) -> Result<u8, Failure> {
    let several = channels.len() > 1;
    let mut failures = Vec::new();
    let mut code = 0;
    let mut lines = String::new();
    for (channel, result) in channels.iter().zip(results) {
        let channel = several.then_some(channel.as_str());
        let outcome = match result {
            Ok(receipt) => receipt.into(),
            Err(error) => {
                let failure = failure(&error);
                code = code.max(failure.code);
                failures.push(channel.map_or_else(|| failure.text.clone(), |name| format!("{name}: {}", failure.text)));
                Outcome::Failed { error: error.to_string() }
            }
        };
        if several || failures.is_empty() {
            let line = serde_json::to_string(&Line { channel, outcome }).map_err(Failure::run)?;
            lines.push_str(&line);
            lines.push('\n');
        }
    }
    // Published is published, whether or not anybody reads it.
    let _ = output::write(&lines);
    if failures.is_empty() { Ok(0) } else { Err(Failure { code, text: failures.join("\n") }) }
}

/// What is refused for its flags is their fault; the rest is the run's.
fn failure(error: &PublishError) -> Failure {
    match error {
        PublishError::Refused { field, reason } => Failure::usage(format!("--{field}: {reason}")),
        PublishError::Unavailable { .. } | PublishError::Rejected { .. } => Failure::run(error),
    }
}

/// Standard input as text, no more of it than could be published.
async fn read_input(flag: &str, limits: &Limits) -> Result<String, Failure> {
    // Two bytes for a line break at the end; JSON may have white space and escapes.
    let max = if flag == "--json" { limits.max_data.saturating_mul(6) } else { limits.max_data } + 2;
    let mut input = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = tokio::io::stdin().take(limit).read_to_end(&mut input).await;
    read.map_err(|error| Failure::run(format!("cannot read standard input: {error}")))?;
    if input.len() > max {
        return Err(too_long(flag, limits.max_data));
    }
    String::from_utf8(input).map_err(|_| Failure::usage(format!("{flag}: standard input is not UTF-8")))
}

/// What `echo` adds is not meant.
fn without_line_break(text: &str) -> &str {
    let Some(text) = text.strip_suffix('\n') else { return text };
    text.strip_suffix('\r').unwrap_or(text)
}

fn read_json(json: &str) -> Result<Box<RawValue>, Failure> {
    // Without white space around it, which would be data.
    RawValue::from_string(json.trim().to_owned()).map_err(|error| Failure::usage(format!("--json: {error}")))
}
