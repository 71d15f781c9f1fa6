//! The decoder against the letter of the WHATWG text, and bytes cut anywhere.

use super::*;

fn decode(bytes: &[u8]) -> Vec<Decoded> {
    let mut decoder = Decoder::new();
    decoder.feed(bytes).unwrap();
    let whole: Vec<_> = decoder.collect();
    let mut decoder = Decoder::new();
    for byte in bytes {
        decoder.feed(&[*byte]).unwrap();
        decoder.feed(&[]).unwrap();
    }
    assert_eq!(whole, decoder.collect::<Vec<_>>(), "byte by byte differs from all at once");
    whole
}

fn event(event: &str, data: &str, id: &str) -> Decoded {
    Decoded::Event(Received { event: event.into(), data: data.into(), id: id.into() })
}

#[test]
fn the_examples_of_the_specification() {
    assert_eq!(decode(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [event("message", "YHOO\n+2\n10", "")]);
    assert_eq!(
        decode(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
        [
            Decoded::Comment("test stream".into()),
            event("message", "first event", "1"),
            event("message", "second event", ""),
            event("message", " third event", ""),
        ]
    );
    assert_eq!(decode(b"data\n\ndata\ndata\n\ndata:"), [event("message", "", ""), event("message", "\n", "")]);
    assert_eq!(decode(b"data:test\n\ndata: test\n\n"), vec![event("message", "test", ""); 2]);
}

#[test]
fn line_ends() {
    let expected = [event("message", "a\nb", ""), event("message", "c", "")];
    assert_eq!(decode(b"data: a\ndata: b\n\ndata: c\n\n"), expected);
    assert_eq!(decode(b"data: a\rdata: b\r\rdata: c\r\r"), expected);
    assert_eq!(decode(b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"), expected);
    assert_eq!(decode(b"data: a\r\ndata: b\n\rdata: c\r\n\r\n"), expected);
}

#[test]
fn byte_order_mark_only_at_the_start() {
    assert_eq!(decode(b"\xEF\xBB\xBFdata: a\n\n"), [event("message", "a", "")]);
    assert_eq!(decode(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"), [], "a second mark is part of the field name");
    assert_eq!(decode(b"\n\xEF\xBB\xBFdata: a\n\n"), []);
}

#[test]
fn event_names() {
    assert_eq!(decode(b"event: x\ndata: 1\n\ndata: 2\n\n"), [event("x", "1", ""), event("message", "2", "")]);
    assert_eq!(decode(b"event: x\n\ndata: 2\n\n"), [event("message", "2", "")], "dropped with its block");
    assert_eq!(decode(b"event: x\nevent: y\ndata: 1\n\n"), [event("y", "1", "")]);
    assert_eq!(decode(b"Event: x\nevent : y\ndata: 1\n\n"), [event("message", "1", "")], "names are case-sensitive");
}

#[test]
fn ids() {
    assert_eq!(decode(b"id: 1\n\ndata: a\n\n"), [Decoded::Id("1".into()), event("message", "a", "1")]);
    assert_eq!(decode(b"id: 1\nid: 2\ndata: a\n\n"), [event("message", "a", "2")]);
    assert_eq!(
        decode(b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n"),
        [event("message", "a", "1"), event("message", "b", "1")]
    );
    assert_eq!(decode(b"id: 1\n\nid\n\n"), [Decoded::Id("1".into()), Decoded::Id(String::new())]);
}

#[test]
fn retry_takes_digits_only() {
    assert_eq!(decode(b"retry: 1500\n"), [Decoded::Retry(Duration::from_millis(1500))]);
    for wrong in ["retry: 1.5", "retry: -1", "retry: +1", "retry:", "retry:  1", "retry: 1s", "retry: 0x1"] {
        assert_eq!(decode(format!("{wrong}\n").as_bytes()), [], "{wrong}");
    }
    assert_eq!(decode(b"retry: 99999999999999999999\n"), [Decoded::Retry(Duration::from_millis(u64::MAX))]);
}

#[test]
fn unknown_fields_and_an_unfinished_block_are_dropped() {
    assert_eq!(decode(b"foo: bar\ndatax: 1\n\n"), []);
    assert_eq!(decode(b"data: a\n"), []);
}

#[test]
fn invalid_utf8_is_replaced() {
    assert_eq!(decode(b"data: a\xFFb\xE2\x82\n\n"), [event("message", "a\u{fffd}b\u{fffd}", "")]);
}

#[test]
fn a_block_is_bounded() {
    let mut decoder = Decoder::with_limit(10);
    assert_eq!(decoder.feed(b"data: a\n\ndata: 0123456"), Err(TooLong { limit: 10 }));
    assert_eq!(decoder.next(), Some(event("message", "a", "")), "what was complete stays");
    let mut decoder = Decoder::with_limit(10);
    let fed: Result<Vec<()>, _> = (0..20).map(|_| decoder.feed(b"data: x\n")).collect();
    assert_eq!(fed, Err(TooLong { limit: 10 }), "many short lines of one block");
}
