//! Whatever is sent: no panic, no 5xx, what is published is an envelope that gateways read as one, and what is read is JSON.

use std::collections::HashMap;

use axum::body::Body;
use http::{Method, Request};
use serde_json::value::RawValue;
use shared::envelope::Envelope;

use crate::support::*;

/// Pieces of requests, right and wrong, to be put together in any order.
const PIECES: [&[u8]; 36] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\n",
    b"\r\n",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\"channel\":\"a\"",
    b"\"channel\":\"sse.a\"",
    b"\"channels\":[\"a\",\"b\"]",
    b"\"event\":\"e\"",
    b"\"event\":\"a\\nb\"",
    b"\"data\":",
    b"\"data\":\"x\\n\"",
    b"\"data\":{\"b\":1.50,\"a\":1e400}",
    b"\"retry\":1",
    b"\"end\":true",
    b"\"ephemeral\":true",
    b"\"once\":\"k\"",
    b"\"onse\":1",
    b"null",
    b"true",
    b"-1.5e3",
    b"userId=1",
    b"&message=%FF",
    b"&message=m+",
    "한".as_bytes(),
    b"\xFF",
    b"\0",
    b" ",
];

/// xorshift64*: the same sequence on every run, so that what fails once fails again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.below(3) {
            // Bytes of any kind.
            0 => (0..self.below(60)).map(|_| self.below(256) as u8).collect(),
            // Pieces in any order.
            1 => (0..self.below(12)).flat_map(|_| PIECES[self.below(PIECES.len())]).copied().collect(),
            // An object of pieces, now and then damaged.
            _ => {
                let members: Vec<&[u8]> = (0..self.below(5)).map(|_| PIECES[13 + self.below(13)]).collect();
                let mut body = [b"{".as_slice(), &members.join(&b","[..]), b"}"].concat();
                if self.below(2) == 0 {
                    let i = self.below(body.len());
                    body[i] = self.below(256) as u8;
                }
                body
            }
        }
    }

    /// A cursor, now and then damaged.
    fn cursor(&mut self) -> String {
        let mut cursor = format!("{}-{}_abcde", self.below(9_999), self.below(2)).into_bytes();
        if self.below(2) == 0 {
            let i = self.below(cursor.len());
            cursor[i] = b"0123456789-_~.+%"[self.below(16)];
        }
        String::from_utf8(cursor).unwrap()
    }

    /// Percent-encoded, since a URL has no other way to hold any byte.
    fn escaped(&mut self) -> String {
        self.bytes().iter().map(|byte| format!("%{byte:02X}")).collect()
    }
}

#[tokio::test]
async fn never_a_5xx_nor_a_panic() {
    let server = Server::new();
    let mut random = Random(0x5EED);
    let (mut right, mut wrong, mut read) = (0, 0, 0);
    for _ in 0..20_000 {
        let (mut method, mut is_json) = (Method::POST, false);
        let uri = match random.below(10) {
            0..=2 => "/publish".to_owned(),
            7 => {
                (method, is_json) = (Method::GET, true);
                format!("/channels/a/events?after={}&{}", random.cursor(), random.escaped())
            }
            8 => {
                method = Method::DELETE;
                format!("/channels/x{}", random.escaped())
            }
            9 => format!("/channels/x{}/cancel", random.escaped()),
            3 => format!("/channels/a/events?event={}&{}", random.escaped(), random.escaped()),
            4 => format!("/channels/x{}/events", random.escaped()),
            5 => format!("/api/sse/notify?userId=1&message={}", random.escaped()),
            _ => format!("/api/sse/notify?{}", random.escaped()),
        };
        let content_type = [JSON, JSON, NDJSON, FORM, "text/plain"][random.below(5)];
        let body = random.bytes();
        let about = format!("{uri} {content_type} {:?}", body.escape_ascii().to_string());
        let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
        let response = server.send(request.body(Body::from(body)).unwrap()).await;
        assert!(response.status.is_success() || response.status.is_client_error(), "{about}: {response:?}");
        if is_json && response.status.is_success() {
            // Numbers may be larger than any type.
            let page: HashMap<String, &RawValue> = serde_json::from_str(&response.body).unwrap();
            let events: Vec<&RawValue> = serde_json::from_str(page["events"].get()).unwrap();
            read += events.len();
        }
        let asked = server.asked();
        for (channel, publication) in &asked {
            assert!(!channel.starts_with("sse."), "{about}");
            assert!(Envelope::parse(&publication.payload).is_some(), "{about}: {publication:?}");
        }
        if response.status.is_client_error() {
            assert_eq!(asked.len(), 0, "{about}: {response:?}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"), "{about}");
            wrong += 1;
        } else if !asked.is_empty() {
            right += 1;
        }
    }
    assert!(right > 500 && wrong > 500, "the generator hits both sides: {right} right, {wrong} wrong");
    assert!(read > 500, "{read} events read");
}
