//! A client's side of TLS: one connection, or a port that turns plain connections into TLS ones, so that whatever speaks
//! plain HTTP can be pointed at a server that does not.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;

use crate::patience::soon;

/// What a client is set to that trusts the authority in `ca`, a PEM file, and asks for `protocols` by ALPN. It comes back to
/// no session of before.
///
/// # Panics
/// When the file cannot be used.
#[must_use]
pub fn tls_client(ca: &Path, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&std::fs::read(ca).unwrap()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = versions.with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Connects to `address` as `localhost`.
///
/// # Errors
/// Those of the connection and of the handshake.
pub async fn tls_connect(address: &str, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    handshake(TcpStream::connect(address).await?, config).await
}

async fn handshake(socket: TcpStream, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    socket.set_nodelay(true)?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

/// A port on this machine, of which every connection is one by TLS to a server. What is closed, or half closed, on one side
/// is on the other. Dropping it ends all of them.
pub struct TlsTunnel {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl TlsTunnel {
    /// To `server`, `host:port`; see [`tls_client`].
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(server: &str, ca: &Path, protocols: &[&str]) -> Self {
        Self::start_from(IpAddr::from([127, 0, 0, 1]), server, ca, protocols).await
    }

    /// The same, to a server to which every connection is to come from the address `from`, of 127.0.0.0/8.
    ///
    /// # Panics
    /// When there is no port, or `server` is no address with a port.
    pub async fn start_from(from: IpAddr, server: &str, ca: &Path, protocols: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, config) = (server.parse::<SocketAddr>().unwrap(), tls_client(ca, protocols));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((mut plain, _)) = listener.accept().await else { continue };
                let config = config.clone();
                connections.spawn(async move {
                    let _ = plain.set_nodelay(true);
                    // Whatever goes wrong shows on the plain side as the end of its connection.
                    let connecting = async { handshake(connect_from(from, server).await?, config).await };
                    if let Ok(mut by_tls) = soon("a TLS handshake", connecting).await {
                        let _ = copy_bidirectional(&mut plain, &mut by_tls).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, _tasks: tasks }
    }

    /// `host:port` of the plain port.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

async fn connect_from(from: IpAddr, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(server).await
}
