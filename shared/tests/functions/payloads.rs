//! Payloads that are envelopes, nearly envelopes, and envelopes with a few bytes changed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes that mean something to a reader of JSON, or to one of UTF-8.
const TELLING: &[u8] = b"{}[],:\"\\/ \t\n\r\0\x0b\x1f\x7f\x80\xa0\xbf\xc2\xe2\xed\xf0\xfftrueflsnd0159-+.Eu6";

/// Any payload.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (0..6_u8, any::<prop::sample::Index>(), select(TELLING));
    let mutations = prop_oneof![3 => Just(vec![]).boxed(), 1 => vec(mutation, 1..3).boxed()];
    (envelope(), mutations).prop_map(|(text, mutations)| {
        let mut bytes = text.into_bytes();
        for (kind, index, byte) in mutations {
            mutate(&mut bytes, kind, index, byte);
        }
        bytes
    })
}

fn mutate(bytes: &mut Vec<u8>, kind: u8, index: prop::sample::Index, byte: u8) {
    if bytes.is_empty() {
        return;
    }
    let at = index.index(bytes.len());
    match kind {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 => bytes.push(byte),
        _ => bytes.insert(at, bytes[at]),
    }
}

/// An object that mostly has `end`, and other members before and after it.
fn envelope() -> impl Strategy<Value = String> {
    let end =
        prop_oneof![9 => select(&["true"][..]), 1 => select(&["false", "null", "1", "\"true\"", "[]", "True"][..])];
    let end = member("end", end.prop_map(str::to_owned).boxed());
    let ends = prop_oneof![8 => vec(end.clone(), 1), 1 => vec(end, 0..3)];
    // In an order of their own, mostly once each.
    let others = vec(other_member(), 0..4).prop_map(|members| {
        let mut seen = std::collections::HashSet::new();
        members.into_iter().filter(|(name, _)| seen.insert(name.clone())).map(|(_, text)| text).collect::<Vec<_>>()
    });
    let twice = prop_oneof![12 => vec(other_member(), 0), 1 => vec(other_member(), 1)];
    let all = (ends, others, twice).prop_map(|(ends, mut others, twice)| {
        others.extend(twice.into_iter().map(|(_, text)| text));
        [ends, others].concat()
    });
    let shuffled = all.prop_flat_map(|members| Just(members).prop_shuffle());
    let after = prop_oneof![20 => select(&[""][..]), 1 => select(&["{}", "x", ",", "}", "\u{feff}", "\0"][..])];
    (space(), shuffled, space(), after)
        .prop_map(|(before, members, space, after)| format!("{before}{{{}{space}}}{space}{after}", members.join(",")))
}

/// A member other than `end`, and its name.
fn other_member() -> impl Strategy<Value = (String, String)> {
    let event = prop_oneof![12 => string().boxed(), 1 => json().boxed()].boxed();
    let data = json().boxed();
    let retry = prop_oneof![12 => whole_number().boxed(), 4 => number().boxed(), 1 => json().boxed()].boxed();
    let members: Vec<(u32, BoxedStrategy<(String, String)>)> = vec![
        (8, member("event", event).prop_map(|text| ("event".to_owned(), text)).boxed()),
        (8, member("data", data.clone()).prop_map(|text| ("data".to_owned(), text)).boxed()),
        (8, member("retry", retry).prop_map(|text| ("retry".to_owned(), text)).boxed()),
        (1, member("End", data.clone()).prop_map(|text| ("End".to_owned(), text)).boxed()),
        (1, member("id", data).prop_map(|text| ("id".to_owned(), text)).boxed()),
    ];
    prop::strategy::Union::new_weighted(members)
}

fn member(name: &'static str, value: BoxedStrategy<String>) -> impl Strategy<Value = String> + Clone {
    (key(name), space(), space(), space(), value)
        .prop_map(|(key, a, b, c, value)| format!("{a}\"{key}\"{b}:{c}{value}"))
        .boxed()
}

/// The name, now and then with some of its letters escaped.
fn key(name: &'static str) -> impl Strategy<Value = String> {
    let letters = vec(prop_oneof![4 => Just(0_u8), 1 => 1..3_u8], name.len());
    let escaped = letters.prop_map(move |letters| {
        let write = |(letter, how): (char, u8)| match how {
            0 => letter.to_string(),
            1 => format!("\\u{:04x}", u32::from(letter)),
            _ => format!("\\u{:04X}", u32::from(letter)),
        };
        name.chars().zip(letters).map(write).collect::<String>()
    });
    prop_oneof![4 => Just(name.to_owned()), 1 => escaped]
}

/// What stands between two tokens; rarely what may not.
fn space() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![
        30 => Just(""),
        8 => select(&[" ", "\n", "\r\n", "\t", "  \n\t"][..]),
        1 => select(&["", "", "", "\u{b}", "\u{c}", "\u{a0}", "\0"][..]),
    ]
}

/// Any value, lists in objects in lists.
fn json() -> impl Strategy<Value = String> {
    let literal = select(&["true", "false", "null", "\"end\"", "{\"end\":true}", "{\"end\" : true}"][..]);
    let leaf = prop_oneof![3 => string(), 2 => number(), 2 => literal.prop_map(str::to_owned)];
    leaf.prop_recursive(6, 24, 4, |inner| {
        let list = (vec(inner.clone(), 0..4), space(), space())
            .prop_map(|(items, a, b)| format!("[{a}{}{b}]", items.join(&format!("{b},{a}"))));
        let member = (string(), space(), inner).prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}"));
        let object =
            (vec(member, 0..4), space()).prop_map(|(members, space)| format!("{{{space}{}}}", members.join(",")));
        prop_oneof![list, object]
    })
}

/// Pieces that matter to `event` and `data`, put together; rarely one that no string may have.
fn string() -> impl Strategy<Value = String> {
    let plain =
        select(&["a", "sse.", "sse", ".", "end", "é", "한", "\u{ffff}", "\u{10ffff}", "\u{7f}", "/", "{", "]"][..]);
    let escape = select(
        &["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\t", "\\u0073", "\\u002e", "\\u00e9", "\\uFFFF", "\\u0000", "\\u006E"]
            [..],
    );
    let pair = select(&["\\ud83d\\ude00", "\\uDBFF\\uDFFF", "\\ud800\\udc00"][..]);
    let telling = select(
        &["\\n", "\\r", "\\u000a", "\\u000D", "\\ud800", "\\udfff", "\\ude00\\ud83d", "\\ud800\\n", "\\ud800\\ud800"][..],
    );
    let wrong = select(&["\n", "\t", "\u{1f}", "\0", "\\x", "\\u12", "\\u00g0", "\\", "\\U0041", "\\ud800\\u"][..]);
    let piece = prop_oneof![24 => plain, 8 => escape, 4 => pair, 1 => telling, 1 => wrong];
    vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// What may be a `retry`, about its edges.
fn whole_number() -> impl Strategy<Value = String> {
    let edges = select(
        &["0", "1", "9007199254740993", "18446744073709551615", "18446744073709551616", "18446744079999999999"][..],
    );
    prop_oneof![2 => any::<u64>().prop_map(|number| number.to_string()), 2 => edges.prop_map(str::to_owned)]
}

/// What may be a number, and what looks like one.
fn number() -> impl Strategy<Value = String> {
    let other = select(
        &[
            "-0",
            "-1",
            "0.0",
            "1.0",
            "1e3",
            "1E+3",
            "1e-3",
            "0e0",
            "1e400",
            "1.5e400",
            "123456789012345678901234567890",
            "-0.0",
            "00",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "1.e1",
            "--1",
            "0x1",
            "NaN",
            "Infinity",
            "1_0",
            "٣",
        ][..],
    );
    prop_oneof![3 => whole_number(), 2 => other.prop_map(str::to_owned)]
}
