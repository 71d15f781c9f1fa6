//! The reader of event streams: the load generator and tests trust it to read as a browser does.

use std::time::Duration;

use shared::event::Event;
use shared::event_stream::decode::{Decoded, Decoder, Received};
use shared::event_stream::encode;

/// Much less than the default, so that it is met.
const LIMIT: usize = 256;

/// However the bytes are cut, the decoder says what a plain reader says of the whole of them; with a limit it says a beginning
/// of that; and what it says can be written and read again. The first byte says how to cut the others.
pub(super) fn decode(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let wanted = plainly(bytes);
    let mut decoder = Decoder::new();
    for piece in bytes.chunks(usize::from(cut) + 1) {
        decoder.feed(piece).expect("shorter than the limit");
    }
    let said: Vec<Decoded> = decoder.collect();
    assert_eq!(said, wanted);
    let mut bounded = Decoder::with_limit(LIMIT);
    let fits = bytes.chunks(usize::from(cut) + 1).all(|piece| bounded.feed(piece).is_ok());
    let some: Vec<Decoded> = bounded.collect();
    assert!(if fits { some == said } else { said.starts_with(&some) }, "a limit changes what is said");
    for said in said {
        if let Decoded::Event(received) = said {
            again(received);
        }
    }
}

fn again(received: Received) {
    let event = Event::default().with_data(received.data.clone()).with_event(received.event.clone());
    let event = event.and_then(|event| event.with_id(received.id.clone())).expect("fields of one line");
    let mut bytes = Vec::new();
    encode::event(&mut bytes, &event);
    let mut decoder = Decoder::new();
    decoder.feed(&bytes).expect("shorter than the limit");
    assert_eq!(decoder.collect::<Vec<_>>(), [Decoded::Event(received)]);
}

/// The whole text at once, in the words of the specification.
fn plainly(bytes: &[u8]) -> Vec<Decoded> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let end = bytes.iter().rposition(|byte| matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(&bytes[..end]).replace("\r\n", "\n").replace('\r', "\n");
    let (mut said, mut data, mut name, mut id, mut has_id) =
        (Vec::new(), Vec::new(), String::new(), String::new(), false);
    for line in text.split_terminator('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                let event = if name.is_empty() { "message".to_owned() } else { name.clone() };
                said.push(Decoded::Event(Received { event, data: data.join("\n"), id: id.clone() }));
            } else if has_id {
                said.push(Decoded::Id(id.clone()));
            }
            (data, name, has_id) = (Vec::new(), String::new(), false);
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => said.push(Decoded::Comment(value.to_owned())),
            "data" => data.push(value),
            "event" => value.clone_into(&mut name),
            "id" if !value.contains('\0') => {
                value.clone_into(&mut id);
                has_id = true;
            }
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                said.push(Decoded::Retry(Duration::from_millis(value.parse().unwrap_or(u64::MAX))));
            }
            _ => {}
        }
    }
    said
}
