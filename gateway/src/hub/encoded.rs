//! An event as bytes: encoded once when it arrives, shared by every connection that writes it.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::channel::Channel;
use shared::cursor::CursorPart;
use shared::envelope::{Envelope, Payload};
use shared::event_stream::encode;
use shared::position::Position;
use tokio::time::Instant;

use crate::broker::Message;

/// Merge order of events on several channels: durable ones by position, an ephemeral one right after the watermark at which
/// it arrived. Within a channel it never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Own position, or the watermark at arrival.
    pub position: Position,
    /// 0 for a durable event, else counts arrivals.
    pub arrival: u64,
}

/// How a connection wants its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `event`, `data`, `retry` and `id` as they were published.
    #[default]
    Plain,
    /// Everything as `data: {"channel","event","id","data"}`, for clients that cannot listen to names not known before.
    Json,
}

/// One event of one channel, ready to be written.
#[derive(Debug)]
pub struct Encoded {
    channel: Channel,
    payload: Bytes,
    /// Where it stands, for clients; `None` for an ephemeral event.
    cursor: Option<CursorPart>,
    order: Order,
    ends: bool,
    envelope: bool,
    arrived: Instant,
    plain: Block,
    /// Made when the first connection asks.
    json: OnceLock<Block>,
}

/// A block of the event stream, with how much of it stands before the `id:` line.
#[derive(Debug)]
struct Block {
    bytes: Bytes,
    fields: usize,
}

impl Encoded {
    /// Encodes `message`, whose cursor (if durable) is `cursor`.
    #[must_use]
    pub fn new(message: Message, cursor: Option<CursorPart>, order: Order, arrived: Instant) -> Self {
        let payload = Payload::parse(&message.payload);
        let event = payload.to_event();
        let mut fields = Vec::with_capacity(message.payload.len() + 96);
        encode::fields(&mut fields, &event);
        let ends = cursor.is_some() && payload.is_end();
        let envelope = matches!(payload, Payload::Envelope(_));
        let plain = Block::new(fields, cursor);
        Self {
            channel: message.channel,
            payload: message.payload,
            cursor,
            order,
            ends,
            envelope,
            arrived,
            plain,
            json: OnceLock::new(),
        }
    }

    /// The whole block, its `id:` that of a single partition.
    #[must_use]
    pub fn block(&self, format: Format) -> &Bytes {
        &self.of(format).bytes
    }

    /// The same, if that needs no encoding any more.
    #[must_use]
    pub fn encoded(&self, format: Format) -> Option<&Bytes> {
        match format {
            Format::Plain => Some(&self.plain.bytes),
            Format::Json => self.json.get().map(|block| &block.bytes),
        }
    }

    /// The block up to where `id:` stands: whoever takes this adds the rest.
    #[must_use]
    pub fn fields(&self, format: Format) -> Bytes {
        let block = self.of(format);
        block.bytes.slice(..block.fields)
    }

    /// Where a durable event stands.
    #[must_use]
    pub fn cursor(&self) -> Option<CursorPart> {
        self.cursor
    }

    /// Its place among events of other channels.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// It closes the channel.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// The payload was an envelope.
    #[must_use]
    pub fn is_envelope(&self) -> bool {
        self.envelope
    }

    /// When it came from the broker.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// What it costs in memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.len() + self.plain.bytes.len() + size_of::<Self>()
    }

    fn of(&self, format: Format) -> &Block {
        match format {
            Format::Plain => &self.plain,
            Format::Json => self.json.get_or_init(|| self.encode_json()),
        }
    }

    fn encode_json(&self) -> Block {
        let payload = Payload::parse(&self.payload);
        let json = Json {
            channel: self.channel.as_str(),
            event: match &payload {
                Payload::Envelope(envelope) => envelope.event.as_deref(),
                Payload::Opaque(_) => None,
            },
            id: self.cursor.map(|cursor| cursor.to_string()),
            data: match &payload {
                Payload::Envelope(Envelope { data: Some(data), .. }) => Data::Json(data),
                Payload::Envelope(_) => Data::Text(""),
                Payload::Opaque(text) => Data::Text(text),
            },
        };
        let mut fields = Vec::with_capacity(self.payload.len() + 160);
        // A bare end is a position and no event here as well.
        let bare_end = matches!(&payload, Payload::Envelope(envelope) if envelope.end && envelope.data.is_none() && envelope.event.is_none());
        if !bare_end {
            // Of strings and JSON only: it cannot fail.
            encode::data(&mut fields, &serde_json::to_string(&json).unwrap_or_default());
        }
        if let Some(retry) = payload.to_event().retry() {
            encode::retry(&mut fields, retry);
        }
        Block::new(fields, self.cursor)
    }
}

impl Block {
    fn new(mut bytes: Vec<u8>, cursor: Option<CursorPart>) -> Self {
        let fields = bytes.len();
        if let Some(cursor) = cursor {
            encode::id(&mut bytes, &cursor.to_string());
        }
        encode::end(&mut bytes);
        Self { bytes: bytes.into(), fields }
    }
}

/// The `format=json` shape; members in this order, all of them always there.
#[derive(Serialize)]
struct Json<'a> {
    channel: &'a str,
    event: Option<&'a str>,
    id: Option<String>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Stamp;

    fn encoded(payload: &str, durable: bool) -> Encoded {
        let position = Position { ms: 5, seq: 1 };
        let stamp = durable.then_some(Stamp { position, previous: Position::ZERO });
        let channel = Channel::parse("user:42").unwrap();
        let message = Message { channel, payload: payload.to_owned().into(), stamp };
        let cursor = durable.then(|| CursorPart { partition: None, position, tag: "abcde".parse().unwrap() });
        Encoded::new(message, cursor, Order { position, arrival: 0 }, Instant::now())
    }

    fn text(encoded: &Encoded, format: Format) -> &str {
        std::str::from_utf8(encoded.block(format)).unwrap()
    }

    #[test]
    fn durable_has_an_id_and_it_comes_last() {
        let event = encoded(r#"{"event":"n","data":"x"}"#, true);
        assert_eq!(text(&event, Format::Plain), "event: n\ndata: x\nid: 5-1_abcde\n\n");
        assert_eq!(event.fields(Format::Plain), "event: n\ndata: x\n");
        assert!(event.is_envelope());
    }

    #[test]
    fn ephemeral_has_none() {
        let event = encoded("hello", false);
        assert_eq!(text(&event, Format::Plain), "data: hello\n\n");
        assert!(!event.is_envelope());
        assert_eq!(
            text(&event, Format::Json),
            "data: {\"channel\":\"user:42\",\"event\":null,\"id\":null,\"data\":\"hello\"}\n\n"
        );
    }

    #[test]
    fn json_keeps_data_as_it_was_written() {
        let event = encoded(r#"{"event":"n","data":{"b":1.50,"a":[]},"retry":5}"#, true);
        assert_eq!(
            text(&event, Format::Json),
            "data: {\"channel\":\"user:42\",\"event\":\"n\",\"id\":\"5-1_abcde\",\"data\":{\"b\":1.50,\"a\":[]}}\nretry: 100\nid: 5-1_abcde\n\n"
        );
        let event = encoded("{\"data\":{\n\"a\":1}}", false);
        assert_eq!(
            text(&event, Format::Json),
            "data: {\"channel\":\"user:42\",\"event\":null,\"id\":null,\"data\":{\ndata: \"a\":1}}\n\n"
        );
    }

    #[test]
    fn json_without_data_has_the_empty_text() {
        let expected = "data: {\"channel\":\"user:42\",\"event\":\"n\",\"id\":null,\"data\":\"\"}\n\n";
        assert_eq!(text(&encoded(r#"{"event":"n"}"#, false), Format::Json), expected);
    }

    #[test]
    fn only_a_durable_end_ends() {
        assert!(encoded(r#"{"end":true}"#, true).ends());
        assert!(!encoded(r#"{"end":true}"#, false).ends());
        for format in [Format::Plain, Format::Json] {
            assert_eq!(text(&encoded(r#"{"end":true}"#, true), format), "id: 5-1_abcde\n\n");
        }
    }
}
