//! What the routes share: orders are read, carried out channel by channel and counted here, and answered in the form in
//! which they came.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use shared::auth::{Access, AuthError};
use shared::channel::Channel;
use tokio::time::Instant;

use super::Limits;
use super::auth::may_publish;
use super::fields::{Fields, Order, Target, Wanted};
use super::problem::Problem;
use super::rate::{Key, Rate};
use crate::metrics::{Limited, Metrics, Outcome};
use crate::{Publication, Publish, PublishError, Receipt};

pub(super) struct Service {
    publish: Arc<dyn Publish>,
    pub(super) limits: Limits,
    metrics: Metrics,
    rate: Option<Rate>,
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
        let rate = Rate::new(limits.publish_rate, limits.publish_burst);
        Self { publish, limits, metrics, rate }
    }

    /// Counts a request or line that was refused for what is wrong with it, and hands the problem back.
    pub(super) fn refused(&self, ephemeral: bool, problem: Problem) -> Problem {
        self.metrics.count(ephemeral, Outcome::Refused);
        match problem.status() {
            StatusCode::PAYLOAD_TOO_LARGE => self.metrics.limited(Limited::Size),
            StatusCode::TOO_MANY_REQUESTS => self.metrics.limited(Limited::Rate),
            _ => {}
        }
        problem
    }

    /// Whether `key` may publish so many events now. If not, it is counted as refused.
    pub(super) fn allow(&self, key: &Key, events: usize) -> Result<(), Problem> {
        let allowed = self.rate.as_ref().map_or(Ok(()), |rate| rate.take(key, events));
        allowed.map_err(|problem| self.refused(false, problem))
    }

    /// Reads and checks one JSON publish that begins on `line` of the body. A wrong one is counted. Of several channels, those
    /// that `access` has not are told in the answer, unless it has none of them.
    pub(super) fn read(&self, json: &[u8], line: usize, access: &Access) -> Result<Order, Problem> {
        let fields = Fields::parse(json, line).map_err(|problem| self.refused(false, problem))?;
        let ephemeral = fields.is_ephemeral();
        let order = fields.check(&self.limits).and_then(|order| granted(order, access));
        order.map_err(|problem| self.refused(ephemeral, problem))
    }

    /// Publishes one order of `key`, counted.
    pub(super) async fn carry_out(&self, key: &Key, order: Order) -> Result<Answer, Problem> {
        let publications = publications(&order);
        self.allow(key, publications.len())?;
        let outcomes = self.publish_all(publications).await;
        answer(order.target, &mut outcomes.into_iter())
    }

    /// Publishes all of `orders` of `key` by one batch, counted; those that are wrong already stay so. Returns an answer each, in
    /// order.
    ///
    /// # Errors
    /// They are more than `key` may publish now; none of them was.
    pub(super) async fn carry_out_all(
        &self,
        key: &Key,
        orders: Vec<Result<Order, Problem>>,
    ) -> Result<Vec<Result<Answer, Problem>>, Problem> {
        let batch: Vec<_> = orders.iter().flatten().flat_map(publications).collect();
        self.allow(key, batch.len())?;
        let mut outcomes = self.publish_all(batch).await.into_iter();
        Ok(orders.into_iter().map(|order| answer(order?.target, &mut outcomes)).collect())
    }

    /// Publishes one event on one channel, counted.
    pub(super) async fn publish(&self, channel: &Channel, publication: Publication) -> Result<Receipt, PublishError> {
        let (ephemeral, began) = (publication.ephemeral, Instant::now());
        let result = self.publish.publish(channel, publication).await;
        self.metrics.took(began.elapsed());
        self.count(ephemeral, &result);
        result
    }

    async fn publish_all(&self, mut batch: Vec<(Channel, Publication)>) -> Vec<Result<Receipt, PublishError>> {
        // The usual case needs no batch.
        if batch.len() == 1
            && let Some((channel, publication)) = batch.pop()
        {
            return vec![self.publish(&channel, publication).await];
        }
        let kinds: Vec<bool> = batch.iter().map(|(_, publication)| publication.ephemeral).collect();
        let began = Instant::now();
        let results = self.publish.publish_batch(batch).await;
        self.metrics.took(began.elapsed());
        for (ephemeral, result) in kinds.into_iter().zip(&results) {
            self.count(ephemeral, result);
        }
        results
    }

    /// An event is what it became: the channel's settings may have made it ephemeral.
    fn count(&self, ephemeral: bool, result: &Result<Receipt, PublishError>) {
        let ephemeral = result.as_ref().map_or(ephemeral, |receipt| receipt.position.is_none());
        self.metrics.count(ephemeral, outcome(result));
    }
}

/// `order`, as far as `access` has its channels.
fn granted(mut order: Order, access: &Access) -> Result<Order, Problem> {
    match &mut order.target {
        Target::One(channel) => may_publish(access, channel, "channel")?,
        Target::Many(channels) => {
            channels.iter_mut().for_each(|wanted| wanted.granted = access.may_publish(&wanted.channel));
            if !channels.iter().any(|wanted| wanted.granted) {
                return Err(Problem::not_granted("channels").detail("the token grants none of these channels"));
            }
        }
    }
    Ok(order)
}

fn publications(order: &Order) -> Vec<(Channel, Publication)> {
    let publication = |channel: &Channel| (channel.clone(), order.publication.clone());
    match &order.target {
        Target::One(channel) => vec![publication(channel)],
        Target::Many(channels) => {
            channels.iter().filter(|wanted| wanted.granted).map(|wanted| publication(&wanted.channel)).collect()
        }
    }
}

/// The answer to an order for `target`, whose outcomes are the next of `outcomes`. What one channel fails with is told in
/// its place; only when all have failed is the whole a problem.
fn answer(
    target: Target,
    outcomes: &mut impl Iterator<Item = Result<Receipt, PublishError>>,
) -> Result<Answer, Problem> {
    let mut next = || outcomes.next().unwrap_or_else(no_outcome);
    let channels = match target {
        Target::One(_) => return Ok(Answer::One(next()?.into())),
        Target::Many(channels) => channels,
    };
    let mut results = Vec::with_capacity(channels.len());
    let mut any_accepted = false;
    let mut last_error = None;
    for Wanted { channel, granted } in channels {
        let channel = channel.to_string();
        if !granted {
            results.push(OfChannel::Failed { channel, error: AuthError::NotGranted.to_string() });
            continue;
        }
        results.push(match next() {
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

/// A broker that answers too few events breaks its contract; nobody may take that for success.
fn no_outcome() -> Result<Receipt, PublishError> {
    Err(PublishError::Rejected { reason: "it did not answer this event of the batch".to_owned() })
}

fn outcome(result: &Result<Receipt, PublishError>) -> Outcome {
    match result {
        Ok(receipt) if receipt.duplicate => Outcome::Duplicate,
        Ok(_) => Outcome::Ok,
        Err(error) => Outcome::of(error),
    }
}
