//! HTTP/1 by hand: for what a client library would tidy up, or would never do.

use bytes::BufMut as _;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A socket, and what came from it and was not taken yet. Dropping it closes it.
pub struct Raw {
    socket: TcpStream,
    received: Vec<u8>,
    /// The body under way is chunked; set by [`head`](Self::head).
    chunked: bool,
    /// Body taken out of its chunks and not returned yet.
    body: Vec<u8>,
    /// A read has failed: the connection was reset.
    failed: bool,
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// Such as `HTTP/1.1 200 OK`.
    pub status: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// A header's value; names are lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        Self::of(soon("a connection", TcpStream::connect(address)).await.unwrap())
    }

    /// With a receive buffer of a few KiB, so that a server soon notices that nobody reads.
    pub fn connect_small(address: &str) -> Self {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self::of(TcpStream::from_std(socket.into()).unwrap())
    }

    fn of(socket: TcpStream) -> Self {
        // What is sent in pieces is to arrive in pieces, and at once.
        socket.set_nodelay(true).unwrap();
        Self { socket, received: Vec::new(), chunked: false, body: Vec::new(), failed: false }
    }

    /// Sends, whether or not the other side still listens: that shows in what comes back.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.offer(bytes.as_ref()).await;
    }

    /// Sends, and says whether that went well as far as is known.
    pub async fn offer(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("the gateway taking a request", self.socket.write_all(bytes)).await
    }

    /// Hands over as many of these bytes as the system takes at once, of a client that does not care whether they are read.
    /// Returns how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.socket.try_write(&bytes[taken..]) {
                Ok(more) => taken += more,
                Err(_) => break,
            }
        }
        taken
    }

    /// Waits until the gateway has read all that was sent.
    pub async fn all_is_read(&self) {
        let port = |address: std::net::SocketAddr| format!(":{:04X}", address.port());
        let (gateway, client) = (port(self.socket.peer_addr().unwrap()), port(self.socket.local_addr().unwrap()));
        let is_read = || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let mut rows = table.lines().filter(|row| row.contains(&gateway) && row.contains(&client));
            rows.any(|row| {
                let row: Vec<&str> = row.split_whitespace().collect();
                // Its end of the connection, established, and the length of its queue of what was not read.
                row[1].ends_with(&gateway) && row[3] == "01" && row[4].ends_with(":00000000")
            })
        };
        let reading = async {
            while !is_read() {
                // That took its time already.
                tokio::task::yield_now().await;
            }
        };
        soon("the gateway reading what was sent", reading).await;
    }

    /// Reads what is there, `most` bytes of it; keeps it for later. Returns how many bytes it keeps, `None` at the end.
    pub async fn sip(&mut self, most: usize) -> Option<usize> {
        let mut some = (&mut self.received).limit(most);
        let read = soon("something on a socket", self.socket.read_buf(&mut some)).await;
        read.is_ok_and(|bytes| bytes > 0).then_some(self.received.len())
    }

    /// Sends a GET by HTTP/1.1.
    pub async fn get(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
    }

    /// Sends nothing more, and says so; reads on.
    pub async fn half_close(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// Reads the head of a response.
    pub async fn head(&mut self) -> Head {
        let text = self.take_until(b"\r\n\r\n").await;
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let head = Head { status, headers: lines.map(header).collect() };
        self.chunked = head.get("transfer-encoding") == Some("chunked");
        head
    }

    /// Reads the body up to and with `end`, out of its chunks where it comes in chunks.
    pub async fn body_until(&mut self, end: &str) -> String {
        if !self.chunked {
            return self.take_until(end.as_bytes()).await;
        }
        loop {
            if let Some(at) = find(&self.body, end.as_bytes()) {
                return text(self.body.drain(..at + end.len()).collect());
            }
            let more = self.chunk().await;
            assert!(more, "the body ended before {end:?}: {:?}", String::from_utf8_lossy(&self.body));
        }
    }

    /// Reads a body of `Content-Length` bytes.
    pub async fn body_of(&mut self, head: &Head) -> String {
        self.body_of_length(head.get("content-length").expect("a length").parse().unwrap()).await
    }

    /// Reads a body of `length` bytes.
    pub async fn body_of_length(&mut self, length: usize) -> String {
        while self.received.len() < length {
            assert!(self.more().await, "the body broke off");
        }
        text(self.received.drain(..length).collect())
    }

    /// For a head that was read otherwise than by [`head`](Self::head).
    pub fn body_comes_in_chunks(&mut self, chunked: bool) {
        self.chunked = chunked;
    }

    /// Reads the rest of a body, to its last chunk, or to the end of the connection where it comes without chunks.
    pub async fn rest_of_body(&mut self) -> String {
        if self.chunked { self.rest_of_chunks().await } else { text(self.rest().await) }
    }

    /// Reads the rest of a body in chunks, to its last chunk.
    pub async fn rest_of_chunks(&mut self) -> String {
        while self.chunk().await {}
        text(std::mem::take(&mut self.body))
    }

    /// Reads to the end of the connection. A reset counts as the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.received)
    }

    /// Whether the connection was reset, before its end or behind it.
    pub fn was_reset(&self) -> bool {
        self.failed || self.socket.take_error().unwrap().is_some()
    }

    /// Waits for the end of a connection on which nothing is said any more, for longer than anything else may take.
    pub async fn ends_within(&mut self, patience: std::time::Duration) {
        let end = tokio::time::timeout(patience, self.socket.read_buf(&mut self.received)).await;
        let end = end.unwrap_or_else(|_| panic!("the connection did not end within {patience:?}"));
        assert!(!end.is_ok_and(|bytes| bytes > 0), "{:?}", String::from_utf8_lossy(&self.received));
    }

    /// Waits so long at most for the end of a connection on which nothing is said any more. Says whether it came.
    pub async fn ended_within(&mut self, patience: std::time::Duration) -> bool {
        match tokio::time::timeout(patience, self.socket.read_buf(&mut self.received)).await {
            Err(_) => false,
            Ok(end) => {
                assert!(!end.is_ok_and(|bytes| bytes > 0), "{:?}", String::from_utf8_lossy(&self.received));
                true
            }
        }
    }

    /// Reads up to and with `end`, or to the end of the connection.
    pub async fn until_closed_or(&mut self, end: &str) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.received, end.as_bytes()) {
                return self.received.drain(..at + end.len()).collect();
            }
            if !self.more().await {
                return std::mem::take(&mut self.received);
            }
        }
    }

    /// Ends the connection by RST instead of FIN.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    async fn chunk(&mut self) -> bool {
        let size = self.take_until(b"\r\n").await;
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        while self.received.len() < size + 2 {
            assert!(self.more().await, "a chunk broke off");
        }
        self.body.extend(self.received.drain(..size));
        let end: Vec<u8> = self.received.drain(..2).collect();
        assert_eq!(end, b"\r\n", "a chunk of {size} bytes is longer than it says");
        size > 0
    }

    async fn take_until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = find(&self.received, end) {
                return text(self.received.drain(..at + end.len()).collect());
            }
            let received = self.received.len();
            let what = format!("{:?}", String::from_utf8_lossy(end));
            assert!(self.more().await, "the connection ended before {what}, after {received} bytes");
        }
    }

    async fn more(&mut self) -> bool {
        let read = soon("something on a socket", self.socket.read_buf(&mut self.received)).await;
        self.failed |= read.is_err();
        read.is_ok_and(|bytes| bytes > 0)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}
