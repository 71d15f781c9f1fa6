//! `relay`, and `serve` with the demo: answers by the whole program, and how it ends in the midst of one.

use reqwest::Response;
use serde_json::{Value, json};
use testkit::{RedisServer, eventually, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{Program, Service, history, program, serve};

/// A model that says one word and no more. Returns its URL.
async fn silent_model() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n\
                          data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
            held.push(socket);
        }
    });
    (url, serving)
}

fn relay(server: &RedisServer, url: &str) -> Program {
    let program = program(&["relay", "--upstream", url, "--model", "m", "--listen", "127.0.0.1:0"]).redis(server);
    program.args(&["--admin-listen", "127.0.0.1:0"]).env("SSE_PUBLISHER__TELEMETRY__FORMAT", "text")
}

async fn ask(service: &Service) -> Response {
    let request = service.client.post(service.url("/chat")).header("content-type", "application/json");
    let body = json!({"question": "왜?", "channel": "chat:mine"}).to_string();
    soon("the head", request.body(body).send()).await.unwrap()
}

#[tokio::test]
async fn answers_under_way_are_told_that_it_stops() {
    let server = RedisServer::start().await;
    let (url, _model) = silent_model().await;
    let config =
        "[drain]\ngrace = '0s'\ndeadline = '3s'\n[limits]\nrequest_timeout = '1s'\n[redis]\ncommand_timeout = '500ms'";
    let service = Service::start(relay(&server, &url).config(config)).await;
    let mut response = ask(&service).await;
    assert_eq!(response.status(), 200);
    let mut stream = String::new();
    while !stream.contains("event: chunk") {
        let bytes = soon("a chunk", response.chunk()).await.unwrap().unwrap();
        stream.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    service.signal("TERM").await;
    // A stream is no request that takes too long, and it is given its last event.
    let rest = soon("the rest", response.text()).await.unwrap();
    assert!(rest.contains("event: failed\ndata: {\"reason\":\"stopped\",\"detail\":\"the service is stopping\",\"chunks\":1,\"bytes\":4,"), "{rest}");
    let exit = service.exit().await;
    assert_eq!(exit.code(), 0, "{exit:?}");
    assert!(exit.errors.contains("answers are told to stop answers=1"), "{exit:?}");
    let events = history(&server, "chat:mine").await;
    assert_eq!(events.len(), 3);
    assert!(events[2].ends_with(r#""end":true}"#), "{events:?}");
}

#[tokio::test]
async fn questions_are_taken_until_the_end_of_the_grace() {
    let server = RedisServer::start().await;
    let (url, _model) = silent_model().await;
    let config = "[drain]\ngrace = '5m'\ndeadline = '10m'";
    let service = Service::start(relay(&server, &url).config(config)).await;
    service.signal("TERM").await;
    eventually("it to be unready", async || (service.admin("/readyz").await.0 != 200).then_some(())).await;
    // Load balancers have not noticed yet.
    let mut response = ask(&service).await;
    assert_eq!(response.status(), 200);
    assert!(soon("the question", response.chunk()).await.unwrap().is_some());
    service.signal("TERM").await;
    assert_eq!(service.exit().await.code(), 0);
}

#[tokio::test]
async fn cancelled_by_http() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server).env("SSE_PUBLISHER__DEMO", "true")).await;
    let mut response = ask(&service).await;
    let mut stream = String::new();
    while !stream.contains("event: chunk") {
        let bytes = soon("a chunk", response.chunk()).await.unwrap().unwrap();
        stream.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    eventually("somebody to hear it", async || {
        let answer = service.client.post(service.url("/channels/chat:mine/cancel")).send().await.unwrap();
        (answer.json::<Value>().await.unwrap() == json!({"receivers": 1})).then_some(())
    })
    .await;
    let rest = soon("the end", response.text()).await.unwrap();
    assert!(rest.contains("event: done\ndata: {\"reason\":\"cancelled\","), "{rest}");
    for line in ["sse_publisher_answers_ended_total{result=\"cancelled\"} 1", "sse_publisher_answers 0"] {
        eventually(line, async || service.has_metric(line).await.then_some(())).await;
    }
}

#[tokio::test]
async fn without_an_upstream_there_is_no_such_route() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    assert_eq!(ask(&service).await.status(), 404);
}

#[tokio::test]
async fn an_upstream_that_is_none() {
    let exit = program(&["relay", "--upstream", "https://me:hunter2@h/"]).run().await;
    assert!(!exit.errors.contains("hunter2"), "{exit:?}");
    exit.assert_fails(
        2,
        &["sse-publisher: --upstream: invalid value for \"chat.upstream\": user and password are not for the address of an \
           upstream; chat.key is for a token"],
    );
}
