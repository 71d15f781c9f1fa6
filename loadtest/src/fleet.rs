//! The many connections: opens them at a given rate, reads what arrives, and hands over each one's account at the end. It
//! must not publish, and it decides nothing about the run.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::counters::{Counters, add};
use crate::endpoint::{self, CONNECT_TIMEOUT, Endpoint};
use crate::listener::Listener;
use crate::reasons::{Reasons, describe};
use crate::verify::{Published, Verdict};

/// How often new connections are begun; the connect rate is met in steps of it.
const CONNECT_STEP: Duration = Duration::from_millis(2);

/// Most bytes that one connection reads at once: enough for many events, and a fleet that lags stays bounded.
const READ_BUFFER: usize = 64 * 1024;

/// What to open.
#[derive(Debug)]
pub(crate) struct FleetPlan {
    /// Gateways; connections take turns on them.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Names of the channels; connection `i` reads channel `i` modulo their number.
    pub(crate) channels: Vec<String>,
    /// How many connections.
    pub(crate) connections: usize,
    /// New connections per second.
    pub(crate) connect_rate: u32,
    /// Bytes of data that each event must have.
    pub(crate) size: usize,
}

/// What one connection came to.
enum Outcome {
    /// It never opened.
    Failed(String),
    /// It opened; with the reason if it ended before it was told to.
    Opened { listener: Box<Listener>, early_end: Option<String> },
}

/// The sum over all connections.
#[derive(Debug, Default)]
pub(crate) struct FleetAccount {
    /// Connections that opened.
    pub(crate) opened: u64,
    /// Opened connections that ended before they were told to.
    pub(crate) closed_early: u64,
    /// Losses, duplicates and the rest.
    pub(crate) verdict: Verdict,
    /// Events of ours that were damaged or of another channel, and unnamed events that were not ours.
    pub(crate) foreign: u64,
    /// `sse.gap` events: losses that the gateway told about.
    pub(crate) gaps: u64,
    /// Why connections failed or ended early, with how many did.
    pub(crate) reasons: Reasons,
}

/// All connections, running.
#[derive(Debug)]
pub(crate) struct Fleet {
    plan: Arc<FleetPlan>,
    counters: Arc<Counters>,
    tasks: JoinSet<Outcome>,
    stop: CancellationToken,
}

impl Fleet {
    /// None open yet.
    pub(crate) fn new(plan: FleetPlan) -> Self {
        Self {
            plan: Arc::new(plan),
            counters: Arc::new(Counters::new()),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        }
    }

    /// What the connections count.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Begins every connection, at the plan's rate, on the runtime of `readers`. Returns when the last one was begun; it
    /// may be dropped to stop beginning more.
    pub(crate) async fn connect_all(&mut self, readers: &Handle) {
        let start = Instant::now();
        let rate = f64::from(self.plan.connect_rate);
        for index in 0..self.plan.connections {
            while start.elapsed().as_secs_f64() * rate < index as f64 {
                tokio::time::sleep(CONNECT_STEP).await;
            }
            let run = run(Arc::clone(&self.plan), Arc::clone(&self.counters), index, self.stop.clone());
            self.tasks.spawn_on(run, readers);
        }
    }

    /// Closes every connection and adds up their accounts. `published` has an entry a channel.
    pub(crate) async fn finish(mut self, published: &[Published]) -> FleetAccount {
        self.stop.cancel();
        let begun = self.tasks.len() as u64;
        let nothing = Published::default();
        let mut account = FleetAccount::default();
        while let Some(outcome) = self.tasks.join_next().await {
            match outcome {
                Ok(Outcome::Opened { listener, early_end }) => {
                    account.opened += 1;
                    account
                        .verdict
                        .add(&listener.tracker.verdict(published.get(listener.key as usize).unwrap_or(&nothing)));
                    account.foreign += listener.foreign;
                    account.gaps += listener.gaps;
                    if let Some(reason) = early_end {
                        account.closed_early += 1;
                        account.reasons.add(format!("closed early: {reason}"), 1);
                    }
                }
                Ok(Outcome::Failed(reason)) => account.reasons.add(format!("failed: {reason}"), 1),
                Err(error) => account.reasons.add(format!("failed: {error}"), 1),
            }
        }
        let not_begun = self.plan.connections as u64 - begun;
        if not_begun > 0 {
            account.reasons.add("failed: not begun before the interrupt".to_owned(), not_begun);
        }
        account
    }
}

/// One connection from its first packet to its account.
async fn run(plan: Arc<FleetPlan>, counters: Arc<Counters>, index: usize, stop: CancellationToken) -> Outcome {
    let mut stopped = pin!(stop.cancelled());
    let opening = timeout(CONNECT_TIMEOUT, open(&plan, &counters, index));
    let opened = tokio::select! {
        biased;
        opened = opening => opened.unwrap_or_else(|_| Err(format!("no sse.open event within {CONNECT_TIMEOUT:?}"))),
        () = &mut stopped => Err("stopped before it was open".to_owned()),
    };
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(reason) => {
            add(&counters.failed, 1);
            return Outcome::Failed(reason);
        }
    };
    add(&counters.opened, 1);
    let reason = tokio::select! {
        biased;
        reason = stream.read_to_end(&counters) => Some(reason),
        () = &mut stopped => None,
    };
    if reason.is_some() {
        add(&counters.closed_early, 1);
    }
    Outcome::Opened { listener: stream.listener, early_end: reason }
}

/// Connects, asks for the stream and reads it up to `sse.open`: from then on every event of the channel is owed.
async fn open(plan: &FleetPlan, counters: &Counters, index: usize) -> Result<Stream, String> {
    let key = index % plan.channels.len();
    // Whole rounds over the channels share a gateway, so each channel is spread over all of them.
    let endpoint = &plan.endpoints[(index / plan.channels.len()) % plan.endpoints.len()];
    let source = endpoint::source(endpoint.address, index, plan.connections);
    let socket = endpoint::connect(endpoint.address, source).await.map_err(|error| format!("connect: {error}"))?;
    let request = Request::get(format!("/events?channel={}", plan.channels[key]))
        .header(http::header::HOST, &endpoint.authority)
        .header(http::header::ACCEPT, "text/event-stream")
        .body(Empty::new())
        .map_err(|error| format!("request: {error}"))?;
    let handshake = http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("handshake: {}", describe(&error)))?;
    let mut connection = Some(Box::pin(connection));
    let response = {
        let mut answer = pin!(sender.send_request(request));
        let early = tokio::select! {
            biased;
            response = &mut answer => Some(response),
            () = drive(&mut connection) => None,
        };
        // A server may answer and close in one breath: what the ended connection had read is still to be had.
        match early {
            Some(response) => response,
            None => answer.await,
        }
    };
    let response = response.map_err(|error| format!("request: {}", describe(&error)))?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let media_type = response.headers().get(http::header::CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
    if !media_type.starts_with(b"text/event-stream") {
        return Err(format!("content type {:?} is not text/event-stream", String::from_utf8_lossy(media_type)));
    }
    let listener = Box::new(Listener::new(u32::try_from(key).unwrap_or(u32::MAX), plan.size));
    let mut stream = Stream { connection, body: response.into_body(), listener, _sender: sender };
    while !stream.listener.is_open {
        stream.read(counters).await?;
    }
    Ok(stream)
}

type HttpConnection = http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>;

/// An event stream and the HTTP connection that carries it, driven by the same task: one task a connection.
struct Stream {
    /// `None` once it ended; its last frames may still be in the body.
    connection: Option<Pin<Box<HttpConnection>>>,
    body: Incoming,
    listener: Box<Listener>,
    /// The connection would close if the sender went.
    _sender: http1::SendRequest<Empty<Bytes>>,
}

impl Stream {
    /// Reads until the stream ends, and returns why it did.
    async fn read_to_end(&mut self, counters: &Counters) -> String {
        loop {
            if let Err(reason) = self.read(counters).await {
                return reason;
            }
        }
    }

    /// Reads one frame; the error is why there is none.
    async fn read(&mut self, counters: &Counters) -> Result<(), String> {
        let early = tokio::select! {
            biased;
            frame = self.body.frame() => Some(frame),
            () = drive(&mut self.connection) => None,
        };
        let frame = match early {
            Some(frame) => frame,
            None => self.body.frame().await,
        };
        let frame = frame.ok_or("the server ended the stream")?.map_err(|error| describe(&error))?;
        let Some(bytes) = frame.data_ref() else { return Ok(()) };
        self.listener.take(bytes, counters)
    }
}

/// Moves bytes until the connection ends, then drops it; its errors reach whoever waits for the response or a frame. Once
/// it is gone, this never returns.
async fn drive(connection: &mut Option<Pin<Box<HttpConnection>>>) {
    let Some(running) = connection else { return std::future::pending().await };
    let _ = running.await;
    *connection = None;
}
