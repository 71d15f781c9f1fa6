//! The sockets that gateway and publisher listen on: how they are bound, how many there may be, how one is written to and
//! closed.
//!
//! | item | what it does |
//! |---|---|
//! | [`bind`], [`describe`], [`max_sockets`] | before anything is served |
//! | [`is_about_one_peer`] | while accepting |
//! | [`set_options`], [`TimedStream`] | one socket |
//! | [`Peer`], [`RequestBody`] | what is known of the requests on it |
//! | [`Tls`], [`ClientStream`] | the same socket behind TLS, and either as one type |
//! | [`PeerAddress`], [`Proxies`], [`ClientAddress`] | where a request comes from |
//!
//! It must not know any route or HTTP version, own a task, or log: whoever accepts does all of that.

mod client;
mod peer;
mod socket;
mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

pub use self::client::{ClientAddress, ForwardedHeader, PeerAddress, Proxies};
pub use self::peer::{Answering, Peer, RequestBody};
pub use self::socket::TimedStream;
pub use self::tls::{ClientStream, HANDSHAKE_TIMEOUT, Tls, TlsError, TlsSettings};

/// Where the system has no user timeout, TCP keep-alive probes find a peer that is gone while nothing is written.
#[cfg(not(target_os = "linux"))]
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Bytes of a socket that the system holds beyond what the network has room for: two of an event stream's largest writes.
/// Without it a reader that reads nothing is given megabytes of the system's memory, which are of no use to it and cost all
/// others time; what is unread is better kept once, in a channel's log.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Binds `address`; up to `backlog` sockets may wait to be accepted, as far as the system allows (`net.core.somaxconn`). The
/// listener belongs to no runtime yet, so that a port that is taken is found before anything starts.
///
/// # Errors
/// Those of the system; most often that the port is taken. [`describe`] has words for them.
pub fn bind(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart does not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Why [`bind`] failed, in words.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted (ports below 1024 belong to root)".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// As many sockets as the open file limit allows beside `reserved` files, or half of a very low limit; at least one.
#[must_use]
pub fn max_sockets(reserved: u64) -> usize {
    let files = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    usize::try_from(beside(reserved, files)).unwrap_or(usize::MAX)
}

fn beside(reserved: u64, files: u64) -> u64 {
    if files > 2 * reserved { files - reserved } else { (files / 2).max(1) }
}

/// What is written leaves at once, and a peer that is gone is noticed. On Linux after `write_timeout`; there, too, a socket is
/// full when 128 KiB wait for a peer that does not read.
///
/// On Linux there are no TCP keep-alive probes: with a user timeout, a connection that has been silent for longer than that is
/// given up as soon as one probe, or its answer, is lost, as on a phone, or where very many are due at once. What is written is
/// repeated until the timeout; every server here writes, or has a deadline.
///
/// # Errors
/// Those of the system.
pub fn set_options(socket: &impl AsFd, write_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(write_timeout))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = write_timeout;
        let probes = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE / 4);
        socket.set_tcp_keepalive(&probes)?;
    }
    Ok(())
}

/// Whether an `error` of accepting is about one peer, so that the next one can be accepted at once.
#[must_use]
pub fn is_about_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Together they end a silent connection at the first probe that is lost.
    #[cfg(target_os = "linux")]
    #[test]
    fn no_probes_beside_a_user_timeout() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        set_options(&socket, Duration::from_secs(30)).unwrap();
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        assert!(!socket.keepalive().unwrap());
    }

    #[test]
    fn a_port_that_is_taken_is_said_to_be() {
        let taken = bind(([127, 0, 0, 1], 0).into(), 1).unwrap();
        let error = bind(taken.local_addr().unwrap(), 1).unwrap_err();
        assert_eq!(describe(&error), "the port is taken");
        let error = bind(([192, 0, 2, 1], 0).into(), 1).unwrap_err();
        assert_eq!(describe(&error), "this machine has no such address");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_reader_that_reads_nothing_is_given_little_of_the_systems_memory() {
        use std::io::Write as _;

        let listener = bind(([127, 0, 0, 1], 0).into(), 1).unwrap();
        set_options(&listener, Duration::from_secs(30)).unwrap();
        let reader = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        reader.set_recv_buffer_size(4 << 10).unwrap();
        reader.connect(&listener.local_addr().unwrap().into()).unwrap();
        // What the listener has is inherited.
        let mut socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let (event, mut taken) = ([b'x'; 4 << 10], 0);
        while let Ok(sent) = socket.write(&event) {
            taken += sent;
        }
        assert!((128 << 10..512 << 10).contains(&taken), "{taken} bytes");
    }

    #[test]
    fn sockets_leave_files_for_the_rest() {
        for (files, sockets) in [(0, 1), (1, 1), (3, 1), (100, 50), (128, 64), (129, 65), (1_024, 960)] {
            assert_eq!(beside(64, files), sockets, "{files} files");
        }
    }
}
