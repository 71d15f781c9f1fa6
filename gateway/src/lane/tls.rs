//! Sockets of a port that speaks TLS: the handshake, then the hyper lane.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::accept::SocketPlace;
use super::hyper::HyperLane;
use super::serve::TlsPort;
use super::transport::Transport;

impl HyperLane {
    /// Serves a socket, from its handshake until its connection ends. That takes its place among the sockets from the
    /// beginning, so that handshakes under way are bounded too. A stop ends a handshake at once: nothing was asked yet.
    /// Called in a runtime.
    pub(super) fn take_tls(self: &Arc<Self>, port: TlsPort, socket: TcpStream, place: SocketPlace) {
        let lane = self.clone();
        self.tasks().spawn(async move {
            let _place = place;
            let address = socket.peer_addr().ok();
            let transport = Transport::new(lane.write_timeout());
            let accepted = tokio::select! {
                () = lane.stopped() => return,
                accepted = port.tls.accept(socket, transport.peer().clone(), lane.write_timeout()) => accepted,
            };
            match accepted {
                Ok(stream) => lane.serve(stream, None, None, transport, address).await,
                Err(error) => {
                    port.failed.increment(1);
                    tracing::debug!(peer = ?address, %error, "no TLS on a connection");
                }
            }
        });
    }
}
