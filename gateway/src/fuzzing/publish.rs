//! The bodies of publishes, through the routes that take them: what comes out is what was asked for, or nothing.

use std::cell::RefCell;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::{Extension, Router};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use publisher::http::{Limits, router};
use publisher::{Publication, Publish, PublishError, Receipt};
use serde_json::Value;
use shared::auth::Access;
use shared::channel::Channel;
use shared::envelope::{Envelope, Payload};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

use super::wire::one_event;
use crate::broker::memory::{MemoryBroker, MemoryLimits};

/// Small, so that all of them are met.
const LIMITS: Limits = Limits {
    max_data: 256,
    max_channels: 4,
    max_event_name: 32,
    max_batch: 8,
    max_url: 8_192,
    publish_rate: 0,
    publish_burst: 1,
};

type Published = Vec<(Channel, Publication)>;

/// Takes everything, and remembers it.
#[derive(Default)]
struct Taken(Mutex<Published>);

impl Publish for Taken {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((channel.clone(), publication));
        ready(Ok(Receipt { position: None, cursor: None, receivers: 1, duplicate: false })).boxed()
    }
}

struct Routes {
    taken: Arc<Taken>,
    router: Router,
    runtime: Runtime,
}

thread_local! {
    /// Made once for each thread: counters are looked up then.
    static ROUTES: RefCell<Option<Routes>> = const { RefCell::new(None) };
}

impl Routes {
    fn new() -> Self {
        let taken = Arc::new(Taken::default());
        // Holds nothing: no route here reads, erases or cancels.
        let memory = Arc::new(MemoryBroker::new(MemoryLimits { max_bytes: 1 << 16, max_keys: 1 }));
        let router =
            router(taken.clone(), memory.clone(), memory.clone(), memory, LIMITS).layer(Extension(Access::Open));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { taken, router, runtime }
    }

    fn post(&self, uri: &str, media_type: &str, body: &[u8]) -> (StatusCode, Vec<u8>, Published) {
        let request = Request::post(uri).header("content-type", media_type).body(Body::from(body.to_vec()));
        let request = request.expect("a request");
        let (status, answer) = self.runtime.block_on(async {
            let (head, body) = match self.router.clone().oneshot(request).await {
                Ok(answer) => answer.into_parts(),
                Err(never) => match never {},
            };
            (head.status, body.collect().await.expect("an answer in memory").to_bytes().to_vec())
        });
        let published = std::mem::take(&mut *self.taken.0.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(status.is_success() || status.is_client_error(), "{status}");
        assert!(status.is_success() || published.is_empty(), "refused, and published");
        published.iter().for_each(|(channel, publication)| sound(channel, publication));
        (status, answer, published)
    }
}

/// The bytes are the body of a publish in JSON, of a batch, and of one that is raw.
pub(super) fn publish(bytes: &[u8]) {
    ROUTES.with_borrow_mut(|routes| {
        let routes = routes.get_or_insert_with(Routes::new);
        json(routes, bytes);
        batch(routes, bytes);
        raw(routes, bytes);
        routes.post("/api/sse/notify", "application/x-www-form-urlencoded", bytes);
    });
}

/// Whatever is published, gateways read as an envelope, and clients get one event of it, none of ours.
fn sound(channel: &Channel, publication: &Publication) {
    assert!(!channel.is_reserved(), "a channel of ours");
    let envelope = Envelope::parse(&publication.payload).expect("an envelope");
    let text = envelope.data_text().expect("a text");
    assert!(text.len() <= LIMITS.max_data, "{} bytes of data", text.len());
    assert!(envelope.event.as_ref().is_none_or(|name| (1..=LIMITS.max_event_name).contains(&name.len())));
    assert!(!publication.ephemeral || (!envelope.end && publication.once.is_none()));
    one_event(&Payload::parse(&publication.payload).to_event());
}

/// What a plain reader of JSON finds in the body, and nothing else.
fn json(routes: &Routes, bytes: &[u8]) {
    let (status, _, published) = routes.post("/publish", "application/json", bytes);
    let Ok(asked) = serde_json::from_slice::<Value>(bytes) else {
        // A number may be larger than any type, and stay the text that it is.
        return;
    };
    if !status.is_success() {
        return;
    }
    let names: Vec<&str> = match (asked.get("channel"), asked.get("channels")) {
        (Some(channel), None) => channel.as_str().into_iter().collect(),
        (None, Some(channels)) => channels.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        _ => panic!("both, or neither"),
    };
    assert!((1..=LIMITS.max_channels).contains(&names.len()));
    let mut wanted = Vec::new();
    for name in names {
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    assert!(published.iter().map(|(channel, _)| channel.as_str()).eq(wanted));
    for (_, publication) in published {
        let envelope = Envelope::parse(&publication.payload).expect("an envelope");
        let text = |key: &str| asked.get(key).and_then(Value::as_str);
        let flag = |key: &str| asked.get(key).and_then(Value::as_bool).unwrap_or_default();
        assert_eq!(envelope.event.as_deref(), text("event").filter(|name| !name.is_empty()));
        assert_eq!(envelope.retry, asked.get("retry").and_then(Value::as_u64));
        assert_eq!((envelope.end, publication.ephemeral), (flag("end"), flag("ephemeral")));
        assert_eq!(publication.once.as_ref().map(publisher::Once::as_str), text("once"));
        let data = envelope.data.map(|data| serde_json::from_str::<Value>(data.get()).expect("JSON"));
        assert_eq!(data.as_ref(), asked.get("data"));
    }
}

/// Each line is published as it would be by itself, and has an answer of its own.
fn batch(routes: &Routes, bytes: &[u8]) {
    let (status, answers, published) = routes.post("/publish", "application/x-ndjson", bytes);
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    if !status.is_success() {
        return;
    }
    assert!(lines.len() <= LIMITS.max_batch, "{} lines", lines.len());
    let answers = String::from_utf8(answers).expect("UTF-8");
    assert_eq!(answers.lines().count(), lines.len());
    let mut alone = Vec::new();
    for (line, answer) in lines.iter().zip(answers.lines()) {
        let (status, _, published) = routes.post("/publish", "application/json", line);
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        assert_eq!(answer.get("status").is_none(), status.is_success(), "{answer}");
        alone.extend(published);
    }
    assert_eq!(published, alone);
}

/// The text as it is, or nothing.
fn raw(routes: &Routes, bytes: &[u8]) {
    let (status, _, published) = routes.post("/channels/a/events", "text/plain", bytes);
    let fits = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LIMITS.max_data);
    assert_eq!(status.is_success(), fits.is_some(), "{status}");
    assert_eq!(published.len(), usize::from(fits.is_some()));
    for (_, publication) in published {
        let event = Payload::parse(&publication.payload).to_event();
        assert_eq!((event.data(), event.event()), (fits, None));
    }
}
