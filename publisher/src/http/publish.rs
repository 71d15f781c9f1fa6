//! `POST /publish`: one event as JSON, to one channel or to several. A batch is handed on.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use shared::auth::Access;

use super::problem::Problem;
use super::rate::Key;
use super::service::{Answer, Service};
use super::{batch, body};

const JSON: &str = "application/json";
const TAKEN: &str = "application/json, application/x-ndjson";

pub(super) async fn publish(
    State(service): State<Arc<Service>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let key = Key::of(request.extensions());
    let (head, body) = request.into_parts();
    if body::has_media_type(&head.headers, JSON) {
        return Ok(one(&service, &access, &key, body).await?.into_response());
    }
    if body::has_media_type(&head.headers, batch::NDJSON) {
        return batch::publish(&service, &access, &key, body).await;
    }
    let problem =
        Problem::unsupported_type(TAKEN, "a publish comes as application/json, a batch as application/x-ndjson");
    Err(service.refused(false, problem))
}

async fn one(service: &Service, access: &Access, key: &Key, body: Body) -> Result<Answer, Problem> {
    let json = body::read(body, "body", body::max_json(&service.limits)).await;
    let json = json.map_err(|problem| service.refused(false, problem))?;
    let order = service.read(&json, 1, access)?;
    service.carry_out(key, order).await
}
