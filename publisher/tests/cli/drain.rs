//! How `serve` ends: in order, in time, and not under a request.

use serde_json::json;
use testkit::{RedisServer, eventually, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Service, history, serve};

const BODY: &str = r#"{"channel":"a","data":"x"}"#;

/// A publish, all but its last byte.
async fn half_a_publish(service: &Service) -> TcpStream {
    let mut socket = TcpStream::connect(&service.public).await.unwrap();
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        BODY.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // Somebody reads the body: the request is under way.
    let mut answer = [0; 25];
    soon("to be asked for the body", socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&BODY.as_bytes()[..BODY.len() - 1]).await.unwrap();
    socket
}

#[tokio::test]
async fn a_request_under_way_is_answered() {
    let server = RedisServer::start().await;
    for signal in ["TERM", "INT"] {
        let service = Service::start(serve(&server).config("[drain]\ngrace = '0s'")).await;
        let mut socket = half_a_publish(&service).await;
        let _idle = TcpStream::connect(&service.public).await.unwrap();
        service.signal(signal).await;
        service.readiness_becomes(503, r#"{"ready":false,"reason":"draining"}"#).await;
        eventually("a closed port", async || TcpStream::connect(&service.public).await.is_err().then_some(())).await;
        assert_eq!(service.admin("/livez").await.0, 200, "the operator port answers to the end");

        socket.write_all(&BODY.as_bytes()[BODY.len() - 1..]).await.unwrap();
        let mut answer = String::new();
        soon("the answer and the end", socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        let exit = service.exit().await;
        assert_eq!(exit.code(), 0, "{exit:?}");
    }
    assert_eq!(history(&server, "a").await.len(), 2);
}

#[tokio::test]
async fn during_the_grace_everything_is_served() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server).config("[drain]\ngrace = '5m'\ndeadline = '10m'")).await;
    service.signal("TERM").await;
    service.readiness_becomes(503, r#"{"ready":false,"reason":"draining"}"#).await;
    assert_eq!(service.publish(&json!({"channel": "a"})).await.status(), 200);
    service.signal("TERM").await;
    let exit = service.exit().await;
    assert_eq!(exit.code(), 0, "at once by a second signal: {exit:?}");
}

#[tokio::test]
async fn the_deadline_holds() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server).config("[drain]\ngrace = '0s'\ndeadline = '2s'")).await;
    let _half = half_a_publish(&service).await;
    service.signal("TERM").await;
    let exit = service.exit().await;
    assert_eq!(exit.code(), 0, "{exit:?}");
    assert!(exit.errors.contains("stopped at the deadline; connections were cut open=1"), "{exit:?}");
}
