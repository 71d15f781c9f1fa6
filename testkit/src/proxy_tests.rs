//! Each way to spoil a link, against an echo server.

use super::*;
use crate::patience::{eventually, soon};

/// An echo server, a proxy before it, and a client behind that.
struct Setup {
    proxy: Proxy,
    echo: JoinSet<()>,
}

impl Setup {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut echo = JoinSet::new();
        echo.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Self { proxy: Proxy::to(port).await, echo }
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.proxy.port())).await.unwrap()
    }
}

async fn ask(client: &mut TcpStream, text: &str) -> io::Result<String> {
    client.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    soon("the answer", client.read_exact(&mut answer)).await?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Whether nothing comes for so long. That nothing happens cannot be waited for otherwise.
async fn silent(client: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await.is_err()
}

#[tokio::test]
async fn it_passes_and_delays_bytes_in_order() {
    let setup = Setup::start().await;
    let mut client = setup.client().await;
    assert_eq!(ask(&mut client, "hello").await.unwrap(), "hello");
    setup.proxy.delay(Duration::from_millis(60));
    let asked = Instant::now();
    client.write_all(b"one ").await.unwrap();
    assert_eq!(ask(&mut client, "two").await.unwrap(), "one");
    assert!(asked.elapsed() >= Duration::from_millis(120), "{:?}", asked.elapsed());
    let large = "x".repeat(300_000);
    setup.proxy.pass();
    client.read_exact(&mut [0; 4]).await.unwrap();
    assert_eq!(ask(&mut client, &large).await.unwrap(), large);
    assert_eq!(setup.proxy.swallowed(), 0);
}

#[tokio::test]
async fn a_blackhole_tells_of_nothing_and_is_for_good() {
    let mut setup = Setup::start().await;
    let mut before = setup.client().await;
    assert_eq!(ask(&mut before, "hello").await.unwrap(), "hello");
    setup.proxy.blackhole();
    before.write_all(b"lost").await.unwrap();
    let mut within = setup.client().await;
    within.write_all(b"lost too").await.unwrap();
    eventually("swallowed", async || (setup.proxy.swallowed() == 12).then_some(())).await;
    setup.proxy.pass();
    before.write_all(b"lost").await.unwrap();
    setup.echo.shutdown().await;
    assert!(silent(&mut before).await && silent(&mut within).await, "not even the end of the server is told");
    assert!(setup.client().await.read_u8().await.is_err(), "the server is away");
}

#[tokio::test]
async fn a_stalled_server_is_heard_later() {
    let setup = Setup::start().await;
    let mut client = setup.client().await;
    assert_eq!(ask(&mut client, "hello").await.unwrap(), "hello");
    setup.proxy.stall();
    client.write_all(b"held").await.unwrap();
    assert!(silent(&mut client).await);
    setup.proxy.pass();
    let mut answer = [0; 4];
    soon("what was held", client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"held");
}

#[tokio::test]
async fn a_reset_is_one_and_leaves_new_connections_alone() {
    let setup = Setup::start().await;
    let mut client = setup.client().await;
    assert_eq!(ask(&mut client, "hello").await.unwrap(), "hello");
    assert_eq!(setup.proxy.reset(), 1);
    let ended = soon("the reset", client.read_u8()).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ask(&mut setup.client().await, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn subscribers_alone_go_deaf() {
    let setup = Setup::start().await;
    let (mut subscriber, mut other) = (setup.client().await, setup.client().await);
    assert_eq!(setup.proxy.deafen_subscribers(), 0);
    ask(&mut subscriber, "SUBSCRIBE x").await.unwrap();
    ask(&mut other, "PING").await.unwrap();
    assert_eq!(setup.proxy.deafen_subscribers(), 1);
    subscriber.write_all(b"PING").await.unwrap();
    assert!(silent(&mut subscriber).await);
    assert_eq!(ask(&mut other, "PING").await.unwrap(), "PING");
}

#[tokio::test]
async fn it_points_elsewhere() {
    let (mut setup, other) = (Setup::start().await, Setup::start().await);
    let mut before = setup.client().await;
    assert_eq!(ask(&mut before, "hello").await.unwrap(), "hello");
    setup.proxy.point_to(other.proxy.port());
    setup.echo.shutdown().await;
    assert_eq!(ask(&mut setup.client().await, "there").await.unwrap(), "there");
    assert!(soon("the end", before.read_u8()).await.is_err());
}
