//! Whether a payload closes its channel: the text and `Envelope::parse` agree on every payload there is.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use shared::envelope::Envelope;

use crate::payloads::payload;
use crate::support::{Place, everywhere};

/// Random payloads of a run, in each place.
const CASES: usize = 10_000;
/// Calls that are sent in one go.
const BATCH: usize = 500;

/// Whether each payload closed the channel that it was published to.
async fn closed(place: &mut Place, payloads: &[Vec<u8>]) -> Vec<bool> {
    let mut closed = Vec::new();
    for batch in payloads.chunks(BATCH) {
        let names = |prefix: &str| (0..batch.len()).map(|i| format!("{prefix}:{i}")).collect::<Vec<_>>();
        let publish = |(key, payload): (String, &Vec<u8>)| place.call("sse_publish", &[key], &[payload]);
        let calls: Vec<_> = names("sse").into_iter().zip(batch).map(publish).collect();
        let positions = place.run_all(&calls).await.into_iter().map(|answer| {
            let (position, _): (String, u64) = redis::from_redis_value(answer).unwrap();
            position
        });
        let mut read = redis::cmd("MGET");
        read.arg(names("sse.last"));
        let last: Vec<String> = place.run(&read).await.unwrap();
        for (position, last) in positions.zip(last) {
            assert!(last == position || last == format!("{position} end"), "{last} after {position}");
            closed.push(last != position);
        }
    }
    closed
}

fn is_end(payload: &[u8]) -> bool {
    Envelope::parse(payload).is_some_and(|envelope| envelope.end)
}

#[tokio::test]
async fn random_payloads_close_a_channel_exactly_as_envelopes_do() {
    let mut runner = TestRunner::default();
    let strategy = payload();
    let payloads: Vec<_> = (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let expected: Vec<_> = payloads.iter().map(|payload| is_end(payload)).collect();
    let ends = expected.iter().filter(|end| **end).count();
    // Else the payloads prove little.
    assert!((CASES / 5..CASES * 4 / 5).contains(&ends), "{ends} of {CASES} close");
    everywhere(async |place| {
        let closed = closed(place, &payloads).await;
        for ((payload, expected), closed) in payloads.iter().zip(&expected).zip(closed) {
            assert_eq!(closed, *expected, "{}", payload.escape_ascii());
        }
    })
    .await;
}

#[tokio::test]
async fn picked_payloads() {
    let deep =
        |open: &str, close: &str| format!("{{\"data\":{}1{},\"end\":true}}", open.repeat(50_000), close.repeat(50_000));
    let (lists, objects, unbalanced) = (deep("[", "]"), deep("{\"a\":", "}"), deep("[", "}"));
    let cases: &[(bool, &[&[u8]])] = &[
        (
            true,
            &[
                br#"{"end":true}"#,
                b" \t\r\n{ \n\"end\"\t:\r true } \n",
                br#"{"event":"done","data":"x","retry":5,"end":true}"#,
                br#"{"end":true,"retry":18446744073709551615}"#,
                br#"{"end":true,"retry":0}"#,
                // Keys that are escaped.
                br#"{"\u0065nd":true}"#,
                br#"{"\u0065\u006e\u0064":true}"#,
                br#"{"e\u006Ed":true,"\u0064ata":1,"\u0065vent":"x","r\u0065try":5}"#,
                // Strings.
                br#"{"end":true,"event":""}"#,
                br#"{"end":true,"event":"sse"}"#,
                br#"{"end":true,"event":"Sse.open"}"#,
                br#"{"end":true,"event":"a sse.open"}"#,
                br#"{"end":true,"event":"\\n \u2028 \t \u0000 \\r"}"#,
                br#"{"end":true,"event":"\ud83d\ude00\uDBFF\uDFFF"}"#,
                "{\"end\":true,\"event\":\"é 한 😀 \u{7f}\",\"data\":\"é 한 😀 \u{10ffff}\"}".as_bytes(),
                br#"{"end":true,"data":"\ud83d\ude00 \n\r\\"}"#,
                // Any data, and what a list or an object in it holds is nobody's business.
                br#"{"end":true,"data":null}"#,
                br#"{"end":true,"data":""}"#,
                br#"{"end":true,"data":[]}"#,
                br#"{"end":true,"data":{}}"#,
                br#"{"end":true,"data":-0.0e-0}"#,
                br#"{"end":true,"data":1e99999}"#,
                br#"{"end":true,"data":[[],{},[{}],{"a":[]},"",0,-1,1.5E+3,true,false,null]}"#,
                br#"{"end":true,"data":{"a":1,"a":2,"":3}}"#,
                br#"{"end":true,"data":["\ud800","sse.","\n"]}"#,
                br#"{"end":true,"data":{"\udfff":"\ud800\ud800"}}"#,
                br#"{"end":true,"data":{"end":false,"event":1}}"#,
                br#"{"end":true,"data":[ 1 , { "a" : [ ] } ] }"#,
                lists.as_bytes(),
                objects.as_bytes(),
            ],
        ),
        (
            false,
            &[
                b"",
                b"end",
                b"true",
                br#""end""#,
                br#""end":true"#,
                br#"{"end":false}"#,
                br#"{"\u0065nd":false}"#,
                br#"{}"#,
                br#"{"data":"\"end\":true"}"#,
                br#"{"data":{"end":true}}"#,
                br#"{"data":"{\"end\":true}"}"#,
                // Other types.
                br#"{"end":1}"#,
                br#"{"end":null}"#,
                br#"{"end":"true"}"#,
                br#"{"end":[true]}"#,
                br#"{"end":True}"#,
                br#"{"end":trueish}"#,
                br#"{"end":true,"event":null}"#,
                br#"{"end":true,"event":1}"#,
                br#"{"end":true,"event":["a"]}"#,
                br#"{"end":true,"retry":null}"#,
                br#"{"end":true,"retry":"5"}"#,
                br#"{"end":true,"retry":-5}"#,
                br#"{"end":true,"retry":-0}"#,
                br#"{"end":true,"retry":5.0}"#,
                br#"{"end":true,"retry":5e0}"#,
                br#"{"end":true,"retry":05}"#,
                br#"{"end":true,"retry":+5}"#,
                br#"{"end":true,"retry":18446744073709551616}"#,
                br#"{"end":true,"retry":18446744080000000000}"#,
                br#"{"end":true,"retry":184467440737095516150}"#,
                // Other keys, and keys twice.
                br#"{"end":true,"id":1}"#,
                br#"{"end":true,"End":true}"#,
                br#"{"end":true,"end\u0000":true}"#,
                br#"{"end":true,"":1}"#,
                br#"{"end":true,"end":true}"#,
                br#"{"end":true,"\u0065nd":true}"#,
                br#"{"data":1,"end":true,"data":1}"#,
                br#"{"event":"a","end":true,"event":"a"}"#,
                br#"{"retry":1,"end":true,"retry":1}"#,
                // Events that would forge a field or a signal.
                br#"{"end":true,"event":"a\nb"}"#,
                br#"{"end":true,"event":"a\rb"}"#,
                br#"{"end":true,"event":"\u000a"}"#,
                br#"{"end":true,"event":"\u000D"}"#,
                br#"{"end":true,"event":"sse."}"#,
                br#"{"end":true,"event":"sse.gap"}"#,
                br#"{"end":true,"event":"\u0073\u0073e\u002egap"}"#,
                // Surrogates without a partner, where text is wanted.
                br#"{"end":true,"event":"\ud800"}"#,
                br#"{"end":true,"data":"\ud800"}"#,
                br#"{"end":true,"data":"\udc00"}"#,
                br#"{"end":true,"data":"\ude00\ud83d"}"#,
                br#"{"end":true,"data":"\ud83d\\ude00"}"#,
                br#"{"end":true,"data":"\ud83d\ud83d\ude00"}"#,
                br#"{"end":true,"data":"\ud83d \ude00"}"#,
                // Strings that are none.
                br#"{"end":true,"data":"\x"}"#,
                br#"{"end":true,"data":"\u12"}"#,
                br#"{"end":true,"data":"\u12g4"}"#,
                br#"{"end":true,"data":"\U0041"}"#,
                br#"{"end":true,"data":"\"}"#,
                br#"{"end":true,"data":"}"#,
                br#"{"end":true,"data":'x'}"#,
                b"{\"end\":true,\"data\":\"\n\"}",
                b"{\"end\":true,\"data\":\"\t\"}",
                b"{\"end\":true,\"data\":\"\0\"}",
                b"{\"end\":true,\"data\":[\"\x1f\"]}",
                b"{\"end\":true,\"data\":{\"\x1f\":1}}",
                // Not UTF-8.
                b"{\"end\":true,\"data\":\"\xFF\"}",
                b"{\"end\":true,\"data\":[\"\xC3\"]}",
                b"{\"end\":true,\"data\":\"\xC0\x80\"}",
                b"{\"end\":true,\"data\":\"\xE0\x9F\xBF\"}",
                b"{\"end\":true,\"data\":\"\xF0\x8F\xBF\xBF\"}",
                b"{\"end\":true,\"data\":\"\xED\xA0\x80\"}",
                b"{\"end\":true,\"data\":\"\xF4\x90\x80\x80\"}",
                b"{\"end\":true,\"event\":\"\xE2\x82\"}",
                b"{\"end\":true,\"event\":\"\xC3\\u00a9\"}",
                // White space that is none.
                "\u{feff}{\"end\":true}".as_bytes(),
                "{\u{a0}\"end\":true}".as_bytes(),
                b"{\x0b\"end\":true}",
                b"{\"end\":\x0ctrue}",
                b"{\"end\":true}\0",
                // Numbers that are none.
                br#"{"end":true,"data":01}"#,
                br#"{"end":true,"data":-}"#,
                br#"{"end":true,"data":+1}"#,
                br#"{"end":true,"data":.5}"#,
                br#"{"end":true,"data":1.}"#,
                br#"{"end":true,"data":1e}"#,
                br#"{"end":true,"data":1e+}"#,
                br#"{"end":true,"data":0x1}"#,
                br#"{"end":true,"data":NaN}"#,
                br#"{"end":true,"data":Infinity}"#,
                // Punctuation.
                br#"{"end":true,}"#,
                br#"{,"end":true}"#,
                br#"{"end":true"#,
                br#"{"end":true]"#,
                br#"{"end":true,"data"}"#,
                br#"{"end":true,"data":}"#,
                br#"{"end" true}"#,
                br#"{"end"::true}"#,
                br#"{end:true}"#,
                br#"{'end':true}"#,
                br#"{"end":true "data":1}"#,
                br#"{"end":true,"data":1 2}"#,
                br#"{"end":true} {}"#,
                br#"{"end":true}x"#,
                br#"{"end":true}}"#,
                br#"{"end":true}// done"#,
                br#"[{"end":true}]"#,
                // In data too.
                br#"{"end":true,"data":[1,]}"#,
                br#"{"end":true,"data":[,1]}"#,
                br#"{"end":true,"data":[1 2]}"#,
                br#"{"end":true,"data":[}"#,
                br#"{"end":true,"data":[1}}"#,
                br#"{"end":true,"data":[1"#,
                br#"{"end":true,"data":[]]}"#,
                br#"{"end":true,"data":{]}"#,
                br#"{"end":true,"data":{"a":1]}"#,
                br#"{"end":true,"data":{"a":1,}}"#,
                br#"{"end":true,"data":{"a"}}"#,
                br#"{"end":true,"data":{"a":}}"#,
                br#"{"end":true,"data":{1:1}}"#,
                br#"{"end":true,"data":{"a":1 "b":2}}"#,
                br#"{"end":true,"data":nul}"#,
                br#"{"end":true,"data":undefined}"#,
                unbalanced.as_bytes(),
            ],
        ),
    ];
    everywhere(async |place| {
        for (expected, payloads) in cases {
            let payloads: Vec<_> = payloads.iter().map(|payload| payload.to_vec()).collect();
            for (payload, closed) in payloads.iter().zip(closed(place, &payloads).await) {
                let start = &payload[..payload.len().min(100)];
                assert_eq!(is_end(payload), *expected, "Rust: {}", start.escape_ascii());
                assert_eq!(closed, *expected, "Redis: {}", start.escape_ascii());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_closes_nothing() {
    let lists = [&br#"["n",1,5,true]"#[..], br#"["end",1,5,true]"#, br#"["\u0065nd",{"end":true},5,true]"#];
    let payloads: Vec<_> = lists.iter().map(|payload| payload.to_vec()).collect();
    everywhere(async |place| assert_eq!(closed(place, &payloads).await, [false; 3])).await;
}

#[tokio::test]
async fn a_later_event_opens_the_channel_again() {
    everywhere(async |place| {
        for (payload, end) in
            [("{\"end\":true}", true), ("{\"data\":1}", false), ("{\"end\":true}", true), ("x", false)]
        {
            let (position, _) = place.publish("sse:a", &[payload]).await;
            let expected = if end { format!("{position} end") } else { position.to_string() };
            assert_eq!(place.stored("sse.last:a").await, Some(expected));
        }
    })
    .await;
}
