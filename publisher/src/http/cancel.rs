//! `POST /channels/{channel}/cancel`: asks the channel's producer to stop. Nothing is published, and the channel stays open.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};
use serde::Serialize;
use shared::auth::Access;
use shared::channel::Channel;

use super::problem::Problem;
use super::{body, check};
use crate::metrics::{CancelMetrics, Outcome};
use crate::{Cancel, PublishError};

/// Bytes of a body. It means nothing, but some clients send `{}`.
const MAX_BODY: usize = 4 << 10;

/// What carries it out, and counts.
pub(super) struct Canceller {
    cancel: Arc<dyn Cancel>,
    metrics: CancelMetrics,
}

impl Canceller {
    pub(super) fn new(cancel: Arc<dyn Cancel>, metrics: CancelMetrics) -> Self {
        Self { cancel, metrics }
    }
}

/// The answer.
#[derive(Serialize)]
pub(super) struct Cancelled {
    receivers: u64,
}

pub(super) async fn cancel(
    State(canceller): State<Arc<Canceller>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Cancelled>, Problem> {
    let channel = match checked(path, &access, request).await {
        Ok(channel) => channel,
        Err(problem) => {
            canceller.metrics.count(Outcome::Refused);
            return Err(problem);
        }
    };
    let result = canceller.cancel.cancel(&channel).await;
    canceller.metrics.count(outcome(&result));
    Ok(Json(Cancelled { receivers: result? }))
}

async fn checked(
    path: Result<Path<String>, PathRejection>,
    access: &Access,
    request: Request,
) -> Result<Channel, Problem> {
    let channel = check::channel_of_path(path, access)?;
    body::read(request.into_body(), "body", MAX_BODY).await?;
    Ok(channel)
}

fn outcome(result: &Result<u64, PublishError>) -> Outcome {
    result.as_ref().map_or_else(Outcome::of, |_| Outcome::Ok)
}
