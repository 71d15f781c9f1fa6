//! `sse-naive`: what somebody competent writes in an afternoon, to hold servers against.
//!
//! axum's `Sse` with its keep-alive, over one tokio broadcast queue a channel, over one PSUBSCRIBE of everything. No ids, no
//! history, no checks; a reader that falls 256 events behind loses the oldest without a word. It must stay that: it is a
//! yardstick, and whatever it is given moves the others' figures.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use clap::Parser;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Events that a reader may be behind.
const QUEUE_EVENTS: usize = 256;

/// A baseline: axum's Sse over tokio's broadcast over one PSUBSCRIBE. GET /events?channel=NAME is the event stream of that Redis channel.
#[derive(Debug, Parser)]
#[command(name = "sse-naive", version)]
struct Args {
    /// Address to accept event streams on
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Redis to hear all channels of
    #[arg(long, value_name = "ADDRESS:PORT")]
    redis: SocketAddr,
}

/// Queues by channel. Added by whoever asks for a channel first, read by what hears Redis; they stay until the end.
type Queues = Arc<RwLock<HashMap<String, broadcast::Sender<String>>>>;

#[tokio::main]
async fn main() -> ExitCode {
    let error = match run(&Args::parse()).await {
        Ok(()) => "ended without a reason".to_owned(),
        Err(error) => error,
    };
    // Nobody there to read it: the code still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

/// Runs until Redis goes.
async fn run(args: &Args) -> Result<(), String> {
    // What the limit is then, the first connection beyond it tells.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let queues = Queues::default();
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| format!("listen: cannot listen on {}: {error}", args.listen))?;

    let redis = |error| format!("redis: {} cannot be heard: {error}", args.redis);
    let client = redis::Client::open(format!("redis://{}", args.redis)).map_err(redis)?;
    let mut heard = client.get_async_pubsub().await.map_err(redis)?;
    heard.psubscribe("*").await.map_err(redis)?;

    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(hear(heard, queues.clone()));
    let app = Router::new().route("/events", get(events)).with_state(queues);
    tokio::select! {
        served = axum::serve(listener, app) => served.map_err(|error| error.to_string()),
        _ = tasks.join_next() => Err(format!("redis: {} closed the connection", args.redis)),
    }
}

async fn hear(mut redis: redis::aio::PubSub, queues: Queues) {
    let mut messages = redis.on_message();
    while let Some(message) = messages.next().await {
        let Ok(payload) = message.get_payload::<String>() else { continue };
        if let Some(queue) = queues.read().unwrap_or_else(PoisonError::into_inner).get(message.get_channel_name()) {
            // Without a reader there is nothing to do.
            let _ = queue.send(payload);
        }
    }
}

async fn events(
    State(queues): State<Queues>,
    Query(mut query): Query<HashMap<String, String>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let channel = query.remove("channel").unwrap_or_default();
    let mut queues = queues.write().unwrap_or_else(PoisonError::into_inner);
    let queue = queues.entry(channel).or_insert_with(|| broadcast::channel(QUEUE_EVENTS).0);
    let heard = BroadcastStream::new(queue.subscribe());
    // What was lost is passed over: the page never knows.
    let events = heard.filter_map(async |event| Some(Ok(Event::default().data(event.ok()?))));
    Sse::new(events).keep_alive(KeepAlive::default())
}
