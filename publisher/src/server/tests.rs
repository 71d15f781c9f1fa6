//! Clients that do not behave, on a real socket. Time stands still, and jumps when everybody waits.

use axum::routing::{get, post};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// More than the kernel buffers for a socket, unless somebody raised that.
const LARGE: usize = 64 << 20;

struct Fixture {
    address: SocketAddr,
    connections: TaskTracker,
    stop: CancellationToken,
    accepting: JoinSet<()>,
}

fn start(max_sockets: usize) -> Fixture {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let refuse = || async { (StatusCode::PAYLOAD_TOO_LARGE, "too large") };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/refuse", post(refuse))
        .route("/large", get(|| async { vec![b'x'; LARGE] }))
        .route("/echo", post(|body: String| async { body }));
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = ServerSettings { write_timeout: WRITE_TIMEOUT, max_sockets, tls: None };
    let listener = TcpListener::from_std(listener).unwrap();
    let mut accepting = JoinSet::new();
    accepting.spawn(serve(listener, router, settings, connections.clone(), stop.clone()));
    Fixture { address, connections, stop, accepting }
}

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request`, and reads to the end of the connection.
    async fn ask(&self, request: &str) -> String {
        let mut socket = self.connect().await;
        // It may be refused before all of it is sent.
        let _ = socket.write_all(request.as_bytes()).await;
        rest(&mut socket).await
    }

    /// The end, as when the service drains. Returns how long it took.
    async fn end(mut self) -> Duration {
        let start = Instant::now();
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
        while self.accepting.join_next().await.is_some() {}
        start.elapsed()
    }
}

async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset counts as the end.
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

/// Reads until what was read ends so.
async fn until(socket: &mut TcpStream, end: &str) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "the connection ended before {end:?}");
    }
}

#[tokio::test]
async fn http_1_0_and_1_1() {
    let server = start(10);
    let answer = server.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    let answer = server.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_1_ends() {
    let server = start(10);
    assert_eq!(server.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
    let answer = server.ask("nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // The rest of the head may be on its way, so that the refusal may be lost; but the connection ends.
    let answer = server.ask(&format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(BUFFER * 4))).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_whole_head_is_given_up() {
    let server = start(10);
    for half in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut socket = server.connect().await;
        let start = Instant::now();
        socket.write_all(half.as_bytes()).await.unwrap();
        rest(&mut socket).await;
        assert!(start.elapsed() >= HEADER_TIMEOUT, "{half:?} after {:?}", start.elapsed());
        assert!(start.elapsed() < HEADER_TIMEOUT * 2, "{half:?} after {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_the_answer_is_cut() {
    let server = start(10);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    socket.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // Its head shows that the answer is on its way.
    let mut byte = [0];
    socket.read_exact(&mut byte).await.unwrap();
    server.connections.close();
    let start = Instant::now();
    server.connections.wait().await;
    assert!(start.elapsed() >= WRITE_TIMEOUT && start.elapsed() < WRITE_TIMEOUT * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_unread_body_does_not_take_the_answer_away() {
    let server = start(10);
    let mut socket = server.connect().await;
    let head = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 32 << 20);
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..32 {
        socket.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
    }
    let answer = rest(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("too large"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn sockets_are_bounded_and_wait_their_turn() {
    let server = start(2);
    let (first, _second) = (server.connect().await, server.connect().await);
    let mut third = server.connect().await;
    third.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(10), rest(&mut third)).await;
    assert!(waited.is_err(), "two are two: {waited:?}");
    drop(first);
    let answer = rest(&mut third).await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn at_the_end_requests_are_answered_and_the_rest_holds_nothing_up() {
    let server = start(10);
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut idle, "hello").await;
    let (mut silent, mut half) = (server.connect().await, server.connect().await);
    half.write_all(b"GET / HT").await.unwrap();
    let mut busy = server.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    let address = server.address;
    let accepted = async || {
        while server.connections.len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    accepted().await;
    // Whatever was sent was read when everybody waits.
    tokio::time::sleep(Duration::from_millis(1)).await;

    let client = async {
        for socket in [&mut idle, &mut silent, &mut half] {
            assert_eq!(rest(socket).await, "");
        }
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
        busy.write_all(b"cd").await.unwrap();
        let answer = rest(&mut busy).await;
        assert!(answer.ends_with("abcd"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    };
    let (took, ()) = tokio::join!(server.end(), client);
    assert!(took < STOP_PAUSE * 4, "{took:?}");
}
