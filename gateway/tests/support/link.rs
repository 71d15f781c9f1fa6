//! A link to Redis that can go deaf: connections that stay open, and over which nothing arrives any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use testkit::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Between a gateway and its Redis. Dropping it closes every connection.
pub struct Link {
    port: u16,
    /// Set by a test: connections that have subscribed by then carry nothing to the gateway any more.
    muted: Arc<std::sync::Mutex<Vec<Arc<AtomicBool>>>>,
    _accept: JoinSet<()>,
}

impl Link {
    pub async fn to(redis: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let muted: Arc<std::sync::Mutex<Vec<Arc<AtomicBool>>>> = Arc::default();
        let (server, subscribers) = (redis.port(), muted.clone());
        let mut accept = JoinSet::new();
        accept.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                connections.spawn(carry(client, server, subscribers.clone()));
            }
        });
        Self { port, muted, _accept: accept }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on what subscribers are told does not arrive. Returns how many there are.
    pub fn mute_subscribers(&self) -> usize {
        let subscribers = std::mem::take(&mut *self.muted.lock().unwrap());
        subscribers.iter().for_each(|muted| muted.store(true, Ordering::Relaxed));
        subscribers.len()
    }
}

async fn carry(client: TcpStream, server: TcpStream, subscribers: Arc<std::sync::Mutex<Vec<Arc<AtomicBool>>>>) {
    let muted = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut bytes = vec![0; 64 << 10];
        let mut known = false;
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if !known && bytes[..count].windows(9).any(|window| window == b"SUBSCRIBE") {
                subscribers.lock().unwrap().push(muted.clone());
                known = true;
            }
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if !muted.load(Ordering::Relaxed) && to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
