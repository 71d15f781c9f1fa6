//! What lies between one process and Redis: a proxy for each server it may be led to, and where Sentinels or the nodes of a cluster
//! lead, its own view of them.

mod nodes;

use std::io;
use std::time::Duration;

use testkit::Proxy;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::nodes::Nodes;
use crate::store::{Store, Way};

/// All connections of one process to Redis. What is done to it is done to all of them.
pub struct Link {
    /// One for each server.
    proxies: Vec<Proxy>,
    url: String,
    partitions: u16,
    /// What the process sees of whoever leads it.
    _seen: JoinSet<()>,
}

impl Link {
    /// To the store's servers, which have so many partitions.
    ///
    /// # Errors
    /// There is no port for it.
    pub async fn to(store: &Store, partitions: u16) -> Result<Self, String> {
        let no_port = |error: io::Error| format!("there is no port: {error}");
        let (url, seen, proxies);
        match store.way() {
            Way::Ours(port) => {
                proxies = to_each(&[port]).await;
                (url, seen) = (proxies.iter().map(Proxy::url).collect(), JoinSet::new());
            }
            Way::Sentinels(sentinels, servers, name) => {
                proxies = to_each(&servers).await;
                let shown = servers.into_iter().zip(proxies.iter().map(Proxy::port)).collect();
                let view = View::of(&sentinels, shown).await.map_err(no_port)?;
                url = format!("redis+sentinel://{}/{name}", view.places.join(","));
                seen = view.accepting;
            }
            Way::Nodes(ports) => {
                proxies = to_each(&ports).await;
                let nodes = Nodes::of(&ports, &proxies).await.map_err(no_port)?;
                let places: Vec<_> = nodes.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
                url = format!("redis+cluster://{}", places.join(","));
                seen = nodes.accepting;
            }
        }
        Ok(Self { proxies, url, partitions, _seen: seen })
    }

    /// For the process.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads to the store's present primary from now on. Where others lead, they do.
    pub fn follow(&self, store: &Store) {
        if let Way::Ours(port) = store.way() {
            self.proxies.iter().for_each(|proxy| proxy.point_to(port));
        }
    }

    /// How many partitions there are, for the process.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// See [`Proxy::pass`].
    pub fn pass(&self) {
        self.proxies.iter().for_each(Proxy::pass);
    }

    /// See [`Proxy::delay`].
    pub fn delay(&self, by: Duration) {
        self.proxies.iter().for_each(|proxy| proxy.delay(by));
    }

    /// See [`Proxy::blackhole`].
    pub fn blackhole(&self) {
        self.proxies.iter().for_each(Proxy::blackhole);
    }

    /// See [`Proxy::stall`].
    pub fn stall(&self) {
        self.proxies.iter().for_each(Proxy::stall);
    }

    /// See [`Proxy::reset`].
    pub fn reset(&self) -> usize {
        self.proxies.iter().map(Proxy::reset).sum()
    }

    /// See [`Proxy::deafen_subscribers`].
    pub fn deafen_subscribers(&self) -> usize {
        self.proxies.iter().map(Proxy::deafen_subscribers).sum()
    }

    /// See [`Proxy::swallowed`].
    #[must_use]
    pub fn swallowed(&self) -> u64 {
        self.proxies.iter().map(Proxy::swallowed).sum()
    }
}

async fn to_each(servers: &[u16]) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for server in servers {
        proxies.push(Proxy::to(*server).await);
    }
    proxies
}

/// What one process sees of the Sentinels: all that they say, with its own proxies in the place of the servers.
struct View {
    places: Vec<String>,
    accepting: JoinSet<()>,
}

impl View {
    /// `seen`: the ports of servers, and what is seen in their place, each of five digits, so that no length of an answer changes.
    async fn of(sentinels: &[u16], seen: Vec<(u16, u16)>) -> io::Result<Self> {
        let (mut places, mut accepting) = (Vec::new(), JoinSet::new());
        for sentinel in sentinels.iter().copied() {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            places.push(listener.local_addr()?.to_string());
            let seen = seen.clone();
            accepting.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    connections.spawn(look(client, sentinel, seen.clone()));
                }
            });
        }
        Ok(Self { places, accepting })
    }
}

/// One connection, until either side ends it.
async fn look(mut client: TcpStream, sentinel: u16, seen: Vec<(u16, u16)>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", sentinel)).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let answers = async {
        let (mut answers, mut line) = (BufReader::new(from_server), Vec::new());
        // An answer is lines: a port is one by itself.
        while answers.read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
            let sent = to_client.write_all(&shown(&line, &seen)).await;
            line.clear();
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}

fn shown(line: &[u8], seen: &[(u16, u16)]) -> Vec<u8> {
    let is = |port: u16| line == format!("{port}\r\n").as_bytes();
    match seen.iter().find(|(server, _)| is(*server)) {
        Some((_, proxy)) => format!("{proxy}\r\n").into_bytes(),
        None => line.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_servers_are_shown_as_those_of_proxies() {
        let seen = [(15_001, 40_001), (15_002, 40_002)];
        for (line, expected) in [
            ("15001\r\n", "40001\r\n"),
            ("15002\r\n", "40002\r\n"),
            ("15003\r\n", "15003\r\n"),
            ("$5\r\n", "$5\r\n"),
            ("127.0.0.1\r\n", "127.0.0.1\r\n"),
            ("15001", "15001"),
        ] {
            assert_eq!(shown(line.as_bytes(), &seen), expected.as_bytes(), "{line:?}");
        }
    }
}
