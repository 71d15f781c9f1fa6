//! A model that does as the question says, a service that relays it, and what Redis holds afterwards.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Json, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, iter, pending};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use publisher::chat::{Chat, ChatSettings, router, source};
use publisher::{Channels as _, Publisher};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use sha2::Digest as _;
use shared::auth::Access;
use shared::channel::Channel;
use shared::envelope::Envelope;
use shared::event_stream::decode::{Decoded, Decoder, Received};
use shared::position::Position;
use shared::redis::Settings;
use testkit::{PATIENCE, RedisServer, eventually, soon};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server of `router` on a port of its own, until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    _accepting: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { url, _accepting: accepting }
    }
}

/// What the model was asked for, and how much of that is still under way.
#[derive(Default)]
pub(crate) struct Seen {
    asked: AtomicUsize,
    open: AtomicUsize,
}

impl Seen {
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The answer to `words N`: N words, one in a millisecond, with all that is difficult in them.
pub(crate) fn words(count: usize) -> String {
    (0..count).map(word).collect()
}

fn word(n: usize) -> String {
    let ends = [" ", "\n", "\r\n", "\r", "\n\n", "\t"];
    format!("{n}한글😀\"\\{}", ends[n % ends.len()])
}

fn delta(text: &str) -> Bytes {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
        .into()
}

/// What it does: the question's first word, and a number.
async fn model(State(seen): State<Arc<Seen>>, Json(asked): Json<Value>) -> Response {
    seen.asked.fetch_add(1, Ordering::SeqCst);
    seen.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(Arc::clone(&seen));
    let question = asked["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    let (what, number) = question.split_once(' ').unwrap_or((&question, "0"));
    let number: usize = number.parse().unwrap();
    let end =
        Bytes::from_static(b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
    let chunks: BoxStream<'static, Bytes> = match what {
        "words" => slowly((0..number).map(|n| delta(&word(n))).chain([end])),
        "hang" => iter((0..number).map(|n| delta(&word(n)))).chain(pending()).boxed(),
        "break" => slowly((0..number).map(|n| delta(&word(n)))),
        "huge" => iter(std::iter::repeat_n(delta(&"x".repeat(1_000)), number)).chain(pending()).boxed(),
        "status" => {
            let status = http::StatusCode::from_u16(u16::try_from(number).unwrap()).unwrap();
            return (status, Json(json!({"error": {"message": "no, thank you", "type": "x"}}))).into_response();
        }
        other => panic!("{other}"),
    };
    let chunks = chunks.map(move |bytes| {
        let _ = &open;
        Ok::<_, Infallible>(bytes)
    });
    ([(http::header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

fn slowly(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> BoxStream<'static, Bytes> {
    iter(chunks)
        .then(async |bytes| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            bytes
        })
        .boxed()
}

/// A relay: `POST /chat` at `url`, the model behind it, Redis before it.
pub(crate) struct Relay {
    pub(crate) redis: RedisServer,
    pub(crate) publisher: Publisher,
    pub(crate) chat: Arc<Chat>,
    pub(crate) model: Arc<Seen>,
    pub(crate) client: Client,
    service: Server,
    _upstream: Server,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        Self::with(ChatSettings::default()).await
    }

    pub(crate) async fn with(settings: ChatSettings) -> Self {
        let redis = RedisServer::start().await;
        let model = Arc::new(Seen::default());
        let upstream = Router::new().route("/v1/chat/completions", post(self::model)).with_state(Arc::clone(&model));
        let upstream = Server::start(upstream).await;
        let url = format!("{}/v1/chat/completions", upstream.url);
        let settings = ChatSettings { upstream: Some(url), ..settings };
        let redis_settings = Settings { command_timeout: Duration::from_secs(1), ..Settings::new(&redis.url()) };
        let publisher = Publisher::connect(&redis_settings).await.unwrap();
        let source = source(&settings, false).unwrap().unwrap();
        let chat = Chat::new(Arc::new(publisher.clone()), Arc::new(publisher.clone()), source, settings);
        let service = Server::start(router(Arc::clone(&chat)).layer(Extension(Access::Open))).await;
        Self {
            redis,
            publisher,
            chat,
            model,
            client: Client::builder().no_proxy().build().unwrap(),
            service,
            _upstream: upstream,
        }
    }

    pub(crate) fn post(&self, body: &Value) -> RequestBuilder {
        let request = self.client.post(format!("{}/chat", self.service.url));
        request.header("content-type", "application/json").body(body.to_string())
    }

    /// Asks, and does not read the stream. Returns the answer's channel.
    pub(crate) async fn ask(&self, question: &str) -> Channel {
        let request = self.post(&json!({"question": question})).header("accept", "application/json");
        let response = soon("the head", request.send()).await.unwrap();
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let told: Value = response.json().await.unwrap();
        assert_eq!(told["location"], location);
        let channel = told["channel"].as_str().unwrap();
        assert_eq!(location, format!("/events?channel={}&last_event_id=earliest", channel.replace(':', "%3A")));
        Channel::parse(channel).unwrap()
    }

    /// What the channel holds: names, data, ids; once it is closed.
    pub(crate) async fn history(&self, channel: &Channel) -> Vec<(String, Value, String)> {
        eventually(&format!("the end of {channel}"), async || {
            let page = self.publisher.history(channel, Position::ZERO, 1).await.ok()?;
            page.last.filter(|last| last.ended)
        })
        .await;
        let page = self.publisher.history(channel, Position::ZERO, 1_000).await.unwrap();
        assert!(!page.more, "more events than a stream is given of the past");
        let event = |entry: &publisher::HistoryEntry| {
            let envelope = Envelope::parse(&entry.payload).unwrap();
            let data = serde_json::from_str(envelope.data.unwrap().get()).unwrap();
            (envelope.event.unwrap(), data, page.cursor(entry.position).to_string())
        };
        page.entries.iter().map(event).collect()
    }

    /// The answer on a channel, at its end: its text, the last event's name, and what that says. Fails unless that is true of
    /// the text.
    pub(crate) async fn answer(&self, channel: &Channel) -> (String, String, Value) {
        whole(&self.history(channel).await)
    }

    /// Nothing is under way any more, here or at the model.
    pub(crate) async fn is_quiet(&self) {
        eventually("no answer under way", async || (self.chat.under_way() == 0).then_some(())).await;
        eventually("nothing asked of the model", async || (self.model.open() == 0).then_some(())).await;
    }
}

/// See [`Relay::answer`].
pub(crate) fn whole(events: &[(String, Value, String)]) -> (String, String, Value) {
    let (first, rest) = events.split_first().unwrap();
    let ((name, last, _), chunks) = rest.split_last().unwrap();
    assert_eq!(first.0, "question");
    assert!(chunks.iter().all(|(name, ..)| name == "chunk"), "{events:?}");
    let text: String = chunks.iter().map(|(_, data, _)| data["text"].as_str().unwrap()).collect();
    let sha256: String = sha2::Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&last["chunks"], &last["bytes"]), (&json!(chunks.len()), &json!(text.len())));
    assert_eq!(last["sha256"], sha256);
    (text, name.clone(), last.clone())
}

/// The events of a response's stream to its end, in the same form as a history.
pub(crate) async fn stream(response: reqwest::Response) -> Vec<(String, Value, String)> {
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let bytes = tokio::time::timeout(PATIENCE * 3, response.bytes()).await.expect("an end").unwrap();
    let mut decoder = Decoder::new();
    decoder.feed(&bytes).unwrap();
    let event = |decoded| match decoded {
        Decoded::Event(Received { event, data, id }) => Some((event, serde_json::from_str(&data).unwrap(), id)),
        _ => None,
    };
    decoder.filter_map(event).collect()
}
