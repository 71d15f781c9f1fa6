//! `GET /demo/jobs`: what a job may have. `POST /demo/jobs?name=<file name>`: a text, whole in the body, is counted by a job
//! of its own; the answer tells its channel before it has begun to count.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION};
use http::{StatusCode, Uri};
use http_body::Body as _;
use serde::Serialize;
use shared::auth::Access;
use shared::channel::Channel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::job::Job;
use crate::http::auth::may_publish_all;
use crate::http::problem::Problem;
use crate::http::{method_not_allowed, query, read_body};
use crate::random::hex_128;
use crate::{Cancel, Publish};

/// Most bytes of one job's text: each is held in memory until the job has ended.
pub const MAX_JOB_BYTES: usize = 8 << 20;
/// Jobs at a time, those whose text is still on its way included.
pub const MAX_JOBS: usize = 8;
/// Begins the names of the jobs' channels.
const PREFIX: &str = "job:";
/// Longest name of a file, in bytes: what file systems allow.
const MAX_NAME_BYTES: usize = 255;
/// When to come back while there are [`MAX_JOBS`], in seconds: about half of what a job takes.
const RETRY_AFTER: u32 = 4;

/// The jobs of this process. Made once, shared by the [`router`] and by whoever stops it.
pub struct Demo {
    publish: Arc<dyn Publish>,
    cancel: Arc<dyn Cancel>,
    /// A permit is a job; it comes back when the job has ended. Closed by [`close`](Self::close): then there are no more.
    places: Arc<Semaphore>,
    /// Owns the jobs' tasks. Closed with `places`.
    tasks: TaskTracker,
    /// Cancelled by [`stop`](Self::stop), heard by every job.
    stop: CancellationToken,
}

/// What the answers say.
#[derive(Serialize)]
struct Limits {
    max_bytes: usize,
}

#[derive(Serialize)]
struct Begun<'a> {
    channel: &'a str,
    location: &'a str,
}

impl Demo {
    /// No jobs yet. Both arguments lead to the same broker. Settings of channels are left aside: a job's events are durable
    /// whatever they say, and bring their own length of history.
    #[must_use]
    pub fn new(publish: Arc<dyn Publish>, cancel: Arc<dyn Cancel>) -> Arc<Self> {
        let (places, tasks, stop) = (Arc::new(Semaphore::new(MAX_JOBS)), TaskTracker::new(), CancellationToken::new());
        Arc::new(Self { publish, cancel, places, tasks, stop })
    }

    /// Takes no more jobs. Those under way go on.
    pub fn close(&self) {
        self.places.close();
        self.tasks.close();
    }

    /// Ends the jobs under way, each saying so on its channel.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it is [closed](Self::close) and no job is under way. With the broker away that takes up to two minutes
    /// after [`stop`](Self::stop).
    pub async fn wait(&self) {
        self.tasks.wait().await;
    }

    /// Jobs under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    async fn begin(&self, name: String, body: Bytes, place: OwnedSemaphorePermit) -> Result<Channel, Problem> {
        let channel = new_channel()?;
        // Before anything is said there, so that no cancellation is overlooked.
        let cancelled = self.cancel.cancelled(&channel);
        let (publish, stop) = (self.publish.clone(), self.stop.clone());
        let job = Job { publish, channel: channel.clone(), name, body, stop };
        // Whoever drops this request here leaves a channel that nobody was told of.
        job.begin().await?;
        self.tasks.spawn(async move {
            job.run(cancelled).await;
            drop(place);
        });
        Ok(channel)
    }
}

/// `/demo/jobs`. Wrong methods are answered here, unknown paths are left to whoever mounts it; so are a bound on the URL
/// and a deadline for a slow body.
pub fn router(demo: Arc<Demo>) -> Router {
    Router::new()
        .route("/demo/jobs", get(limits).post(begin))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(demo)
}

async fn limits() -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(Limits { max_bytes: MAX_JOB_BYTES })).into_response()
}

async fn begin(
    State(demo): State<Arc<Demo>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Problem> {
    may_publish_all(&access, PREFIX)?;
    let (head, body) = request.into_parts();
    let name = name(&head.uri)?;
    // Too large is too large, whether there is a place or not.
    if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > MAX_JOB_BYTES {
        return Err(Problem::too_large("body", MAX_JOB_BYTES, "bytes"));
    }
    // Before the place: who has one is waited for.
    let _under_way = demo.tasks.token();
    let place = demo.places.clone().try_acquire_owned().map_err(|error| no_place(&error))?;
    let body = read_body(body, "body", MAX_JOB_BYTES).await?;
    if body.is_empty() {
        let detail = format!("body has 0 bytes, a text has 1 to {MAX_JOB_BYTES}");
        return Err(Problem::invalid("body", detail).limit(1_usize));
    }
    let channel = demo.begin(name, body, place).await?;
    Ok(begun(&channel))
}

fn begun(channel: &Channel) -> Response {
    let encoded: String = form_urlencoded::byte_serialize(channel.as_str().as_bytes()).collect();
    let location = format!("/events?channel={encoded}&last_event_id=earliest");
    let answer = Json(Begun { channel: channel.as_str(), location: &location });
    (StatusCode::ACCEPTED, [(LOCATION, location.clone()), (CACHE_CONTROL, "no-store".to_owned())], answer)
        .into_response()
}

fn name(uri: &Uri) -> Result<String, Problem> {
    let [name] = query::values(uri.query().unwrap_or_default().as_bytes(), ["name"])?;
    let name = name.ok_or_else(|| Problem::missing("name", "name is missing: what the file is called"))?;
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) {
        let detail = format!("name has {} bytes, a file's name has 1 to {MAX_NAME_BYTES}", name.len());
        return Err(Problem::invalid("name", detail).limit(MAX_NAME_BYTES));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(control) => Err(Problem::invalid(
            "name",
            format!("name may not have the control character {}", control.escape_unicode()),
        )),
        None => Ok(name),
    }
}

fn no_place(error: &TryAcquireError) -> Problem {
    match error {
        TryAcquireError::NoPermits => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-jobs", "too many jobs")
            .detail(format!(
                "{MAX_JOBS} jobs are under way, or their files, which is the limit; a job takes about eight seconds"
            ))
            .limit(MAX_JOBS)
            .retry_after(RETRY_AFTER),
        TryAcquireError::Closed => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "service stopping")
            .detail("the service is stopping")
            .retry_after(RETRY_AFTER),
    }
}

fn new_channel() -> Result<Channel, Problem> {
    let no_name = |reason: Cow<'static, str>| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no-name", "no name for a channel").detail(reason)
    };
    let bits = hex_128().map_err(|error| no_name(format!("the system has no random bits: {error}").into()))?;
    Channel::parse(&format!("{PREFIX}{bits}")).map_err(|error| no_name(error.to_string().into()))
}

#[cfg(test)]
mod tests;
