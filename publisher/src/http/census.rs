//! Who is there: `GET /channels/{channel}` and `GET /users/{id}`, with how many connections all nodes have there, and `GET /nodes` for
//! operators. All nodes are asked each time, so what is answered was true within the last second.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use serde::Serialize;
use shared::auth::Access;
use shared::census::{Doing, Of};
use shared::channel::Channel;
use shared::position::Position;

use super::auth::may_read;
use super::check;
use super::orders::operator_only;
use super::problem::Problem;
use crate::census::{Census, Count, Seen};
use crate::channels::Channels;

/// After every event. The greatest position would do, but Redis knows no range that begins behind it.
const BEYOND: Position = Position { ms: u64::MAX, seq: 0 };

/// What `GET /channels/{channel}` works with.
pub(super) struct OfChannel {
    census: Arc<dyn Census>,
    channels: Arc<dyn Channels>,
}

/// What the other two work with.
pub(super) struct OfNodes {
    census: Arc<dyn Census>,
    /// There is an operator key: without it nobody may see the nodes.
    needs_key: bool,
}

#[derive(Serialize)]
struct ChannelAnswer<'a> {
    channel: &'a str,
    #[serde(flatten)]
    there: There,
    /// Cursor right after the channel's last event.
    last: Option<String>,
    ended: bool,
}

#[derive(Serialize)]
struct UserAnswer<'a> {
    user: &'a str,
    #[serde(flatten)]
    there: There,
}

#[derive(Serialize)]
struct There {
    online: bool,
    connections: u64,
    /// Nodes that have any of them.
    nodes: usize,
    /// Nodes that did not answer in time, by name: there may be more connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<String>,
}

#[derive(Serialize)]
struct NodesAnswer {
    /// Over all nodes, each as it said last.
    connections: u64,
    nodes: Vec<NodeAnswer>,
}

#[derive(Serialize)]
struct NodeAnswer {
    node: String,
    incarnation: String,
    version: String,
    state: Doing,
    connections: u64,
    channels: u64,
    /// Unix milliseconds by the node's own clock.
    started: u64,
    /// Milliseconds since it said so.
    age: u64,
}

impl OfChannel {
    pub(super) fn new(census: Arc<dyn Census>, channels: Arc<dyn Channels>) -> Self {
        Self { census, channels }
    }
}

impl OfNodes {
    pub(super) fn new(census: Arc<dyn Census>, needs_key: bool) -> Self {
        Self { census, needs_key }
    }
}

impl From<Count> for There {
    fn from(count: Count) -> Self {
        let Count { connections, nodes, silent } = count;
        Self { online: connections > 0, connections, nodes, silent }
    }
}

impl From<Seen> for NodeAnswer {
    fn from(Seen { node, age }: Seen) -> Self {
        let beat = node.beat;
        Self {
            node: beat.node,
            incarnation: node.incarnation,
            version: beat.version,
            state: beat.state,
            connections: beat.connections,
            channels: beat.channels,
            started: beat.started,
            age: milliseconds(age),
        }
    }
}

/// `GET /channels/{channel}`, for whoever may read it.
pub(super) async fn channel(
    State(of): State<Arc<OfChannel>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let channel = check::readable_channel_of_path(path, &access)?;
    let asked = Of::Channel(channel.clone());
    // Where it stands, without any of its events.
    let stands = of.channels.history(&channel, BEYOND, 1);
    let (count, page) = tokio::try_join!(of.census.count(&asked), stands)?;
    Ok(fresh(&ChannelAnswer {
        channel: channel.as_str(),
        there: count.into(),
        last: page.last.map(|last| page.cursor(last.position).to_string()),
        ended: page.last.is_some_and(|last| last.ended),
    }))
}

/// `GET /users/{id}`, for whoever may read `user:<id>`.
pub(super) async fn user(
    State(of): State<Arc<OfNodes>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Ok(Path(user)) = path else { return Err(Problem::invalid("id", "the id is not UTF-8")) };
    let channel = Channel::user(&user).map_err(|error| Problem::channel("id", error))?;
    may_read(&access, &channel, "id")?;
    let count = of.census.count(&Of::User(user.clone())).await?;
    Ok(fresh(&UserAnswer { user: &user, there: count.into() }))
}

/// `GET /nodes`, for operators.
pub(super) async fn nodes(
    State(of): State<Arc<OfNodes>>,
    Extension(access): Extension<Access>,
) -> Result<Response, Problem> {
    operator_only(&access, of.needs_key)?;
    let nodes: Vec<NodeAnswer> = of.census.nodes().await?.into_iter().map(NodeAnswer::from).collect();
    let connections = nodes.iter().fold(0, |sum: u64, node| sum.saturating_add(node.connections));
    Ok(fresh(&NodesAnswer { connections, nodes }))
}

/// True now, and nobody's to keep.
fn fresh(answer: &impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
