//! What is held of a channel: `GET /channels/{channel}/events?after=<cursor>&limit=<n>`, its history as JSON, and `DELETE
//! /channels/{channel}`, which erases that. Neither publishes anything, and no stream notices.
//!
//! An answer can be large, and a client slow to read it: memory for answers is shared by all of them, and each keeps its
//! share until its last byte was written. Nobody has more than a quarter of it. Who finds none waits, and is cut by the server's own
//! deadline if that takes too long.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Extensions, StatusCode, Uri};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::auth::Access;
use shared::cursor::Cursor;
use shared::envelope::Payload;
use shared::position::Position;

use super::problem::Problem;
use super::rate::Key;
use super::room::{OwnedPlace, Room};
use super::{check, query};
use shared::continuity::Gap;

use crate::channels::{self, Channels, HistoryEntry, HistoryPage, MAX_HISTORY_BYTES};

/// Events of one answer where nothing is said, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// Bytes of all answers together, those that are still being read for included.
const ROOM_BYTES: usize = 256 << 20;
/// What an answer may take until it is known: its entries, some more that were read with them, and both again as JSON.
const READ_BYTES: usize = 4 * MAX_HISTORY_BYTES;
/// What the routes share.
pub(super) struct Reader {
    channels: Arc<dyn Channels>,
    room: Arc<Room>,
}

impl Reader {
    pub(super) fn new(channels: Arc<dyn Channels>) -> Self {
        Self { channels, room: Arc::new(Room::new(ROOM_BYTES)) }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    channel: &'a str,
    events: Vec<Shown<'a>>,
    /// Cursor right after the channel's last event.
    last: Option<String>,
    ended: bool,
    more: bool,
    gap: Option<Gap>,
}

/// An event as its envelope has it.
#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    end: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

#[derive(Serialize)]
struct Erased<'a> {
    channel: &'a str,
    erased: bool,
}

/// `GET /channels/{channel}/events`
pub(super) async fn read(
    State(reader): State<Arc<Reader>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    extensions: Extensions,
) -> Result<Response, Problem> {
    let channel = check::readable_channel_of_path(path, &access)?;
    let (after, limit) = parameters(&uri)?;
    let mut room = reader.room.clone().take_owned(&Key::of(&extensions), READ_BYTES).await;

    let start = channels::start(after.as_ref(), reader.channels.partition(&channel));
    let mut page = reader.channels.history(&channel, start, limit).await?;
    let gap = channels::gap(after.as_ref(), &page);
    if gap == Some(Gap::DataLost) {
        page = reader.channels.history(&channel, Position::ZERO, limit).await?;
    }
    let json = json(channel.as_str(), &page, gap);
    drop(page);
    let json = json.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broker-error", "broker error")
            .detail(format!("the history cannot be written as JSON: {error}"))
    })?;
    room.shrink(json.len());
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Bytes::from_owner(Kept { json, _room: room })).into_response())
}

/// `DELETE /channels/{channel}`
pub(super) async fn erase(
    State(reader): State<Arc<Reader>>,
    Extension(access): Extension<Access>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let channel = check::channel_of_path(path, &access)?;
    let erased = reader.channels.erase(&channel).await?;
    Ok(Json(Erased { channel: channel.as_str(), erased }).into_response())
}

fn parameters(uri: &Uri) -> Result<(Option<Cursor>, usize), Problem> {
    let [after, limit] = query::values(uri.query().unwrap_or_default().as_bytes(), ["after", "limit"])?;
    let after = after.map(|after| after.parse()).transpose();
    let after = after.map_err(|error| Problem::invalid("after", format!("after is {error}")))?;
    Ok((after, limit.as_deref().map_or(Ok(DEFAULT_LIMIT), number)?))
}

fn number(text: &str) -> Result<usize, Problem> {
    // The standard parser would take a sign too.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::wrong_type("limit", "a whole number, 1 to 1000"));
    }
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| Problem::invalid("limit", "limit is not within 1 and 1000").limit(MAX_LIMIT))
}

fn json(channel: &str, page: &HistoryPage, gap: Option<Gap>) -> serde_json::Result<Vec<u8>> {
    // All of them stay: what is shown borrows from them.
    let payloads: Vec<Payload<'_>> = page.entries.iter().map(|entry| Payload::parse(&entry.payload)).collect();
    let shown = |(entry, payload)| shown(page, entry, payload);
    serde_json::to_vec(&Answer {
        channel,
        events: page.entries.iter().zip(&payloads).map(shown).collect(),
        last: page.last.map(|last| page.cursor(last.position).to_string()),
        ended: page.last.is_some_and(|last| last.ended),
        more: page.more,
        gap,
    })
}

fn shown<'a>(page: &HistoryPage, entry: &HistoryEntry, payload: &'a Payload<'_>) -> Shown<'a> {
    let id = page.cursor(entry.position).to_string();
    match payload {
        Payload::Envelope(envelope) => Shown {
            id,
            event: envelope.event.as_deref(),
            data: envelope.data.as_deref().map(Data::Json),
            retry: envelope.retry,
            end: envelope.end,
        },
        Payload::Opaque(text) => Shown { id, event: None, data: Some(Data::Text(text)), retry: None, end: false },
    }
}

/// An answer on its way, and its share of the room.
struct Kept {
    json: Vec<u8>,
    _room: OwnedPlace,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

#[cfg(test)]
mod tests;
