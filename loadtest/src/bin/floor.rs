//! `sse-floor`: the least that this kernel lets anybody spend on a delivery, to hold servers against.
//!
//! For every payload on Redis channel `bench` that begins with `@`, one prepared chunk goes to every socket by one `send()` each,
//! from one thread; another one accepts. It keeps nothing for a reader that is slow: what a full socket does not take is lost,
//! so judge it at rates at which nothing backs up. It must not grow features: whatever it does more, it costs more.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;

/// The one channel there is, as Redis has it.
const CHANNEL: &str = "bench";
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
/// A request's head has to come in one piece, and at once: others wait to be accepted meanwhile.
const HEAD_WITHIN: Duration = Duration::from_secs(2);
const HEAD_BYTES: usize = 4096;

/// A baseline: one send() for each connection and event, and nothing else. Any GET is answered with the event stream of Redis channel `bench`.
#[derive(Debug, Parser)]
#[command(name = "sse-floor", version)]
struct Args {
    /// Address to accept event streams on
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Redis to hear channel `bench` of
    #[arg(long, value_name = "ADDRESS:PORT")]
    redis: SocketAddr,
}

fn main() -> ExitCode {
    let error = match run(&Args::parse()) {
        Ok(()) => "Redis closed the connection".to_owned(),
        Err(error) => error,
    };
    // Nobody there to read it: the code still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

/// Runs until Redis goes.
fn run(args: &Args) -> Result<(), String> {
    // What the limit is then, the first connection beyond it tells.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let listener = TcpListener::bind(args.listen);
    let listener = listener.map_err(|error| format!("listen: cannot listen on {}: {error}", args.listen))?;
    let redis = |error| format!("redis: {} cannot be heard: {error}", args.redis);
    let client = redis::Client::open(format!("redis://{}", args.redis)).map_err(redis)?;
    let mut connection = client.get_connection_with_timeout(HEAD_WITHIN).map_err(redis)?;
    let mut heard = connection.as_pubsub();
    heard.subscribe(CHANNEL).map_err(redis)?;

    // Written by the thread that accepts, gone through by the one that sends; a socket leaves when its peer has gone.
    let sockets = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| accept(&listener, &sockets));
        loop {
            let message = heard.get_message().map_err(redis)?;
            let payload = message.get_payload_bytes();
            if payload.starts_with(b"@") {
                send(&mut sockets.lock().unwrap_or_else(PoisonError::into_inner), &chunk(payload));
            }
        }
    })
}

/// Answers each connection's request, whatever it asks for.
fn accept(listener: &TcpListener, sockets: &Mutex<Vec<TcpStream>>) {
    for socket in listener.incoming() {
        // One that is gone again, or was one too many, is missed by its client alone.
        if let Ok(socket) = socket.and_then(answer) {
            sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        }
    }
}

fn answer(mut socket: TcpStream) -> std::io::Result<TcpStream> {
    socket.set_read_timeout(Some(HEAD_WITHIN))?;
    let mut head = [0; HEAD_BYTES];
    if socket.read(&mut head)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    socket.write_all(HEAD)?;
    socket.set_nodelay(true)?;
    // From here on `write` is one `send()` that never waits.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An event as it goes over the wire: a chunk of its own. Line breaks in the data are not looked for.
fn chunk(payload: &[u8]) -> Vec<u8> {
    let event = [b"data:", payload, b"\n\n"].concat();
    [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat()
}

/// One `send()` for each socket. A socket that takes nothing misses the event; one that takes a part of it is closed, since
/// nothing that follows would be understood.
fn send(sockets: &mut Vec<TcpStream>, chunk: &[u8]) {
    sockets.retain_mut(|socket| match socket.write(chunk) {
        Ok(taken) => taken == chunk.len(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_its_length_in_hex() {
        assert_eq!(chunk(b"@1,2,bench;......."), b"19\r\ndata:@1,2,bench;.......\n\n\r\n");
    }

    #[test]
    fn whoever_takes_all_of_it_or_nothing_stays_and_whoever_left_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            (client, answer(listener.accept().unwrap().0).unwrap())
        };
        let ((mut stays, first), (_full, mut second), (leaves, third)) = (connect(), connect(), connect());
        // Full to the last byte, so that not even a part of the chunk finds room.
        for size in [1 << 16, 1] {
            while second.write(&vec![b'.'; size]).is_ok() {}
        }
        drop(leaves);
        let mut sockets = vec![first, second, third];
        // The first one to a peer that has gone is answered by a reset, which the ones after it see.
        while sockets.len() == 3 {
            send(&mut sockets, b"1\r\nx\r\n");
        }
        assert_eq!(sockets.len(), 2);
        let mut heard = vec![0; HEAD.len() + 6];
        stays.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [HEAD, b"1\r\nx\r\n"].concat());
    }
}
