//! What the routes share: orders are read, carried out channel by channel and counted here, and answered in the form in
//! which they came.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::channel::Channel;

use super::Limits;
use super::fields::{Fields, Order, Target};
use super::problem::Problem;
use crate::metrics::{Metrics, Outcome};
use crate::{Publication, Publish, PublishError, Receipt};

pub(super) struct Service {
    publish: Arc<dyn Publish>,
    pub(super) limits: Limits,
    metrics: Metrics,
}

/// The answer to one order.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    One(Accepted),
    Many { results: Vec<OfChannel> },
}

#[derive(Serialize)]
pub(super) struct Accepted {
    /// The cursor right after the event; `null` for an ephemeral one.
    id: Option<String>,
    receivers: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum OfChannel {
    Accepted {
        channel: String,
        #[serde(flatten)]
        accepted: Accepted,
    },
    Failed {
        channel: String,
        error: String,
    },
}

impl From<Receipt> for Accepted {
    fn from(receipt: Receipt) -> Self {
        let id = receipt.cursor.map(|cursor| cursor.to_string());
        Self { id, receivers: receipt.receivers, duplicate: receipt.duplicate }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

impl Service {
    pub(super) fn new(publish: Arc<dyn Publish>, limits: Limits, metrics: Metrics) -> Self {
        Self { publish, limits, metrics }
    }

    /// Counts a request or line that was refused for what is wrong with it, and hands the problem back.
    pub(super) fn refused(&self, ephemeral: bool, problem: Problem) -> Problem {
        self.metrics.count(ephemeral, Outcome::Refused);
        problem
    }

    /// Reads and checks one JSON publish that begins on `line` of the body. A wrong one is counted.
    pub(super) fn read(&self, json: &[u8], line: usize) -> Result<Order, Problem> {
        let fields = Fields::parse(json, line).map_err(|problem| self.refused(false, problem))?;
        let ephemeral = fields.is_ephemeral();
        fields.check(&self.limits).map_err(|problem| self.refused(ephemeral, problem))
    }

    /// Publishes to each channel of the order, one after the other. What one channel fails with is told in its place; only
    /// when all have failed is the whole a problem.
    pub(super) async fn carry_out(&self, order: Order) -> Result<Answer, Problem> {
        let channels = match order.target {
            Target::One(channel) => {
                let receipt = self.publish(&channel, order.publication).await?;
                return Ok(Answer::One(receipt.into()));
            }
            Target::Many(channels) => channels,
        };
        let mut results = Vec::with_capacity(channels.len());
        let mut any_accepted = false;
        let mut last_error = None;
        for channel in channels {
            let outcome = self.publish(&channel, order.publication.clone()).await;
            let channel = channel.to_string();
            results.push(match outcome {
                Ok(receipt) => {
                    any_accepted = true;
                    OfChannel::Accepted { channel, accepted: receipt.into() }
                }
                Err(error) => {
                    let text = error.to_string();
                    last_error = Some(error);
                    OfChannel::Failed { channel, error: text }
                }
            });
        }
        match last_error {
            Some(error) if !any_accepted => Err(error.into()),
            _ => Ok(Answer::Many { results }),
        }
    }

    /// Publishes one event on one channel, counted.
    pub(super) async fn publish(&self, channel: &Channel, publication: Publication) -> Result<Receipt, PublishError> {
        let ephemeral = publication.ephemeral;
        // A broker in memory never waits; a large batch would keep its thread from everybody else.
        tokio::task::coop::consume_budget().await;
        let result = self.publish.publish(channel, publication).await;
        let outcome = match &result {
            Ok(receipt) if receipt.duplicate => Outcome::Duplicate,
            Ok(_) => Outcome::Ok,
            Err(PublishError::Unavailable { .. }) => Outcome::Unavailable,
        };
        self.metrics.count(ephemeral, outcome);
        result
    }
}
