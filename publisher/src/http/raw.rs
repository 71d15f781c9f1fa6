//! `POST /channels/{channel}/events`: the raw body is the data, whatever its media type; the rest is in the query.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use http::Uri;
use shared::auth::Access;

use super::check::{self, Draft};
use super::fields::{Order, Target};
use super::problem::Problem;
use super::rate::Key;
use super::service::{Answer, Service};
use super::{Limits, body, query};
use crate::Publication;

pub(super) async fn publish(
    State(service): State<Arc<Service>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Answer, Problem> {
    let key = Key::of(request.extensions());
    let (head, body) = request.into_parts();
    let channel = check::channel_of_path(path, &access).map_err(|problem| service.refused(false, problem))?;
    let draft = draft(&head.uri).map_err(|problem| service.refused(false, problem))?;
    let ephemeral = draft.ephemeral;
    let publication = with_data(draft, body, &service.limits).await;
    let publication = publication.map_err(|problem| service.refused(ephemeral, problem))?;
    service.carry_out(&key, Order { target: Target::One(channel), publication }).await
}

fn draft(uri: &Uri) -> Result<Draft, Problem> {
    let names = ["event", "once", "ephemeral", "retry"];
    let [event, once, ephemeral, retry] = query::values(uri.query().unwrap_or_default().as_bytes(), names)?;
    let ephemeral = match ephemeral.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::wrong_type("ephemeral", "true or false")),
    };
    let retry = retry.as_deref().map(milliseconds).transpose()?;
    Ok(Draft { event, once, ephemeral, retry, ..Draft::default() })
}

fn milliseconds(text: &str) -> Result<u64, Problem> {
    // The standard parser would take a sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| Problem::wrong_type("retry", "a whole number of milliseconds, 0 to 2^64 - 1"))
}

async fn with_data(draft: Draft, body: Body, limits: &Limits) -> Result<Publication, Problem> {
    let body = body::read(body, "data", limits.max_data).await?;
    let Ok(text) = std::str::from_utf8(&body) else {
        return Err(Problem::invalid("data", "data is not UTF-8, which is all that an event stream can carry"));
    };
    Draft { data: Some(check::text_data("data", text)?), ..draft }.finish("data", limits)
}
