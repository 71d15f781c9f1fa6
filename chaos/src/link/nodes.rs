//! What one process sees of the nodes of a Redis Cluster: all that they say, with places of its own for theirs where they say who
//! is there. Nothing else is touched, whatever bytes it may hold, and nothing that is complete waits for what comes next.

use std::io;

use testkit::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Length of a node's name, which stands before its place.
const NAME: usize = 40;
/// How CLUSTER NODES writes a place, with `_` for each digit of the port.
const PLACE: &[u8] = b" 127.0.0.1:_____@";
/// Where the port is in it.
const PORT: std::ops::Range<usize> = 11..16;

/// One listener before each node's proxy.
pub(super) struct Nodes {
    /// Ports, in the nodes' order.
    pub(super) ports: Vec<u16>,
    pub(super) accepting: JoinSet<()>,
}

impl Nodes {
    /// `servers`: their ports, each with the proxy to it.
    pub(super) async fn of(servers: &[u16], proxies: &[Proxy]) -> io::Result<Self> {
        let (mut ports, mut listeners) = (Vec::new(), Vec::new());
        for _ in servers {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ports.push(listener.local_addr()?.port());
            listeners.push(listener);
        }
        let seen: Vec<(u16, u16)> = servers.iter().copied().zip(ports.iter().copied()).collect();
        let mut accepting = JoinSet::new();
        for (listener, proxy) in listeners.into_iter().zip(proxies) {
            accepting.spawn(serve(listener, proxy.port(), seen.clone()));
        }
        Ok(Self { ports, accepting })
    }
}

async fn serve(listener: TcpListener, proxy: u16, seen: Vec<(u16, u16)>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                connections.spawn(carry(client, proxy, seen.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until either side ends it. A reset of one side is one of the other.
async fn carry(mut client: TcpStream, proxy: u16, seen: Vec<(u16, u16)>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", proxy)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let carried = tokio::select! {
        carried = copy(&mut from_client, &mut to_server) => carried.map(drop),
        carried = show(from_server, to_client, Shown::new(seen)) => carried,
    };
    if carried.is_err() {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn show(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut shown: Shown) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return to.write_all(&shown.rest()).await;
        }
        to.write_all(&shown.next(&bytes[..count])).await?;
    }
}

/// What a node says, in pieces as they come.
struct Shown {
    /// Ports of servers, and what is shown in their place, each of five digits, so that no length of an answer changes.
    seen: Vec<(u16, u16)>,
    /// The end of what was shown, no more than a name, and then what waits.
    bytes: Vec<u8>,
    /// How much of that was shown.
    told: usize,
}

impl Shown {
    fn new(seen: Vec<(u16, u16)>) -> Self {
        Self { seen, bytes: Vec::new(), told: 0 }
    }

    /// What can be shown now that these came. What waits is the beginning of a place at the very end: no answer of Redis ends so, and
    /// nobody can do anything with a part of one.
    fn next(&mut self, more: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(more);
        let mut at = self.told;
        while let Some(found) = self.bytes[at..].iter().position(|byte| *byte == PLACE[0]) {
            at += found;
            let port = self.bytes.get(at..at + PLACE.len()).filter(|place| begins_place(place));
            if let Some(to) = port.filter(|_| self.follows_name(at)).and_then(|place| self.instead(&place[PORT])) {
                self.bytes[at..][PORT].copy_from_slice(to.as_bytes());
            }
            at += 1;
        }
        let tail = (1..PLACE.len()).rev().find(|count| self.ends_in_place(*count)).unwrap_or_default();
        self.show(self.bytes.len() - tail)
    }

    /// What waited, for nothing comes any more.
    fn rest(&mut self) -> Vec<u8> {
        self.show(self.bytes.len())
    }

    fn show(&mut self, to: usize) -> Vec<u8> {
        let shown = self.bytes[self.told..to].to_vec();
        self.told = to.min(NAME);
        self.bytes.drain(..to - self.told);
        shown
    }

    fn follows_name(&self, at: usize) -> bool {
        let name = at.checked_sub(NAME).and_then(|from| self.bytes.get(from..at));
        name.is_some_and(|name| name.iter().all(u8::is_ascii_hexdigit))
    }

    fn instead(&self, port: &[u8]) -> Option<String> {
        let is = |server: u16| port == server.to_string().as_bytes();
        self.seen.iter().find(|(server, _)| is(*server)).map(|(_, shown)| shown.to_string())
    }

    /// Whether the last bytes, so many, are the beginning of a place, and were not shown.
    fn ends_in_place(&self, count: usize) -> bool {
        let from = self.bytes.len().checked_sub(count).filter(|from| *from >= self.told);
        from.is_some_and(|from| begins_place(&self.bytes[from..]))
    }
}

fn begins_place(bytes: &[u8]) -> bool {
    let is = |(byte, wanted): (&u8, &u8)| if *wanted == b'_' { byte.is_ascii_digit() } else { byte == wanted };
    bytes.iter().zip(PLACE).all(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: [(u16, u16); 2] = [(15_001, 40_001), (15_002, 40_002)];

    fn shown(text: &[u8], piece: usize) -> Vec<u8> {
        let mut shown = Shown::new(SEEN.to_vec());
        let mut all: Vec<u8> = text.chunks(piece).flat_map(|piece| shown.next(piece)).collect();
        all.extend(shown.rest());
        all
    }

    fn answer(ports: [u16; 3]) -> Vec<u8> {
        let name = "0123456789abcdef0123456789abcdef01234567";
        let [one, two, three] = ports;
        let text = format!(
            "{name} 127.0.0.1:{one}@{one},, myself,master - 0 0 1 connected 0-5 [7->-{name}]\n\
             {name} 127.0.0.1:{two}@9,host slave {name} 0 0 1 connected\n{name} 127.0.0.1:{three}@15001 master - 0\n"
        );
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    #[test]
    fn places_of_nodes_are_shown_as_those_of_ours_in_whatever_pieces_they_come() {
        let expected = answer([40_001, 40_002, 15_003]);
        for piece in 1..=expected.len() {
            // The bus's port is nobody's business, and follows an `@`.
            let text = answer([15_001, 15_002, 15_003]);
            let got = String::from_utf8(shown(&text, piece)).unwrap();
            let bus = String::from_utf8(expected.clone()).unwrap().replace("40001@40001", "40001@15001");
            assert_eq!(got, bus, "in pieces of {piece}");
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(3 << 10).collect();
        bytes.extend(b" 127.0.0.1:15001@ at 127.0.0.1:15002@1, 0123 127.0.0.1:15001@\r\n-MOVED 7 127.0.0.1:15001\r\n");
        bytes.extend(b"0123456789abcdefX123456789abcdef01234567 127.0.0.1:15001@");
        for piece in [1, 2, 7, 40, 57, bytes.len()] {
            assert_eq!(shown(&bytes, piece), bytes, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_complete_does_not_wait() {
        let mut shown = Shown::new(SEEN.to_vec());
        for text in ["+OK\r\n", "$3\r\na b\r\n", "$11\r\n 127.0.0.1:\r\n", "-MOVED 7 127.0.0.1:15001\r\n", ":1\r\n"] {
            assert_eq!(shown.next(text.as_bytes()), text.as_bytes());
        }
        assert_eq!(shown.next(b"a 127.0.0.1:1"), b"a");
        assert_eq!(shown.next(b"x"), b" 127.0.0.1:1x");
    }
}
