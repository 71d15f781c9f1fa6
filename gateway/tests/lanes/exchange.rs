//! A request to the byte, and all that comes back, with what is another each time masked: what two lanes have to have in
//! common.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::support::{Gateway, Lane, Raw};

/// What a client sends on a socket, and what is to come back. A table of them holds a line for each.
pub struct Case {
    pub name: String,
    pub request: Vec<u8>,
    /// Of each answer.
    pub status: Vec<u16>,
    /// Whether the connection takes another request after that.
    pub kept: bool,
    /// Where it is cut: what stands before each place is sent, and read, before the rest.
    pub pieces: Vec<usize>,
    /// Whose event streams are open: an event is published on it, then its end.
    pub channel: &'static str,
}

/// One whose connection takes another request afterwards.
pub fn kept(name: impl Into<String>, request: impl AsRef<[u8]>, status: &[u16]) -> Case {
    let (name, request, status) = (name.into(), request.as_ref().to_vec(), status.to_vec());
    Case { name, request, status, kept: true, pieces: Vec::new(), channel: "a" }
}

/// One whose connection ends.
pub fn closed(name: impl Into<String>, request: impl AsRef<[u8]>, status: &[u16]) -> Case {
    Case { kept: false, ..kept(name, request, status) }
}

impl Case {
    /// Its event stream is one of this channel.
    pub fn on(self, channel: &'static str) -> Self {
        Self { channel, ..self }
    }

    /// It says where the client was; in these tables that is never a cursor.
    fn has_cursor(&self) -> bool {
        let name = b"\r\nLast-Event-ID: ";
        self.request.windows(name.len()).any(|window| window == name)
    }

    /// It is sent in pieces.
    pub fn in_pieces(self, pieces: Vec<usize>) -> Self {
        Self { pieces, ..self }
    }
}

/// A `GET` of `target` with these further lines of its head, each with its end.
pub fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

/// A request for an event stream on channel `a` with these further lines of its head, each with its end.
pub fn stream(lines: &str) -> String {
    get("/events?channel=a", lines)
}

/// Asked last, to see whether the connection still takes requests.
const PROBE: &str = "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Two gateways that differ in their lane alone.
pub struct Both {
    lanes: [(Lane, Gateway); 2],
}

impl Both {
    /// With these lines in their files.
    pub async fn start(config: &str) -> Self {
        let start = async |lane| {
            let builder = Gateway::builder().lane(lane).env("SSE_GATEWAY__NODE", "node").config(config);
            (lane, builder.start().await)
        };
        Self { lanes: [start(Lane::Direct).await, start(Lane::Hyper).await] }
    }

    /// Publishes to both.
    pub async fn publish(&self, event: Value) {
        for (_, gateway) in &self.lanes {
            gateway.publish(event.clone()).await;
        }
    }

    /// Opens an event stream on both, which stays open for as long as what is returned.
    pub async fn open(&self, target: &str) -> Vec<Raw> {
        let mut open = Vec::new();
        for (_, gateway) in &self.lanes {
            let mut raw = Raw::connect(&gateway.public).await;
            raw.get(target).await;
            raw.head().await;
            raw.body_until("sse.open").await;
            open.push(raw);
        }
        open
    }

    /// Sends each to both, and compares what comes back with what is expected, and with each other. Tells of all that differ.
    /// Afterwards nothing is open.
    pub async fn compare(&self, cases: Vec<Case>) {
        self.compare_beside(0, cases).await;
    }

    /// The same beside so many event streams that stay open.
    pub async fn compare_beside(&self, open: u32, cases: Vec<Case>) {
        let (mut wrong, count) = (Vec::new(), cases.len());
        for case in cases {
            let mut answers = Vec::new();
            for (lane, gateway) in &self.lanes {
                // The panic's own words stand further up.
                let answer = AssertUnwindSafe(exchange(gateway, &case)).catch_unwind().await;
                let answer = answer.unwrap_or_else(|_| format!("the answer broke off on {lane:?}, or there was none"));
                let expected = expected(&case);
                let status = statuses(&answer);
                if status != expected {
                    wrong.push(format!("{}: {status:?} instead of {expected:?} on {lane:?}:\n{answer}", case.name));
                }
                answers.push(answer);
            }
            if answers[0] != answers[1] {
                let request: String = String::from_utf8_lossy(&case.request).escape_debug().take(300).collect();
                wrong.push(format!("{}: {request}\ndirect: {}\n\nhyper: {}", case.name, answers[0], answers[1]));
            }
        }
        for (_, gateway) in &self.lanes {
            gateway.metric_becomes(&gateway.open(), open.into()).await;
        }
        assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n\n"));
    }
}

fn expected(case: &Case) -> Vec<u16> {
    case.status.iter().copied().chain(case.kept.then_some(404)).collect()
}

/// Of the answers' heads, in order.
fn statuses(answer: &str) -> Vec<u16> {
    let status = |line: &str| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok();
    answer.lines().filter_map(status).collect()
}

/// All that comes back for a case and for the [`PROBE`] after it, masked; bodies in chunks without their sizes.
async fn exchange(gateway: &Gateway, case: &Case) -> String {
    // Else the channel would have ended with the case before.
    gateway.publish(json!({"channel": case.channel, "data": "before"})).await;
    let mut raw = Raw::connect(&gateway.public).await;
    let mut sent = 0;
    for place in &case.pieces {
        raw.send(&case.request[sent..*place]).await;
        raw.all_is_read().await;
        sent = *place;
    }
    raw.send(&case.request[sent..]).await;
    let mut said = Vec::new();
    for _ in &case.status {
        let head = raw.until_closed_or("\r\n\r\n").await;
        if !head.ends_with(b"\r\n\r\n") {
            said.extend(head);
            break;
        }
        let head = String::from_utf8(head).unwrap();
        said.extend(head.as_bytes());
        let bodiless = case.request.starts_with(b"HEAD ") || [100, 204].contains(&statuses(&head)[0]);
        if !bodiless {
            said.extend(body(gateway, case, &mut raw, &head).await.as_bytes());
        }
        said.push(b'\n');
    }
    raw.send(PROBE).await;
    said.extend(raw.rest().await);
    masked(&String::from_utf8_lossy(&said))
}

/// A body to its end; that of an event stream gets an event and its end to have one.
async fn body(gateway: &Gateway, case: &Case, raw: &mut Raw, head: &str) -> String {
    let channel = case.channel;
    let lower = head.to_ascii_lowercase();
    let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let both = value("content-length").is_some() && value("transfer-encoding").is_some();
    assert!(!both, "two ends of one body: {head}");
    if let Some(length) = value("content-length") {
        return raw.body_of_length(length.parse().unwrap()).await;
    }
    assert_eq!(value("content-type"), Some("text/event-stream"), "a body without a length: {head}");
    raw.body_comes_in_chunks(value("transfer-encoding") == Some("chunked"));
    let mut said = raw.body_until("\nevent: sse.open\n").await + &raw.body_until("\n\n").await;
    if case.has_cursor() {
        // It is none, so there is a gap, and what comes before that is told is in it.
        said += &raw.body_until("event: sse.gap\n").await;
        said += &(raw.body_until("\n\n").await + &raw.body_until("\n\n").await);
    }
    gateway.publish(json!({"channel": channel, "data": "x"})).await;
    said += &raw.body_until("data: x\n").await;
    gateway.publish(json!({"channel": channel, "data": "last", "end": true})).await;
    said += &raw.rest_of_body().await;
    said
}

/// With a word instead of what chance or the clock decide, where it looks as it should.
fn masked(text: &str) -> String {
    let is_hex = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let line = |line: &str| {
        if let Some(date) = line.strip_prefix("date: ") {
            let sound = date.trim_end().len() == 29 && date.trim_end().ends_with(" GMT");
            return if sound { "date: DATE\r\n".to_owned() } else { format!("no date: {date}") };
        }
        if let Some(id) = line.strip_prefix("x-request-id: ") {
            return if is_hex(id.trim_end()) { "x-request-id: ID\r\n".to_owned() } else { line.to_owned() };
        }
        // The last member of a problem; the next answer's head may follow at once.
        if let Some((before, id)) = line.split_once("\"request_id\":\"")
            && let Some((id, after)) = id.split_once("\"}")
            && is_hex(id)
        {
            return format!("{before}\"request_id\":\"ID\"}}{after}");
        }
        if let Some(("", ms)) = line.trim_end().split_once("retry: ") {
            let sound = ms.parse().is_ok_and(|ms| (2_400..=3_600).contains(&ms));
            return if sound { "retry: RETRY\n".to_owned() } else { line.to_owned() };
        }
        if let Some(("", cursor)) = line.trim_end().split_once("id: ") {
            return if is_cursor(cursor) { "id: CURSOR\n".to_owned() } else { line.to_owned() };
        }
        let (begin, end) = ("data: {\"connection\":\"", "\",\"node\":\"node\"}\n");
        if let Some(id) = line.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)) {
            return if is_hex(id) { format!("{begin}ID{end}") } else { line.to_owned() };
        }
        if let Some((before, cursor)) = line.split_once("\"cursor\":\"")
            && let Some((cursor, after)) = cursor.split_once('"')
            && is_cursor(cursor)
        {
            return format!("{before}\"cursor\":\"CURSOR\"{after}");
        }
        line.to_owned()
    };
    text.split_inclusive('\n').map(line).collect()
}

/// `<ms>-<seq>_<tag>`.
fn is_cursor(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = text.split_once('_').and_then(|(position, tag)| Some((position.split_once('-')?, tag)));
    parts.is_some_and(|((ms, seq), tag)| number(ms) && number(seq) && tag.len() == 5)
}
