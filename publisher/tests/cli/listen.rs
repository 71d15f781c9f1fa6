//! `listen`: events as they come, coming back as a browser does, and every reason to end.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use testkit::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Program, program};

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// A server whose answers the test writes by hand.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// One request, and the socket to answer it on.
struct Asked {
    head: String,
    socket: TcpStream,
}

impl Server {
    async fn start() -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into())
    }

    fn start_on(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(16).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    fn url(&self) -> String {
        format!("http://{}/events?channel=user:42", self.address)
    }

    /// The next request.
    async fn asked(&self) -> Asked {
        let (mut socket, _) = soon("a request", self.listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(soon("a head", socket.read_buf(&mut head)).await.unwrap() > 0);
        }
        Asked { head: String::from_utf8(head).unwrap().to_ascii_lowercase(), socket }
    }

    /// Answers the next request, and closes. Returns its head.
    async fn answer(&self, text: &str) -> String {
        let mut asked = self.asked().await;
        asked.say(text).await;
        asked.head
    }
}

impl Asked {
    async fn say(&mut self, text: &str) {
        // The client may be gone.
        let _ = self.socket.write_all(text.as_bytes()).await;
    }

    fn last_event_id(&self) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix("last-event-id: "))
    }
}

fn listen(server: &Server, flags: &[&str]) -> Program {
    program(&["listen", &server.url()]).args(flags)
}

#[tokio::test]
async fn what_it_asks_for() {
    let server = Server::start().await;
    let running = listen(&server, &[]).spawn();
    let head = server.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(head.starts_with("get /events?channel=user:42 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", server.address)), "{head}");
    assert!(head.contains("\r\naccept: text/event-stream\r\n") && !head.contains("last-event-id"), "{head}");
    running.exit().await.assert_fails(0, &["sse-publisher: the server says that there is no more"]);

    let running = listen(&server, &["--last-event-id", "17-0_abcde"]).spawn();
    let head = server.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(head.contains("\r\nlast-event-id: 17-0_abcde\r\n"), "{head}");
    assert_eq!(running.exit().await.code(), 0);
}

#[tokio::test]
async fn events_as_text_the_moment_they_come() {
    let server = Server::start().await;
    let mut running = listen(&server, &["--count", "3"]).spawn();
    let mut stdout = running.stdout();
    let mut asked = server.asked().await;
    asked.say(STREAM).await;
    asked.say(": keep-alive\n\nid: 1\ndata: first\n\n").await;
    for wanted in ["data: first", "id: 1", ""] {
        assert_eq!(soon("a line", stdout.next_line()).await.unwrap().as_deref(), Some(wanted));
    }
    // Torn anywhere.
    asked.say("event: n\r\nda").await;
    asked.say("ta: a\r\ndata: b\r\nid: 2\r\n\r").await;
    asked.say("\n").await;
    for wanted in ["event: n", "data: a", "data: b", "id: 2", ""] {
        assert_eq!(soon("a line", stdout.next_line()).await.unwrap().as_deref(), Some(wanted));
    }
    asked.say("data\n\nnot: read\n\n").await;
    for wanted in [Some("data: "), Some("id: 2"), Some(""), None] {
        assert_eq!(soon("a line", stdout.next_line()).await.unwrap().as_deref(), wanted);
    }
    let exit = running.exit().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""));
}

#[tokio::test]
async fn events_as_json_by_name_and_number() {
    let server = Server::start().await;
    let running = listen(&server, &["--json", "--event", "a", "--event", "sse.gap", "--count", "3"]).spawn();
    let events = "event: sse.open\ndata: {}\n\nevent: a\ndata: {\"x\":1}\nid: 1\n\nevent: b\ndata: 2\nid: 2\n\n\
                  event: sse.gap\ndata: {\"reason\":\"trimmed\"}\n\ndata: 3\n\nevent: a\ndata: l1\ndata: \"l2\"\n\n";
    let mut asked = server.asked().await;
    asked.say(&format!("{STREAM}{events}")).await;
    let exit = running.exit().await;
    assert_eq!(exit.code(), 0);
    assert_eq!(
        exit.output,
        "{\"event\":\"a\",\"data\":\"{\\\"x\\\":1}\",\"id\":\"1\"}\n\
         {\"event\":\"sse.gap\",\"data\":\"{\\\"reason\\\":\\\"trimmed\\\"}\",\"id\":\"2\"}\n\
         {\"event\":\"a\",\"data\":\"l1\\n\\\"l2\\\"\",\"id\":\"2\"}\n"
    );
    assert_eq!(exit.errors, "sse-publisher: sse.open {}\n");
}

#[tokio::test]
async fn signals_of_the_gateway_do_not_count() {
    let server = Server::start().await;
    let running = listen(&server, &["--count", "1"]).spawn();
    let events = "event: sse.open\ndata: {}\n\nevent: sse.gap\ndata: {\"reason\":\"expired\"}\n\ndata: x\n\n";
    let mut asked = server.asked().await;
    asked.say(&format!("{STREAM}{events}")).await;
    let exit = running.exit().await;
    assert_eq!((exit.code(), &*exit.output), (0, "data: x\n\n"));
    assert_eq!(exit.errors, "sse-publisher: sse.open {}\nsse-publisher: sse.gap {\"reason\":\"expired\"}\n");
}

#[tokio::test]
async fn it_comes_back_with_the_last_id() {
    let server = Server::start().await;
    let running = listen(&server, &["--count", "2", "--last-event-id", "0"]).spawn();
    let mut asked = server.asked().await;
    assert_eq!(asked.last_event_id(), Some("0"));
    // An unfinished block counts for nothing; a connection without an id keeps the one from before.
    asked.say(&format!("{STREAM}retry: 1\n\ndata: a\n\nid: 9\ndata: b")).await;
    drop(asked);
    let mut asked = server.asked().await;
    assert_eq!(asked.last_event_id(), Some("0"));
    asked.say(&format!("{STREAM}id: 7\n\n")).await;
    drop(asked);
    let mut asked = server.asked().await;
    assert_eq!(asked.last_event_id(), Some("7"), "a block without data sets it too");
    asked.say(&format!("{STREAM}id\n\n")).await;
    drop(asked);
    let mut asked = server.asked().await;
    assert_eq!(asked.last_event_id(), None, "and an empty one takes it away");
    asked.say(&format!("{STREAM}data: c\nid: 8\n\n")).await;
    let exit = running.exit().await;
    assert_eq!((exit.code(), &*exit.output), (0, "data: a\nid: 0\n\ndata: c\nid: 8\n\n"));
    let lines: Vec<_> = exit.errors.lines().collect();
    assert_eq!(lines, ["sse-publisher: the stream ended; coming back in 1ms"; 3]);
}

#[tokio::test]
async fn it_comes_back_after_errors_too() {
    let server = Server::start().await;
    let (url, address) = (server.url(), server.address);
    let running = program(&["listen", &url, "--count", "2"]).spawn();
    let mut asked = server.asked().await;
    let chunked = STREAM.replace("Connection: close", "Transfer-Encoding: chunked");
    asked.say(&format!("{chunked}1a\r\nretry: 50\ndata: a\nid: 1\n\n\r\n")).await;
    // Broken off within the stream, and nobody there for a while.
    drop((asked, server));
    let mut stderr = running;
    let mut lines = {
        use tokio::io::AsyncBufReadExt as _;
        tokio::io::BufReader::new(stderr.child.stderr.take().unwrap()).lines()
    };
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("connection refused")) {
        said.push(soon("a line", lines.next_line()).await.unwrap().unwrap());
    }
    assert!(said[0].starts_with("sse-publisher: the connection broke off: "), "{said:?}");
    let refused = format!("sse-publisher: cannot reach http://{address}: connection refused; coming back in ");
    assert!(said.last().unwrap().starts_with(&refused), "{said:?}");

    let server = Server::start_on(address);
    let mut asked = server.asked().await;
    assert_eq!(asked.last_event_id(), Some("1"));
    asked.say(&format!("{STREAM}data: b\n\n")).await;
    let exit = stderr.exit().await;
    assert_eq!((exit.code(), &*exit.output), (0, "data: a\nid: 1\n\ndata: b\nid: 1\n\n"));
}

#[tokio::test]
async fn refusals() {
    let server = Server::start().await;
    let url = server.url();
    let problem =
        r#"{"type":"urn:problem:sse:missing-value","title":"missing value","status":400,"detail":"channel is needed"}"#;
    for (answer, error) in [
        (format!("400 Bad Request\r\n\r\n{problem}"), "answered 400 Bad Request: channel is needed"),
        ("401 Unauthorized\r\n\r\n{\"title\":\"no token\"}".to_owned(), "answered 401 Unauthorized: no token"),
        ("404 Not Found\r\n\r\n no\x1b[2J\nsuch  page".to_owned(), "answered 404 Not Found: no [2J such  page"),
        ("503 Service Unavailable\r\n\r\n".to_owned(), "answered 503 Service Unavailable"),
        (
            "200 OK\r\nContent-Type: text/html\r\n\r\n<p>".to_owned(),
            "answered with text/html, which is no event stream",
        ),
        ("200 OK\r\n\r\n".to_owned(), "answered with nothing that says what it is, which is no event stream"),
        ("302 Found\r\n\r\n".to_owned(), "leads elsewhere: it does not say where"),
        (
            "302 Found\r\nLocation: https://x/\r\n\r\n".to_owned(),
            "leads elsewhere: https is not supported here; ask a gateway directly, or use curl -N",
        ),
    ] {
        let running = listen(&server, &[]).spawn();
        server.answer(&format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nConnection: close\r\n", 1))).await;
        running.exit().await.assert_fails(1, &[&format!("sse-publisher: {url} {error}")]);
    }
}

#[tokio::test]
async fn a_token_goes_to_the_server_it_is_for() {
    let (server, other) = (Server::start().await, Server::start().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "secret.token\n").unwrap();
    let flags = ["--token-file", file.to_str().unwrap()];
    let running = listen(&server, &[&flags[..], &["--count", "1"]].concat()).spawn();
    let sends = |head: &str| head.contains("authorization: bearer secret.token\r\n");
    let away = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\n\r\n", other.address);
    assert!(sends(&server.answer("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n").await));
    assert!(sends(&server.answer(&away).await));
    let head = other.answer(&format!("{STREAM}data: x\n\n")).await;
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(running.exit().await.output, "data: x\n\n");

    for (text, reason) in
        [("a\nsecret", "it does not hold a token on one line"), ("\n", "it does not hold a token on one line")]
    {
        std::fs::write(&file, text).unwrap();
        let error = format!("sse-publisher: --token-file: {}: {reason}", file.display());
        listen(&server, &flags).run().await.assert_fails(2, &[&error]);
    }
    std::fs::remove_file(&file).unwrap();
    let error = format!("sse-publisher: --token-file: {}: No such file or directory (os error 2)", file.display());
    listen(&server, &flags).run().await.assert_fails(2, &[&error]);
}

#[tokio::test]
async fn redirects_are_followed_and_bounded() {
    let server = Server::start().await;
    let running = listen(&server, &["--count", "1"]).spawn();
    server.answer("HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere?x\r\n\r\n").await;
    let mut asked = server.asked().await;
    assert!(asked.head.starts_with("get /elsewhere?x http/1.1\r\n"), "{}", asked.head);
    asked.say(&format!("{STREAM}data: x\n\n")).await;
    assert_eq!(running.exit().await.output, "data: x\n\n");

    let running = listen(&server, &[]).spawn();
    for _ in 0..=20 {
        server.answer("HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\n\r\n").await;
    }
    let error = format!("sse-publisher: http://{}/ leads elsewhere more than 20 times", server.address);
    running.exit().await.assert_fails(1, &[&error]);
}

#[tokio::test]
async fn who_cannot_be_reached_the_first_time_is_told_at_once() {
    let server = Server::start().await;
    let (url, address) = (server.url(), server.address);
    drop(server);
    let exit = program(&["listen", &url]).run().await;
    exit.assert_fails(1, &[&format!("sse-publisher: cannot reach http://{address}: connection refused")]);
}

#[tokio::test]
async fn a_reader_that_has_enough_ends_it_quietly() {
    let server = Server::start().await;
    let mut running = listen(&server, &[]).spawn();
    let mut stdout = running.stdout();
    let mut asked = server.asked().await;
    asked.say(&format!("{STREAM}data: x\n\n")).await;
    assert_eq!(soon("a line", stdout.next_line()).await.unwrap().as_deref(), Some("data: x"));
    // As `head -1` does. No further event comes.
    drop(stdout);
    let exit = running.exit().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""));

    // With events on their way.
    let mut running = listen(&server, &[]).spawn();
    let mut asked = server.asked().await;
    drop(running.stdout());
    asked.say(&format!("{STREAM}{}", "data: x\n\n".repeat(1_000))).await;
    let exit = running.exit().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""));
}

#[tokio::test]
async fn a_block_without_end_is_no_reason_to_grow() {
    let server = Server::start().await;
    let running = listen(&server, &[]).spawn();
    let mut asked = server.asked().await;
    asked.say(&format!("{STREAM}data: {}", "x".repeat(20 << 20))).await;
    let exit = running.exit().await;
    exit.assert_fails(1, &["sse-publisher: a block of the event stream is longer than 16777216 bytes"]);
}

#[tokio::test]
async fn addresses_that_cannot_be_asked() {
    for (url, wanted) in [
        ("localhost:8080/events", "an address is http://host[:port]/path?query"),
        ("https://h/events", "https is not supported here"),
        ("http://me:hunter2@h/events", "user and password are not supported here"),
    ] {
        let exit = program(&["listen", url]).run().await;
        assert_eq!((exit.code(), &*exit.output), (2, ""), "{exit:?}");
        assert!(exit.errors.contains(wanted) && !exit.errors.contains("hunter2"), "{}", exit.errors);
    }
    let exit = program(&["listen", "http://h/", "--last-event-id", "a\nb"]).run().await;
    assert_eq!(exit.code(), 2);
    assert!(exit.errors.contains("an id may not have control characters"), "{}", exit.errors);
}
