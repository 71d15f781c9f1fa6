use proptest::prelude::*;
use shared::event_stream::decode::{Decoded, Decoder};

use super::*;

/// What an account makes of a stream: events by their name, marker and length, and the last event id after each block that
/// had one.
#[derive(Debug, PartialEq)]
enum Said {
    Event(Name, Option<Marker>, usize),
    Id(String),
}

/// By the decoder that everything else uses.
fn by_decoder(bytes: &[u8]) -> Vec<Said> {
    let mut decoder = Decoder::new();
    decoder.feed(bytes).unwrap();
    let (mut said, mut last_id) = (Vec::new(), String::new());
    for decoded in decoder.by_ref() {
        let (id, event) = match decoded {
            Decoded::Event(event) => {
                let name = Name::of(event.event.as_bytes());
                let data = event.data.as_bytes();
                (event.id, Some(Said::Event(name, Marker::parse(data), data.len())))
            }
            Decoded::Id(id) => (id, None),
            Decoded::Retry(_) | Decoded::Comment(_) => continue,
        };
        if id != last_id {
            last_id.clone_from(&id);
            said.push(Said::Id(id));
        }
        said.extend(event);
    }
    said
}

/// By the reader, fed in the given pieces.
fn by_reader<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Said> {
    let mut reader = Reader::new();
    let (mut said, mut last_id) = (Vec::new(), String::new());
    for piece in pieces {
        let fed = reader.feed(piece, Rules::new(65_536, true), |block| {
            if let Some(id) = block.id {
                let id = String::from_utf8(id).unwrap();
                if id != last_id {
                    last_id.clone_from(&id);
                    said.push(Said::Id(id));
                }
            }
            if block.has_data {
                said.push(Said::Event(block.name, block.marker, block.data_bytes));
            }
        });
        fed.unwrap();
    }
    said
}

/// Text of which many a block is ours, and many another is nearly so.
fn streams() -> impl Strategy<Value = String> {
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r", "\n\r\n", ""]);
    let line = prop_oneof![
        4 => (0_u64..99, 0_u64..9, 0_u32..3, 0_usize..5)
            .prop_map(|(seq, at, key, pad)| format!("data: @{seq},{at},{key};{}", "x".repeat(pad))),
        2 => prop::sample::select(vec![
            "data", "data:", "data:@1,2,3;", "data:  @1,2,3;", "data: @1,2", ",3;", "data: @1,2,3;é", "id: 5-0_ab", "id",
            "id: ", "id: a\0b", "event: sse.gap", "event: sse.open", "event: ping", "event", "event:message", ": hi", ":",
            "retry: 100", "dat: x", "\u{FEFF}", "\u{FEFF}data: @1,2,3;", "d", " data: x",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((line, end), 0..12)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whole, byte by byte, and cut anywhere else.
    #[test]
    fn it_reads_what_the_decoder_reads(text in streams(), cuts in prop::collection::vec(1_usize..40, 0..20)) {
        let wanted = by_decoder(text.as_bytes());
        prop_assert_eq!(&by_reader([text.as_bytes()]), &wanted);
        prop_assert_eq!(&by_reader(text.as_bytes().chunks(1)), &wanted);
        let (mut rest, mut pieces) = (text.as_bytes(), Vec::new());
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(&by_reader(pieces), &wanted);
    }
}

#[test]
fn between_blocks_it_keeps_nothing_and_within_one_what_it_must() {
    let mut reader = Reader::new();
    let rules = Rules::new(64, false);
    reader.feed(b": hello\n\nid: 7\ndata: @1,2,3;\n\n", rules, |block| assert_eq!(block.id, None)).unwrap();
    assert!(reader.partial.is_none());
    reader.feed(b"data: @1,", rules, |_| panic!()).unwrap();
    assert!(reader.partial.is_some());
    let mut seen = None;
    reader.feed(b"2,3;\n\n", rules, |block| seen = block.marker).unwrap();
    assert_eq!(seen, Some(Marker { sequence: 1, sent_at_ns: 2, key: 3 }));
    assert!(reader.partial.is_none());
    assert!(size_of::<Reader>() <= 16);
}

#[test]
fn a_block_without_end_is_refused_in_one_line_or_in_many() {
    let rules = Rules::new(64, false);
    let limit = 64 + OVERHEAD;
    let feed = |bytes: &[u8]| {
        let mut reader = Reader::new();
        bytes.chunks(1_000).try_for_each(|piece| reader.feed(piece, rules, |_| {}))
    };
    assert_eq!(feed(&vec![b'x'; limit]), Ok(()));
    assert_eq!(feed(&vec![b'x'; limit + 1]), Err(TooLong(limit)));
    assert_eq!(feed(&b"data: x\n".repeat(limit / 7 + 1)), Err(TooLong(limit)));
}
