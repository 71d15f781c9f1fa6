//! A small server of event streams on a port of its own: `GET /events?channel=a&channel=b`, `POST /publish`. It keeps all
//! events, answers a `Last-Event-ID`, and does wrong what it is told to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What goes wrong, with every tenth event of a stream unless something else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is not sent.
    Lose,
    /// It is sent twice.
    Repeat,
    /// It is sent after the next one.
    Swap,
    /// An event of somebody else is sent before it.
    Foreign,
    /// It is sent with a byte less.
    Cut,
    /// It is not sent, and the gap is told.
    Gap,
    /// The stream ends before the tenth.
    End,
    /// Publishes are refused.
    Refuse,
}

/// How the body of a stream is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A chunk an event, cut in two.
    Chunked,
    /// Up to the end of the connection.
    Close,
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    fault: Fault,
    framing: Framing,
    /// By channel, each event's data and whether it is the last.
    events: Mutex<HashMap<String, Vec<(String, bool)>>>,
    changed: watch::Sender<u64>,
    streams: AtomicUsize,
    resumed: AtomicUsize,
    /// Streams end when this rises.
    cut: watch::Sender<u64>,
}

impl Server {
    pub(crate) async fn start(fault: Fault, framing: Framing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            fault,
            framing,
            events: Mutex::default(),
            changed: watch::Sender::new(0),
            streams: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
            cut: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Self { url, shared, _tasks: tasks }
    }

    /// A correct one.
    pub(crate) async fn correct() -> Self {
        Self::start(Fault::None, Framing::Chunked).await
    }

    /// Streams that were opened so far.
    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }

    /// Events that were published so far, on all channels.
    pub(crate) fn events(&self) -> usize {
        self.shared.events.lock().unwrap().values().map(Vec::len).sum()
    }

    /// Streams that came with a cursor.
    pub(crate) fn resumed(&self) -> usize {
        self.shared.resumed.load(Ordering::SeqCst)
    }

    /// Ends all streams that are open now, without their last chunk.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Publishes.
    pub(crate) fn publish(&self, channel: &str, data: &str) {
        self.shared.publish(channel, data, false);
    }
}

impl Shared {
    fn publish(&self, channel: &str, data: &str, last: bool) {
        self.events.lock().unwrap().entry(channel.to_owned()).or_default().push((data.to_owned(), last));
        self.changed.send_modify(|count| *count += 1);
    }

    /// The events of a channel from number `from` on.
    fn after(&self, channel: &str, from: usize) -> Vec<(String, bool)> {
        let events = self.events.lock().unwrap();
        events.get(channel).map(|events| events[from.min(events.len())..].to_vec()).unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.unwrap();
                connections.spawn(serve(socket, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Requests of one connection, up to a stream or its end.
async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    socket.set_nodelay(true).unwrap();
    let (read, mut write) = socket.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if !matches!(read.read_line(&mut line).await, Ok(1..)) {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let header = |name: &str| {
            head.iter().find_map(|line| {
                line.to_ascii_lowercase().starts_with(name).then(|| line[name.len()..].trim().to_owned())
            })
        };
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        if head[0].starts_with("POST") {
            let mut body = vec![0; header("content-length:").unwrap().parse().unwrap()];
            read.read_exact(&mut body).await.unwrap();
            let answer = take_publish(&shared, &body);
            write.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        // Whoever closes has had enough.
        let _ = stream(&shared, &path, header("last-event-id:"), &mut write).await;
        return;
    }
}

fn take_publish(shared: &Shared, body: &[u8]) -> String {
    if shared.fault == Fault::Refuse {
        return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned();
    }
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    shared.publish(body["channel"].as_str().unwrap(), body["data"].as_str().unwrap(), body["end"] == true);
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
}

/// One stream. A cursor counts the events of its first channel.
async fn stream(
    shared: &Shared,
    path: &str,
    cursor: Option<String>,
    write: &mut OwnedWriteHalf,
) -> std::io::Result<()> {
    let query = path.split_once('?').unwrap().1;
    let channels: Vec<String> =
        query.split('&').filter_map(|pair| Some(pair.strip_prefix("channel=")?.to_owned())).collect();
    let mut changed = shared.changed.subscribe();
    let mut cut = shared.cut.subscribe();
    shared.streams.fetch_add(1, Ordering::SeqCst);
    shared.resumed.fetch_add(usize::from(cursor.is_some()), Ordering::SeqCst);
    let count = |channel: &String| shared.after(channel, 0).len();
    let mut at: Vec<usize> = channels.iter().map(count).collect();
    if let Some(cursor) = cursor {
        at[0] = cursor.parse().unwrap();
    }
    let encoding = if shared.framing == Framing::Chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
    // In two pieces, since it may come so.
    write.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev").await?;
    write.flush().await?;
    let opening = format!("ent-stream\r\n{encoding}\r\n");
    write.write_all(opening.as_bytes()).await?;
    let mut out = Out { shared, write, held: None };
    out.block(&format!("retry: 100\nid: {}\nevent: sse.open\ndata: {{}}\n\n: hi\n\n", at[0])).await?;
    loop {
        for (channel, at) in channels.iter().zip(&mut at) {
            for (data, last) in shared.after(channel, *at) {
                *at += 1;
                if shared.fault == Fault::End && *at == 10 {
                    return Ok(());
                }
                out.event(&data, *at).await?;
                if last {
                    return out.finish().await;
                }
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = cut.changed() => return Ok(()),
        }
    }
}

struct Out<'a> {
    shared: &'a Shared,
    write: &'a mut OwnedWriteHalf,
    held: Option<String>,
}

impl Out<'_> {
    /// Event number `number`, from 1, with what goes wrong with it.
    async fn event(&mut self, data: &str, number: usize) -> std::io::Result<()> {
        let text = format!("data: {data}\nid: {number}\n\n");
        let fault = if number.is_multiple_of(10) { self.shared.fault } else { Fault::None };
        match fault {
            Fault::Lose => {}
            Fault::Gap => self.block("event: sse.gap\ndata: {}\n\n").await?,
            Fault::Swap => self.held = Some(text),
            Fault::Repeat => {
                self.block(&text).await?;
                self.block(&text).await?;
            }
            Fault::Foreign => {
                self.block("data: hello\n\n").await?;
                self.block(&text).await?;
            }
            Fault::Cut => self.block(&text.replacen("x\n", "\n", 1)).await?,
            Fault::None | Fault::End | Fault::Refuse => self.block(&text).await?,
        }
        if fault == Fault::None
            && let Some(held) = self.held.take()
        {
            self.block(&held).await?;
        }
        Ok(())
    }

    async fn block(&mut self, text: &str) -> std::io::Result<()> {
        if self.shared.framing == Framing::Close {
            return self.write.write_all(text.as_bytes()).await;
        }
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        for piece in [first, second] {
            self.write.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            self.write.write_all(piece).await?;
            self.write.write_all(b"\r\n").await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> std::io::Result<()> {
        if self.shared.framing == Framing::Chunked { self.write.write_all(b"0\r\n\r\n").await } else { Ok(()) }
    }
}
