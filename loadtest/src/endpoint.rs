//! From a host's name to the address of it that answers. It must not know what is spoken there.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::target::Authority;

/// How long a name or a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Resolves the host and tries its addresses in turn, since `localhost` often has two and servers listen on one.
pub(crate) async fn find(authority: &Authority) -> Result<SocketAddr, String> {
    let name = &authority.text;
    let lookup = timeout(CONNECT_TIMEOUT, lookup_host((authority.host.as_str(), authority.port))).await;
    let lookup = lookup.map_err(|_| format!("cannot resolve {name} within {CONNECT_TIMEOUT:?}"))?;
    let addresses = lookup.map_err(|error| format!("cannot resolve {name}: {error}"))?;
    let mut reason = "it has no address".to_owned();
    for address in addresses {
        match connect(address).await {
            Ok(_probe) => return Ok(address),
            Err(error) => reason = error,
        }
    }
    Err(format!("cannot connect to {name}: {reason}"))
}

/// Connects within [`CONNECT_TIMEOUT`]; small writes leave at once.
pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connecting.map_err(|_| format!("no answer within {CONNECT_TIMEOUT:?}"))?;
    let stream = stream.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_told_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority { host: "localhost".to_owned(), port, text: format!("localhost:{port}") };
        assert_eq!(find(&authority).await.unwrap().port(), port);
        drop(listener);
        let error = find(&authority).await.unwrap_err();
        assert!(error.starts_with(&format!("cannot connect to localhost:{port}: ")), "{error}");
    }
}
