//! A socket that connects while others are read, from a source address that has ports left. It must not know HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Receive buffer of a connection that reads nothing, in bytes: a large one would take minutes of events before the server
/// felt it.
const STUCK_BUFFER: usize = 4 * 1024;

/// Begins to connect to `address`, from `source` if given. It has connected, or failed, when the socket is writable.
pub(super) fn connect(address: SocketAddr, source: Option<IpAddr>, stuck: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if stuck {
        socket.set_recv_buffer_size(STUCK_BUFFER)?;
    }
    if let Some(source) = source {
        share_ports(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The port is chosen at connect: one that is taken towards another server will do.
#[cfg(target_os = "linux")]
fn share_ports(socket: &Socket) -> io::Result<()> {
    Ok(nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?)
}

/// Elsewhere each source address has its ports once.
#[cfg(not(target_os = "linux"))]
fn share_ports(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_connection_comes_from_its_source_address_and_shares_ports() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect(listener.local_addr().unwrap(), Some("127.0.3.2".parse().unwrap()), false).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.3.2");
        let option = nix::sys::socket::sockopt::IpBindAddressNoPort;
        assert!(nix::sys::socket::getsockopt(&socket.as_fd(), option).unwrap());
    }
}
