//! A way to Redis that can be shut, and that can lose a message.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use testkit::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Names, and how many connections there were: a later one loses nothing.
type Lose = Arc<Mutex<Vec<(String, usize)>>>;

/// Dropping it closes every connection.
pub struct Gate {
    port: u16,
    shut: watch::Sender<bool>,
    lose: Lose,
    accepted: Arc<AtomicUsize>,
    _accept: JoinSet<()>,
}

impl Gate {
    pub async fn to(redis: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (shut, is_shut) = watch::channel(false);
        let (lose, accepted): (Lose, Arc<AtomicUsize>) = Default::default();
        let (server, to_lose, counted) = (redis.port(), lose.clone(), accepted.clone());
        let mut accept = JoinSet::new();
        accept.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                if *is_shut.borrow() {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(carry(number, client, server, is_shut.clone(), to_lose.clone()));
            }
        });
        Self { port, shut, lose, accepted, _accept: accept }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Closes every connection, and every other one at once, until it is opened.
    pub fn shut(&self) {
        self.shut.send_replace(true);
    }

    pub fn open(&self) {
        self.shut.send_replace(false);
    }

    /// The next message on `name` does not arrive, if it comes on a connection that is open by now.
    pub fn lose_one(&self, name: &str) {
        self.lose.lock().unwrap().push((name.to_owned(), self.accepted.load(Ordering::SeqCst)));
    }

    /// Whether everything that was to be lost is lost.
    pub fn has_lost(&self) -> bool {
        self.lose.lock().unwrap().is_empty()
    }
}

async fn carry(number: usize, client: TcpStream, server: TcpStream, mut shut: watch::Receiver<bool>, lose: Lose) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let down = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let mut bytes = bytes[..count].to_vec();
            lose.lock().unwrap().retain(|(name, below)| number >= *below || !cut(&mut bytes, name));
            if to_client.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = shut.wait_for(|shut| *shut) => {}
    }
}

/// Cuts the first message on `name` out; the tests' messages are small, and come whole.
fn cut(bytes: &mut Vec<u8>, name: &str) -> bool {
    let head = format!(">3\r\n$7\r\nmessage\r\n${}\r\n{name}\r\n$", name.len());
    let Some(start) = bytes.windows(head.len()).position(|window| window == head.as_bytes()) else { return false };
    let rest = &bytes[start + head.len()..];
    let digits = rest.iter().position(|byte| *byte == b'\r').unwrap();
    let length: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().unwrap();
    let end = start + head.len() + digits + 2 + length + 2;
    assert!(end <= bytes.len(), "a message in two pieces");
    bytes.drain(start..end);
    true
}
