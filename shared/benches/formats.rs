//! What an event costs on its way: read from its payload, written for clients, read by a client.
//!
//! `cargo bench -p shared`; a name behind `--` runs some of it.
#![allow(clippy::unwrap_used)] // what fails here is to fail the bench

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use shared::envelope::Payload;
use shared::event::Event;
use shared::event_stream::decode::Decoder;
use shared::event_stream::encode;

/// An id as the gateway writes it: a position and the tag of its epoch.
const ID: &str = "1764240000000-0_a1b2c";
/// Blocks of one stream that is read.
const BLOCKS: usize = 100;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encoding(&mut criterion);
    decoding(&mut criterion);
    payloads(&mut criterion);
    criterion.final_summary();
}

/// Of one line, and of a text with a line break in every 32 bytes.
fn texts() -> [(&'static str, String); 3] {
    let lines = "0123456789abcdef0123456789abcde\n".repeat(8);
    [("256 B", "x".repeat(256)), ("256 B of lines", lines), ("16 KiB", "x".repeat(16 << 10))]
}

fn event(text: &str) -> Event {
    Event::default().with_event("notification").unwrap().with_data(text).with_id(ID).unwrap()
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, text) in texts() {
        let event = event(&text);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut out = Vec::new();
                encode::event(&mut out, black_box(&event));
                out
            });
        });
    }
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, text) in texts() {
        let mut stream = Vec::new();
        (0..BLOCKS).for_each(|_| encode::event(&mut stream, &event(&text)));
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut decoder = Decoder::new();
                decoder.feed(black_box(&stream)).unwrap();
                assert_eq!(decoder.count(), BLOCKS);
            });
        });
    }
}

fn payloads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("payload");
    let text = "x".repeat(256);
    let object = format!(r#"{{"event":"notification","data":{{"id":42,"text":"{text}"}}}}"#);
    for (name, payload) in [
        ("text envelope", format!(r#"{{"event":"notification","data":"{text}"}}"#)),
        ("object envelope", object),
        ("opaque", text),
    ] {
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Payload::parse(black_box(payload.as_bytes())).to_event()));
    }
}
