//! `POST /api/sse/notify?userId=42&message=...`: a text to one user, as event `notification` on the user's own channel.
//!
//! Both values may come as a form in the body instead; what the query says wins.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use http::StatusCode;
use shared::auth::Access;
use shared::channel::Channel;

use super::auth::may_publish;
use super::check::{self, Draft};
use super::problem::Problem;
use super::rate::Key;
use super::service::Service;
use super::{Limits, body, query};
use crate::Publication;

const FORM: &str = "application/x-www-form-urlencoded";
const NAMES: [&str; 2] = ["userId", "message"];
const EVENT: &str = "notification";
const SENT: &str = "알림 전송 완료";

/// Answers a text, `text/plain; charset=utf-8`.
pub(super) async fn notify(
    State(service): State<Arc<Service>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<&'static str, Problem> {
    let key = Key::of(request.extensions());
    let order = read(request, &access, &service.limits).await;
    let (channel, publication) = order.map_err(|problem| service.refused(false, problem))?;
    service.allow(&key, 1)?;
    let receipt = service.publish(&channel, publication).await?;
    if receipt.receivers > 0 {
        return Ok(SENT);
    }
    let detail = match receipt.position {
        Some(_) => "nobody is connected as that user; the event is kept in history all the same",
        // By the channel's settings.
        None => "nobody is connected as that user, and events of that channel are not kept",
    };
    Err(Problem::new(StatusCode::NOT_FOUND, "nobody-connected", "nobody is connected as that user").detail(detail))
}

async fn read(request: Request, access: &Access, limits: &Limits) -> Result<(Channel, Publication), Problem> {
    let (head, body) = request.into_parts();
    let [mut user, mut message] = query::values(head.uri.query().unwrap_or_default().as_bytes(), NAMES)?;
    let complete = user.is_some() && message.is_some();
    if !complete && body::has_media_type(&head.headers, FORM) {
        let form = body::read(body, "body", body::max_json(limits)).await?;
        let [form_user, form_message] = query::values(&form, NAMES)?;
        user = user.or(form_user);
        message = message.or(form_message);
    }
    let Some(user) = user else {
        return Err(Problem::missing("userId", "userId is needed, in the query or in a form"));
    };
    let Some(message) = message else {
        return Err(Problem::missing("message", "message is needed, in the query or in a form"));
    };
    let channel = Channel::user(&user).map_err(|error| Problem::channel("userId", error))?;
    may_publish(access, &channel, "userId")?;
    let data = Some(check::text_data("message", &message)?);
    let draft = Draft { event: Some(EVENT.to_owned()), data, ..Draft::default() };
    Ok((channel, draft.finish("message", limits)?))
}
