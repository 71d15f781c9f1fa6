//! How many may watch, and what becomes of those who do not read.

use super::*;

/// As the product has it.
const MAX_WATCHERS: usize = 32;
/// Longest name of a channel.
const NAME: usize = 256;

#[tokio::test]
async fn so_many_watch_and_no_more() {
    let gateway = Gateway::start().await;
    let mut watchers = Vec::new();
    for _ in 0..MAX_WATCHERS {
        let mut stream = watch(&gateway).await;
        next(&mut stream).await;
        watchers.push(stream);
    }
    let refused = get(&gateway, "/status").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(
        (&problem["type"], &problem["limit"]),
        (&json!("urn:problem:sse:too-many-watchers"), &json!(MAX_WATCHERS))
    );
    for path in ["/", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(path).await.status(), 200, "{path}");
    }
    watchers.pop();
    eventually("the place of one who went", async || {
        get(&gateway, "/status").send().await.unwrap().status().is_success().then_some(())
    })
    .await;
    next(&mut watchers[0]).await;
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_and_gives_its_place_back() {
    let gateway = Gateway::builder().config("[limits]\nwrite_timeout = \"5s\"").start().await;
    // No text goes into a small socket as a whole.
    let mut streams = Vec::new();
    for n in 0..20 {
        let mut stream = gateway.stream(&format!("/events?channel={n:0NAME$}")).await;
        stream.opened().await;
        streams.push(stream);
    }
    let mut reader = watch(&gateway).await;
    let before = gateway.resident();
    let mut stuck = Vec::new();
    for _ in 1..MAX_WATCHERS {
        let mut raw = Raw::connect_small(&gateway.admin);
        ask_by_hand(&gateway, &mut raw).await;
        assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK");
        stuck.push(raw);
    }
    assert_eq!(get(&gateway, "/status").send().await.unwrap().status(), 503);

    let mut others = Vec::new();
    let places = async || {
        // Whoever reads is told each second all the while.
        let told = next(&mut reader).await;
        assert_eq!(told["top"].as_array().map(Vec::len), Some(20), "{told}");
        while others.len() < stuck.len() {
            let response = get(&gateway, "/status").send().await.unwrap();
            others.push(response.error_for_status().ok()?);
        }
        Some(())
    };
    eventually_within(testkit::PATIENCE * 2, "the places of those who do not read", places).await;
    assert!(gateway.resident() < before + (8 << 10), "KiB: {before}, {}", gateway.resident());
    for mut raw in stuck {
        raw.rest().await;
    }
}
