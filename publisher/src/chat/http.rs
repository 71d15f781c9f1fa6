//! `POST /chat`: a question in, the answer's channel out, and the answer itself to whoever wants to wait for it.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Serialize;
use shared::auth::{Access, AuthError};
use shared::channel::Channel;

use super::request::{self, Asked};
use super::{AskError, Chat, stream};
use crate::PublishError;
use crate::http::auth::{may_publish, may_publish_all};
use crate::http::problem::Problem;
use crate::http::{DEFAULT_MAX_URL, Key, Room, has_media_type, method_not_allowed, read_body, url_limit};

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
/// Longest body: a conversation of some forty thousand words. It is held, and what is made of it for the upstream, until
/// that begins to answer.
const MAX_BODY: usize = 256 << 10;
/// Bodies in memory at a time, a quarter of them of one who asks; more wait, within the server's own deadline.
const BODIES: usize = 64;
/// When to come back to a service that has too much to do, or is about to be another one.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the route has.
struct Service {
    chat: Arc<Chat>,
    /// For bodies in memory.
    bodies: Room,
}

/// The answer to who does not want the stream.
#[derive(Serialize)]
struct Accepted<'a> {
    channel: &'a str,
    location: &'a str,
}

/// The route, to be mounted on a port of its own or beside others. It sets no deadline for a slow body: the server in
/// front does, for the head of the answer alone, since the stream behind that takes as long as it takes.
pub fn router(chat: Arc<Chat>) -> Router {
    let service = Arc::new(Service { chat, bodies: Room::new(BODIES * MAX_BODY) });
    Router::new()
        .route("/chat", post(ask))
        .with_state(service)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(DEFAULT_MAX_URL, url_limit))
}

async fn ask(
    State(service): State<Arc<Service>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    if !has_media_type(&head.headers, JSON) {
        return Err(Problem::unsupported_type(JSON, "a question comes as application/json"));
    }
    if !access.may_publish_any() {
        return Err(Problem::not_granted("channel").detail(AuthError::NotGranted.to_string()));
    }
    let Asked { question, channel } = {
        let _place = service.bodies.take(&Key::of(&head.extensions), MAX_BODY).await;
        request::read(&read_body(body, "body", MAX_BODY).await?)?
    };
    match &channel {
        Some(channel) => may_publish(&access, channel, "channel")?,
        None => may_publish_all(&access, &service.chat.settings.prefix)?,
    }
    let (sender, blocks) = if wants_json(&head.headers) {
        (None, None)
    } else {
        let (sender, blocks) = stream::queue();
        (Some(sender), Some(blocks))
    };
    let channel = service.chat.begin(question, channel, sender).await?;
    let location = location(&service.chat.settings.events_url, &channel);
    let mut response = match blocks {
        None => {
            let accepted = Accepted { channel: channel.as_str(), location: &location };
            (StatusCode::ACCEPTED, Json(accepted)).into_response()
        }
        Some(blocks) => stream_response(blocks),
    };
    // It is ASCII without control characters.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

fn stream_response(blocks: tokio::sync::mpsc::Receiver<bytes::Bytes>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (::http::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, stream::body(blocks)).into_response()
}

/// Where the channel is read, from its beginning.
fn location(events_url: &str, channel: &Channel) -> String {
    let name: String = form_urlencoded::byte_serialize(channel.as_str().as_bytes()).collect();
    format!("{}/events?channel={name}&last_event_id=earliest", events_url.trim_end_matches('/'))
}

/// Whether JSON is named, and the stream is not.
fn wants_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds: Vec<_> = values
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    let names = |wanted| kinds.iter().any(|kind| kind == wanted);
    names(JSON) && !names(EVENT_STREAM)
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let detail = error.to_string();
        let seconds = u32::try_from(RETRY_AFTER.as_secs()).unwrap_or(u32::MAX);
        let unavailable = |code, title| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title).detail(detail.clone()).retry_after(seconds)
        };
        match error {
            AskError::Busy { max } => unavailable("too-many-answers", "too many answers").limit(max),
            AskError::Foreign { .. } => Self::invalid("channel", detail),
            AskError::UnderWay => {
                Self::new(StatusCode::CONFLICT, "answer-under-way", "answer under way").field("channel").detail(detail)
            }
            AskError::Stopping => unavailable("stopping", "service stopping"),
            // The channel's settings leave no room for an answer; nothing else of it can be wrong.
            AskError::Publish(PublishError::Refused { reason, .. }) => Self::invalid("channel", reason),
            AskError::Publish(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_json() {
        let wants = |accept: &'static [&'static str]| {
            wants_json(&accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect())
        };
        for accept in [&["application/json"][..], &["text/html, Application/JSON;q=0.5"], &["a/b", "application/json"]]
        {
            assert!(wants(accept), "{accept:?}");
        }
        for accept in [&[][..], &["*/*"], &["text/event-stream"], &["application/json", "text/event-stream"]] {
            assert!(!wants(accept), "{accept:?}");
        }
    }

    #[test]
    fn locations() {
        let of = |events_url, channel| location(events_url, &Channel::parse(channel).unwrap());
        assert_eq!(of("", "chat:1f"), "/events?channel=chat%3A1f&last_event_id=earliest");
        assert_eq!(
            of("https://e.example.com/sse/", "한&+#/"),
            "https://e.example.com/sse/events?channel=%ED%95%9C%26%2B%23%2F&last_event_id=earliest"
        );
    }
}
