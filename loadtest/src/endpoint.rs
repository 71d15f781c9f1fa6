//! From a URL to TCP connections: which address answers, and which source address has ports left. It must not know HTTP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::args::Target;

/// How long one connect, and one request's response head, may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that one source address carries, well below the 28,232 ephemeral ports that Linux has by default.
const PER_SOURCE: usize = 20_000;
/// Ephemeral ports by default on Linux (`net.ipv4.ip_local_port_range`): where only one source address can be had, the
/// bound on connections to one destination.
const EPHEMERAL_PORTS: usize = 28_000;

/// A server that answers.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The address of it that accepted a connection.
    pub(crate) address: SocketAddr,
    /// Value of the `Host` header.
    pub(crate) authority: String,
}

impl Endpoint {
    /// Resolves the host and tries its addresses in turn, since `localhost` often has two and servers listen on one.
    pub(crate) async fn find(target: &Target) -> Result<Self, String> {
        let name = &target.authority;
        let lookup = timeout(CONNECT_TIMEOUT, lookup_host((target.host.as_str(), target.port))).await;
        let lookup = lookup.map_err(|_| format!("cannot resolve {name} within {CONNECT_TIMEOUT:?}"))?;
        let addresses = lookup.map_err(|error| format!("cannot resolve {name}: {error}"))?;
        let mut reason = "it has no address".to_owned();
        for address in addresses {
            match connect(address, None).await {
                Ok(_probe) => return Ok(Self { address, authority: name.clone() }),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(format!("cannot connect to http://{name}: {reason}"))
    }
}

/// Opens a TCP connection, from `source` if given, within [`CONNECT_TIMEOUT`].
pub(crate) async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let connecting = timeout(CONNECT_TIMEOUT, socket.connect(address)).await;
    connecting.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT_TIMEOUT:?}")))?
}

/// The source address of connection number `index` of `connections`: all of 127.0.0.0/8 is this machine, so a large fleet
/// takes a fresh 127.0.0.x every 20,000 connections; `None` leaves the choice to the system.
pub(crate) fn source(address: SocketAddr, index: usize, connections: usize) -> Option<IpAddr> {
    let IpAddr::V4(destination) = address.ip() else { return None };
    if !destination.is_loopback() || connections <= PER_SOURCE {
        return None;
    }
    let last = u8::try_from(1 + index / PER_SOURCE).ok()?;
    Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
}

/// Says why `connections`, spread evenly over `endpoints`, cannot all have a source port; the error gives the limit.
pub(crate) fn check_ports(endpoints: &[Endpoint], connections: usize) -> Result<(), String> {
    let each = connections.div_ceil(endpoints.len().max(1));
    for endpoint in endpoints {
        let address = endpoint.address;
        if source(address, 0, connections).is_none() && each > EPHEMERAL_PORTS {
            return Err(format!(
                "{each} of them to {address} need more than the {EPHEMERAL_PORTS} ports that one source address has; \
                 use an address in 127.0.0.0/8 or spread them over more --url"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint { address: address.parse().unwrap(), authority: address.to_owned() }
    }

    #[test]
    fn a_large_fleet_on_loopback_spreads_over_source_addresses() {
        let address = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(source(address, 19_999, 20_000), None);
        let last_byte = |index| match source(address, index, 1_000_000) {
            Some(IpAddr::V4(ip)) => ip.octets()[3],
            other => panic!("{other:?}"),
        };
        assert_eq!((last_byte(0), last_byte(19_999), last_byte(20_000), last_byte(999_999)), (1, 1, 2, 50));
    }

    #[test]
    fn elsewhere_there_is_one_source_address_and_a_limit() {
        for address in ["[::1]:8080", "192.0.2.1:8080"] {
            assert_eq!(source(address.parse().unwrap(), 30_000, 40_000), None);
            assert!(check_ports(&[endpoint(address)], 28_000).is_ok());
            assert!(check_ports(&[endpoint(address)], 28_001).unwrap_err().contains("28000 ports"));
            assert!(check_ports(&[endpoint(address), endpoint(address)], 56_000).is_ok());
        }
        assert!(check_ports(&[endpoint("127.0.0.1:8080")], 200_000).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_comes_from_its_source_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let source = source(address, PER_SOURCE, PER_SOURCE + 1);
        let (connected, accepted) = tokio::join!(connect(address, source), listener.accept());
        assert!(connected.is_ok());
        assert_eq!(accepted.unwrap().1.ip().to_string(), "127.0.0.2");
    }

    #[tokio::test]
    async fn a_closed_port_is_told_with_its_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target: Target = format!("http://localhost:{port}").parse().unwrap();
        assert_eq!(Endpoint::find(&target).await.unwrap().address.port(), port);
        drop(listener);
        let error = Endpoint::find(&target).await.unwrap_err();
        assert!(error.starts_with(&format!("cannot connect to http://localhost:{port}: ")), "{error}");
    }
}
