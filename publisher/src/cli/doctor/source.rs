//! Where events are published, and whose clock says when: Redis itself, or the publisher's service.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use shared::channel::Channel;
use shared::cursor::Cursor;
use shared::envelope::Envelope;
use tokio::time::{Instant, timeout};

use super::checks::span;
use super::connection::{Ask, Dialer};
use super::judge::clocks::Clock;
use super::tap::told;
use super::target::Target;
use crate::cli::{connect, output};
use crate::config::Config;
use crate::{Channels as _, Publication, Publish, Publisher};

/// For one publish, whatever it goes through.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);
/// What events are called.
const EVENT: &str = "doctor";

/// What publishes.
pub(super) enum Source {
    Redis { publish: Arc<dyn Publish>, publisher: Box<Publisher> },
    Http { dialer: Dialer, token: Option<HeaderValue> },
}

/// An event that was published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Just before it was.
    pub(super) at: Instant,
    pub(super) took: Duration,
    /// Gateways that had somebody on the channel.
    pub(super) receivers: u64,
    /// Milliseconds of its position; `None` where it has none.
    pub(super) position: Option<u64>,
    /// Time of day in the midst of it.
    pub(super) day: SystemTime,
}

#[derive(Deserialize)]
struct Receipt {
    id: Option<String>,
    receivers: u64,
}

impl Source {
    /// Connects to Redis.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn redis(config: &Config) -> Result<Self, String> {
        let publish = connect(config).await.map_err(|failure| failure.text)?;
        let publisher = Publisher::connect(&config.redis_settings()).await.map_err(|error| error.to_string())?;
        Ok(Self::Redis { publish, publisher: Box::new(publisher) })
    }

    /// For people; holds no secret.
    fn told(&self) -> String {
        match self {
            Self::Redis { publisher, .. } => publisher.client().settings().server().unwrap_or_default(),
            Self::Http { dialer, .. } => dialer.url.server(),
        }
    }

    /// Publishes an event that nobody waits for. Returns where, and how long it took.
    ///
    /// # Errors
    /// Why it was not, for people.
    pub(super) async fn check(&self, target: &Target) -> Result<String, String> {
        let sent = self.publish(&target.channel()?, "doctor", true).await?;
        Ok(format!("{}, an event in {}", self.told(), span(sent.took)))
    }

    /// Publishes one event with this text as its data.
    ///
    /// # Errors
    /// Why it was not, for people.
    pub(super) async fn publish(&self, channel: &Channel, text: &str, ephemeral: bool) -> Result<Sent, String> {
        let sent = timeout(PUBLISH_TIMEOUT, async {
            match self {
                Self::Redis { publish, .. } => by_redis(&**publish, channel, text, ephemeral).await,
                Self::Http { dialer, token } => by_http(dialer, token.as_ref(), channel, text, ephemeral).await,
            }
        });
        sent.await.unwrap_or_else(|_| Err("there is no answer to a publish within 15 s".to_owned()))
    }

    /// Erases the history of a channel of this run's own. What is left would be gone within the hour, so nobody minds.
    pub(super) async fn erase(&self, channel: &Channel) {
        let erased = async {
            match self {
                Self::Redis { publisher, .. } => publisher.erase(channel).await.map(drop).map_err(|e| e.to_string()),
                Self::Http { dialer, token } => {
                    let mut ask = Ask::get(&format!("{}/channels/{}", base(dialer), channel.as_str()));
                    ask.method = Method::DELETE;
                    authorize(&mut ask.headers, token.as_ref());
                    dialer.exchange(&ask).await.map(drop)
                }
            }
        };
        if let Ok(Err(error)) = timeout(PUBLISH_TIMEOUT, erased).await {
            output::complain(&format!("the history of {} stays until it expires: {error}", channel.as_str()));
        }
    }

    /// What time it is there, where that can be asked.
    pub(super) async fn clock(&self) -> Option<Clock> {
        match self {
            Self::Redis { publisher, .. } => {
                let mut connection = publisher.client().connect().await.ok()?;
                let begin = SystemTime::now();
                let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await.ok()?;
                let since_1970 = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros))?;
                let there = SystemTime::UNIX_EPOCH.checked_add(since_1970)?;
                Some(Clock::read("Redis", there, [begin, SystemTime::now()], 0.0))
            }
            Self::Http { dialer, .. } => {
                let begin = SystemTime::now();
                // Any answer has a date, a refusal too.
                let answer = dialer.exchange(&Ask::get("/")).await.ok()?;
                let name = format!("the publisher at {}", dialer.url.authority);
                Clock::of_head(&name, &answer.headers, [begin, SystemTime::now()])
            }
        }
    }
}

async fn by_redis(publish: &dyn Publish, channel: &Channel, text: &str, ephemeral: bool) -> Result<Sent, String> {
    let data = Some(to_raw_value(text).map_err(|error| error.to_string())?);
    let envelope = Envelope { event: Some(EVENT.to_owned()), data, retry: None, end: false };
    let publication = Publication::envelope(&envelope).map_err(|error| error.to_string())?;
    let publication = if ephemeral { publication.ephemeral() } else { publication };
    let at = Instant::now();
    let receipt = publish.publish(channel, publication).await.map_err(|error| error.to_string())?;
    let position = receipt.position.map(|position| position.ms);
    Ok(Sent::new(at, at.elapsed(), receipt.receivers, position))
}

async fn by_http(
    dialer: &Dialer,
    token: Option<&HeaderValue>,
    channel: &Channel,
    text: &str,
    ephemeral: bool,
) -> Result<Sent, String> {
    let mut body = json!({"channel": channel.as_str(), "event": EVENT, "data": text});
    if ephemeral && let Some(body) = body.as_object_mut() {
        body.insert("ephemeral".to_owned(), Value::Bool(true));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    authorize(&mut headers, token);
    let target = format!("{}/publish", base(dialer));
    let ask = Ask { method: Method::POST, target, headers, body: Bytes::from(body.to_string()) };
    let place = |why: String| format!("{}: {why}", dialer.url.server());
    let answer = dialer.exchange(&ask).await.map_err(place)?;
    if answer.status != http::StatusCode::OK {
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let detail = ["detail", "title"].iter().find_map(|name| problem.get(name)?.as_str()).unwrap_or_default();
        return Err(place(
            format!("POST /publish is answered with {} {}", answer.status, told(detail)).trim_end().to_owned(),
        ));
    }
    let receipt: Receipt = serde_json::from_slice(&answer.body)
        .map_err(|_| place("the answer to POST /publish is no receipt".to_owned()))?;
    let cursor = receipt.id.and_then(|id| id.parse::<Cursor>().ok());
    let position = cursor.and_then(|cursor| Some(cursor.parts().first()?.position.ms));
    Ok(Sent::new(answer.asked, answer.took, receipt.receivers, position))
}

impl Sent {
    fn new(at: Instant, took: Duration, receivers: u64, position: Option<u64>) -> Self {
        let day = SystemTime::now();
        Self { at, took, receivers, position, day: day.checked_sub(at.elapsed()).unwrap_or(day) + took / 2 }
    }
}

/// The path of the service, where it is below one.
fn base(dialer: &Dialer) -> &str {
    let path = dialer.url.target.split('?').next().unwrap_or_default();
    path.trim_end_matches('/')
}

fn authorize(headers: &mut HeaderMap, token: Option<&HeaderValue>) {
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token.clone());
    }
}
