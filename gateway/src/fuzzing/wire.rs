//! What comes from Redis, where anybody may have written it, and the cursors that clients send back.

use shared::channel::Channel;
use shared::cursor::Cursor;
use shared::envelope::{Envelope, Payload};
use shared::event::Event;
use shared::event_stream::decode::{Decoded, Decoder};
use shared::event_stream::encode;
use shared::order::{Order, Revocation, Revocations};
use shared::position::{Epoch, Position};
use shared::redis::message::{parse, parse_clock, parse_last};

use crate::connection::Resume;

/// A text that is taken is written as one that is taken for the same; positions, epochs and names have one form only.
pub(super) fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(cursor) = text.parse::<Cursor>() {
        let written = cursor.to_string();
        // The parts in order; nothing else is another.
        assert_eq!((written.len(), written.parse()), (text.len(), Ok(cursor.clone())), "{text}");
        assert_eq!(Resume::parse(text), Resume::After(cursor));
    } else {
        assert!(matches!(Resume::parse(text), Resume::Unknown | Resume::Earliest));
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.as_str(), text);
    }
    if let Ok(channel) = Channel::parse(text) {
        assert_eq!(channel.as_str(), text);
    }
}

/// Whatever is on a channel, clients get one event of it at most, with what it says and nothing of ours.
pub(super) fn envelope(bytes: &[u8]) {
    let payload = Payload::parse(bytes);
    assert_eq!(Payload::ends(bytes), payload.is_end());
    let event = payload.to_event();
    one_event(&event);
    match payload {
        Payload::Opaque(text) => assert_eq!(event.data(), Some(&*text)),
        Payload::Envelope(envelope) => {
            assert!(!event.event().is_some_and(|name| name.starts_with("sse.")), "an event of ours");
            let written = envelope.to_payload().expect("an envelope as JSON");
            let again = Envelope::parse(&written).expect("what was written is read");
            assert_eq!(Payload::Envelope(again).to_event(), event);
            assert_eq!(Payload::ends(&written), envelope.end);
        }
    }
}

pub(super) fn one_event(event: &Event) {
    let mut bytes = Vec::new();
    encode::event(&mut bytes, event);
    let mut decoder = Decoder::new();
    decoder.feed(&bytes).expect("shorter than the limit");
    let mut events = 0;
    for said in decoder {
        match said {
            Decoded::Event(received) => {
                events += 1;
                let data = event.data().expect("an event without data is not dispatched");
                assert_eq!(received.data, data.replace("\r\n", "\n").replace('\r', "\n"));
                let name = event.event().filter(|name| !name.is_empty()).unwrap_or("message");
                assert_eq!((received.event.as_str(), received.id.as_str()), (name, ""));
            }
            Decoded::Retry(retry) => assert_eq!(Some(retry), event.retry()),
            other => panic!("forged: {other:?}"),
        }
    }
    assert_eq!(events, usize::from(event.data().is_some()));
}

/// A message that is taken for a durable one is one to the byte.
pub(super) fn message(bytes: &[u8]) {
    if let Some((head, at)) = parse(bytes) {
        let written = format!("\x1E{} {} {}\n", head.position, head.previous, head.epoch);
        assert_eq!(bytes.get(..at), Some(written.as_bytes()));
        assert!(head.position > head.previous);
        envelope(&bytes[at..]);
    }
    if let Some((position, epoch)) = parse_clock(bytes) {
        assert!(bytes.starts_with(format!("{position} {epoch}").as_bytes()));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some((position, end)) = parse_last(text)
    {
        assert_eq!(text, format!("{position}{}", if end { " end" } else { "" }));
    }
}

/// An order that is taken is one that is written, and a revocation concerns whom it names.
pub(super) fn order(bytes: &[u8]) {
    if let Some(order) = Order::parse(bytes) {
        let written = order.to_json().expect("an order as JSON");
        let again = Order::parse(written.as_bytes());
        // Fractions, which only a token's claims can have, may differ in their last digit when they are read again.
        let is_same = again == Some(order.clone());
        assert!(is_same || (again.is_some() && has_fraction(&written)), "{written}: {again:?}");
        if let Order::Revoke(revocation) = order {
            concerns(&revocation);
        }
    }
    if let Some(revocation) = Revocation::parse(bytes) {
        let written = revocation.to_json().expect("a revocation as JSON");
        assert_eq!(Revocation::parse(written.as_bytes()), Some(revocation.clone()), "{written}");
        concerns(&revocation);
    }
}

fn has_fraction(json: &str) -> bool {
    fn in_value(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Number(number) => number.is_f64(),
            serde_json::Value::Array(items) => items.iter().any(in_value),
            serde_json::Value::Object(members) => members.values().any(in_value),
            _ => false,
        }
    }
    serde_json::from_str(json).is_ok_and(|value| in_value(&value))
}

fn concerns(revocation: &Revocation) {
    let (token, user) = (revocation.token.as_deref(), revocation.user.as_deref());
    let mut known = Revocations::default();
    known.add(revocation);
    for issued in [None, Some(0), Some(revocation.at), revocation.at.checked_add(1)] {
        for (token, user) in [(token, user), (token, Some("somebody")), (Some("some"), user), (None, None)] {
            let by_name = revocation.token.is_some() && token == revocation.token.as_deref();
            let in_time = issued.is_none_or(|issued| issued <= revocation.at);
            let by_user = revocation.user.is_some() && user == revocation.user.as_deref() && in_time;
            assert_eq!(known.concern(token, user, issued), by_name || by_user);
        }
    }
    assert!(known.concern(token, user, Some(revocation.at)));
    known.forget(revocation.until);
    assert!(known.concern(token, user, None), "forgotten too early");
    if let Some(after) = revocation.until.checked_add(1) {
        known.forget(after);
        assert_eq!(known, Revocations::default(), "kept for ever");
    }
}
