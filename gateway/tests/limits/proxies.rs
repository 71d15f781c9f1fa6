//! The limit of one address where nothing is said of it, behind a proxy on a private address: clients cannot hide there.

use tokio::task::JoinSet;

use crate::support::{Gateway, Raw};

/// Streams of one address of the internet where nothing else is said.
const PER_ADDRESS: usize = 1_000;

/// Opens a stream that a proxy passes on with this field. `None` where it is turned away.
async fn open(address: String, field: Vec<u8>) -> Option<Raw> {
    let mut raw = Raw::connect(&address).await;
    raw.send([b"GET /events?channel=a HTTP/1.1\r\nHost: x\r\n", &field[..], b"\r\n\r\n"].concat()).await;
    let head = raw.head().await;
    assert_eq!(head.status, "HTTP/1.1 200 OK");
    if head.get("content-length").is_some() {
        let told = raw.body_of(&head).await;
        assert!(told.starts_with("retry: "), "{told:?}");
        return None;
    }
    raw.body_until("sse.open").await;
    Some(raw)
}

/// As many streams as an address may have by `field`, then one more by each of these.
async fn full(header: &str, field: &[u8], same: &[&[u8]], other: &[u8]) {
    let limits = format!("[limits]\ntrusted_proxies = [\"127.0.0.0/8\"]\nforwarded_header = \"{header}\"");
    let gateway = Gateway::builder().config(&limits).start().await;
    let mut crowd = JoinSet::new();
    for _ in 0..PER_ADDRESS {
        crowd.spawn(open(gateway.public.clone(), field.to_vec()));
    }
    let held = crowd.join_all().await;
    assert_eq!(held.iter().flatten().count(), PER_ADDRESS);
    for same in same {
        let more = open(gateway.public.clone(), same.to_vec()).await;
        assert!(more.is_none(), "{} escapes the limit", same.escape_ascii());
    }
    assert!(open(gateway.public.clone(), other.to_vec()).await.is_some());
}

#[tokio::test]
async fn a_client_cannot_hide_by_what_it_writes_before_the_proxy() {
    let same: [&[u8]; 3] = [
        b"X-Forwarded-For: \xE9, 203.0.113.9",
        b"X-Forwarded-For: 198.51.100.1,,unknown,\xFF, 203.0.113.9",
        b"X-Forwarded-For: \xE9\r\nX-Forwarded-For: 203.0.113.9",
    ];
    full("x-forwarded-for", b"X-Forwarded-For: \xE9, 203.0.113.9", &same, b"X-Forwarded-For: \xE9, 203.0.113.10").await;
}

#[tokio::test]
async fn neither_where_proxies_say_it_by_forwarded() {
    let same: [&[u8]; 2] =
        [b"Forwarded: for=x;y=\"\\, for=203.0.113.9", b"Forwarded: \xE9, for=\"203.0.113.9:80\";host=\"a\""];
    full("forwarded", b"Forwarded: for=x;y=\", for=203.0.113.9", &same, b"Forwarded: for=x;y=\", for=203.0.113.10")
        .await;
}

/// What the proxy itself says of nobody counts under the proxy.
#[tokio::test]
async fn whom_a_proxy_does_not_name_counts_as_the_proxy() {
    let same: [&[u8]; 2] = [b"X-Forwarded-For: 203.0.113.9, unknown", b"X-Forwarded-For: \xE9"];
    full("x-forwarded-for", b"X-Forwarded-For: unknown", &same, b"X-Forwarded-For: 203.0.113.9").await;
}
