//! A TCP proxy before a server, whose link a test can spoil: cut, held up, late, silent. It must not know what it carries,
//! but for one word: a connection that says `SUBSCRIBE` is a subscriber.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks on their way in one direction; only a delayed link has more than one.
const ON_THE_WAY: usize = 1_024;
/// Towards the server the system may hold back little, so that a proxy that stops reading is felt there soon: a loopback
/// connection as it comes would swallow megabytes.
const RECEIVE_BUFFER: u32 = 16 << 10;
const SEGMENT: u32 = 1_448;

/// Between clients and one server on 127.0.0.1. Dropping it closes every connection.
///
/// Whatever is set holds for connections that are open and for those that come. A connection that lost bytes once never
/// carries anything again: TCP has no holes.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
    _accept: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Bytes arrive, after so long.
    Pass(Duration),
    /// Bytes are taken and thrown away.
    Blackhole,
    /// Nothing that the server says is read.
    Stall,
}

#[derive(Debug)]
struct Control {
    server: AtomicU16,
    mode: watch::Sender<Mode>,
    /// Connections so far.
    accepted: AtomicU64,
    /// Counts the resets.
    resets: watch::Sender<u64>,
    swallowed: AtomicU64,
    links: Mutex<Vec<Weak<Link>>>,
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    subscribes: AtomicBool,
    /// Nothing reaches the client any more.
    deaf: AtomicBool,
    /// Nothing reaches anybody any more, not even the end of the other side.
    lost: AtomicBool,
}

impl Proxy {
    /// Starts one before the server on this port of 127.0.0.1, which need not be up.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control {
            server: AtomicU16::new(server),
            mode: watch::Sender::new(Mode::Pass(Duration::ZERO)),
            accepted: AtomicU64::new(0),
            resets: watch::Sender::new(0),
            swallowed: AtomicU64::new(0),
            links: Mutex::default(),
        });
        let mut accept = JoinSet::new();
        accept.spawn(serve(listener, control.clone()));
        Self { port, control, _accept: accept }
    }

    /// The port on 127.0.0.1 on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Connections that come from now on go to the server on this port; those that are open stay.
    pub fn point_to(&self, server: u16) {
        self.control.server.store(server, Ordering::Relaxed);
    }

    /// Bytes arrive at once. What was lost stays lost.
    pub fn pass(&self) {
        self.delay(Duration::ZERO);
    }

    /// Bytes of both directions arrive so much later, in their order.
    pub fn delay(&self, by: Duration) {
        self.control.mode.send_replace(Mode::Pass(by));
    }

    /// Connections are accepted and stay open, and nothing arrives on either side, nor that the other has ended.
    pub fn blackhole(&self) {
        self.control.mode.send_replace(Mode::Blackhole);
    }

    /// Stops reading what the server says. What clients say still arrives.
    pub fn stall(&self) {
        self.control.mode.send_replace(Mode::Stall);
    }

    /// Resets every open connection, on both sides. Returns how many there were.
    pub fn reset(&self) -> usize {
        let open = self.control.links().len();
        self.control.resets.send_modify(|count| *count += 1);
        open
    }

    /// Connections that have subscribed by now carry nothing to the client any more. Returns how many they are.
    pub fn deafen_subscribers(&self) -> usize {
        let subscribers = self.control.links().into_iter().filter(|link| link.subscribes.load(Ordering::Relaxed));
        subscribers.filter(|link| !link.deaf.swap(true, Ordering::Relaxed)).count()
    }

    /// Connections that came so far.
    pub fn accepted(&self) -> u64 {
        self.control.accepted.load(Ordering::Relaxed)
    }

    /// Bytes thrown away so far.
    pub fn swallowed(&self) -> u64 {
        self.control.swallowed.load(Ordering::Relaxed)
    }
}

impl Control {
    /// The open connections.
    fn links(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }

    fn add(&self, link: &Arc<Link>) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(link));
    }

    /// Whether these bytes are not to arrive. A blackhole is for good.
    fn swallows(&self, link: &Link, to_client: bool, count: usize) -> bool {
        if *self.mode.borrow() == Mode::Blackhole {
            link.lost.store(true, Ordering::Relaxed);
        }
        let lost = link.lost.load(Ordering::Relaxed) || to_client && link.deaf.load(Ordering::Relaxed);
        if lost {
            self.swallowed.fetch_add(count as u64, Ordering::Relaxed);
        }
        lost
    }

    /// Waits until the server is read again, and says how late its bytes are to be.
    async fn flows(&self) -> Duration {
        let mut mode = self.mode.subscribe();
        // The sender lives as long as we do.
        let now = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode);
        if let Ok(Mode::Pass(by)) = now { by } else { Duration::ZERO }
    }

    fn lateness(&self) -> Duration {
        if let Mode::Pass(by) = *self.mode.borrow() { by } else { Duration::ZERO }
    }
}

async fn serve(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                control.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(client, control.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut client: TcpStream, control: Arc<Control>) {
    let link = Arc::new(Link::default());
    control.add(&link);
    let mut resets = control.resets.subscribe();
    let _ = client.set_nodelay(true);
    if control.swallows(&link, false, 0) {
        let reset = tokio::select! {
            () = swallow(client.split().0, &control) => false,
            _ = resets.changed() => true,
        };
        if reset {
            says_rst(&client);
        }
        return;
    }
    let server = control.server.load(Ordering::Relaxed);
    // A client of a server that is away is cut off.
    let Ok(mut server) = connect(server).await else { return };
    // Borrowed halves: owned ones would say FIN as they go, and no RST after it.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let reset = tokio::select! {
        () = pump(from_client, to_server, &control, &link, false) => false,
        () = pump(from_server, to_client, &control, &link, true) => false,
        _ = resets.changed() => true,
    };
    if reset {
        says_rst(&client);
        says_rst(&server);
    }
}

/// Closed after this, a socket says RST.
fn says_rst(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Takes what a client says until it goes.
async fn swallow(mut from: ReadHalf<'_>, control: &Control) {
    let mut bytes = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        control.swallowed.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Carries one direction to its end.
async fn pump(from: ReadHalf<'_>, to: WriteHalf<'_>, control: &Control, link: &Link, to_client: bool) {
    let (queue, due) = mpsc::channel(ON_THE_WAY);
    tokio::join!(read(from, queue, control, link, to_client), write(to, due));
    // Who is behind a blackhole hears of no end.
    if link.lost.load(Ordering::Relaxed) && to_client {
        std::future::pending::<()>().await;
    }
}

async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    control: &Control,
    link: &Link,
    to_client: bool,
) {
    let mut bytes = vec![0; CHUNK];
    loop {
        if to_client {
            control.flows().await;
        }
        let Ok(count @ 1..) = from.read(&mut bytes).await else { break };
        let chunk = &bytes[..count];
        if !to_client && chunk.windows(9).any(|window| window == b"SUBSCRIBE") {
            link.subscribes.store(true, Ordering::Relaxed);
        }
        // It may have been stalled while we waited for these.
        let lateness = if to_client { control.flows().await } else { control.lateness() };
        if control.swallows(link, to_client, count) {
            continue;
        }
        if queue.send((Instant::now() + lateness, chunk.to_vec())).await.is_err() {
            break;
        }
    }
    // An end is swallowed like bytes are.
    control.swallows(link, to_client, 0);
}

async fn write(mut to: WriteHalf<'_>, mut due: mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Some((at, chunk)) = due.recv().await {
        sleep_until(at).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
