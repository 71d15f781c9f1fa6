//! `serve`: what is held of a channel in Redis, read and erased.

use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use testkit::{RedisServer, soon};

use crate::support::{Service, serve};

#[tokio::test]
async fn read_and_erased() {
    let mut server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let response = service.publish(&json!({"channel": "a", "event": "n", "data": number})).await;
        ids.push(response.json::<Value>().await.unwrap()["id"].clone());
    }
    let get = async |query: &str| {
        let request = service.client.get(service.url(&format!("/channels/a/events{query}")));
        let response = soon("an answer", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.json::<Value>().await.unwrap()
    };
    let after = format!("?after={}&limit=1", ids[0].as_str().unwrap());
    let events = json!([{"id": ids[1], "event": "n", "data": 1}]);
    let page = json!({
        "channel": "a", "events": events, "last": ids[2], "ended": false, "more": true, "gap": null,
    });
    assert_eq!(get(&after).await, page);

    let erase = async || soon("an answer", service.client.delete(service.url("/channels/a")).send()).await.unwrap();
    for erased in [true, false] {
        assert_eq!(erase().await.json::<Value>().await.unwrap(), json!({"channel": "a", "erased": erased}));
    }
    let page = get(&after).await;
    assert_eq!((&page["events"], &page["last"], &page["gap"]), (&json!([]), &ids[2], &json!("expired")));

    server.kill().await;
    let request = service.client.get(service.url("/channels/a/events"));
    for response in [soon("an answer", request.send()).await.unwrap(), erase().await] {
        assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (503, &"2".parse().unwrap()));
    }
}
