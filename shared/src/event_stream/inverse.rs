//! Encoder and decoder undo each other, for any event and any way the bytes are cut.

use proptest::prelude::*;

use super::decode::{Decoded, Decoder, Received};
use super::encode;
use crate::event::Event;

/// Text rich in what the format treats specially.
fn tricky() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ :a-z]{0,4}",
        Just("\r".into()),
        Just("\n".into()),
        Just("\r\n".into()),
        "\\PC{0,3}",
        Just("\u{feff}".into()),
        Just("\0".into())
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces: Vec<String>| pieces.concat())
}

fn one_line() -> impl Strategy<Value = String> {
    tricky().prop_map(|text| text.replace(['\r', '\n'], ""))
}

fn normal(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        blocks in proptest::collection::vec((proptest::option::of(one_line()), tricky(), proptest::option::of(one_line()), proptest::option::of(100u64..3_600_000)), 1..6),
        cuts in proptest::collection::vec(1usize..7, 1..20),
    ) {
        let (mut bytes, mut expected, mut last_id) = (Vec::new(), Vec::new(), String::new());
        for (name, data, id, retry) in blocks {
            let mut event = Event::default().with_data(data.clone());
            if let Some(name) = &name { event = event.with_event(name.clone()).unwrap(); }
            if let Some(id) = &id {
                last_id = id.replace('\0', "");
                event = event.with_id(last_id.clone()).unwrap();
            }
            if let Some(ms) = retry {
                let retry = std::time::Duration::from_millis(ms);
                event = event.with_retry(retry);
                expected.push(Decoded::Retry(retry));
            }
            encode::event(&mut bytes, &event);
            let name = name.filter(|name| !name.is_empty()).unwrap_or("message".into());
            expected.push(Decoded::Event(Received { event: name, data: normal(&data), id: last_id.clone() }));
        }
        let mut decoder = Decoder::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            decoder.feed(piece).unwrap();
            rest = tail;
        }
        prop_assert_eq!(decoder.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_was_read_is_written_back(pieces in tricky(), more in tricky()) {
        let mut decoder = Decoder::new();
        decoder.feed(format!("data:{pieces}\ndata:{more}\n\n").as_bytes()).unwrap();
        for item in decoder {
            let Decoded::Event(received) = item else { continue };
            let event = Event::default().with_data(received.data.clone()).with_event(received.event.clone()).unwrap().with_id(received.id.clone()).unwrap();
            let mut bytes = Vec::new();
            encode::event(&mut bytes, &event);
            let mut again = Decoder::new();
            again.feed(&bytes).unwrap();
            prop_assert_eq!(again.last(), Some(Decoded::Event(received)));
        }
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::with_limit(64);
        let _ = decoder.feed(&bytes);
        let _ = decoder.count();
    }
}
