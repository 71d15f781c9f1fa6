//! Accepts sockets and gives each to a lane.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use shared::net::{is_about_one_peer, set_options};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::direct::{Arrival, DirectLane};
use super::hyper::{Handed, HyperLane};
use super::serve::{Peers, TlsPort};
use crate::connection::AddressPlace;

/// Sockets that may wait to be accepted, as far as the system allows (`net.core.somaxconn`): a whole node's clients come at
/// once when another one fails.
const BACKLOG: i32 = 4_096;
/// Linux gives sockets that are accepted their listener's options, which saves five calls for each.
const INHERITED: bool = cfg!(target_os = "linux");
/// Clients that come within so short a time are accepted together, since each wake-up costs more than an accept.
const TOGETHER: Duration = Duration::from_millis(2);
/// Between attempts to accept after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket's place among those that there may be, and among those of its peer. Given back on drop.
#[derive(Debug)]
#[allow(dead_code)] // held for their drop
pub(super) struct SocketPlace {
    _permit: OwnedSemaphorePermit,
    /// Boxed, since most have none, and each socket holds it.
    peer: Option<Box<AddressPlace>>,
}

impl SocketPlace {
    /// Of a socket whose peer is not counted.
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, peer: None }
    }
}

/// Binds `address`, see [`shared::net::bind`].
///
/// # Errors
/// Those of the system; most often that the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    shared::net::bind(address, BACKLOG)
}

/// Where sockets go.
pub(super) struct Lanes {
    /// Has all of them first, where there is one, and leaves what it does not serve to the other.
    pub(super) direct: Option<DirectLane>,
    pub(super) hyper: Arc<HyperLane>,
    /// Then all of them go to the hyper lane, after a handshake.
    pub(super) tls: Option<TlsPort>,
    /// How many sockets a peer may have; `None`: any number.
    pub(super) peers: Option<Peers>,
}

/// Accepts until `stop`, `max` sockets at a time; more wait.
pub(super) async fn accept_all(
    listener: TcpListener,
    lanes: Lanes,
    max: usize,
    stop: CancellationToken,
) -> io::Result<()> {
    if INHERITED {
        set_options(&listener, lanes.hyper.write_timeout())?;
    }
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
    let (mut refused, mut full) = (false, false);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = accept(&listener, &places, &mut full, max) => accepted,
        };
        match accepted {
            Ok((socket, from, permit)) => {
                if std::mem::take(&mut refused) {
                    tracing::info!("accepting connections again");
                }
                lanes.give(socket, from, permit);
                while let Some(Ok((socket, from, permit))) = accept(&listener, &places, &mut full, max).now_or_never() {
                    lanes.give(socket, from, permit);
                }
                tokio::time::sleep(TOGETHER).await;
            }
            Err(error) if is_about_one_peer(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!(%error, "cannot accept connections; is the open file limit too low?");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place first, then a socket to take it. Says once that all places are taken, until a tenth of them is free again.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
    full: &mut bool,
    max: usize,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let free = places.available_permits();
    if free == 0 && !*full {
        let port = listener.local_addr().ok().map(tracing::field::display);
        tracing::warn!(max, port, "a port has as many sockets as it may; more wait to be accepted");
    }
    *full = free == 0 || (*full && free <= max / 10);
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (socket, from) = listener.accept().await?;
    Ok((socket, from, place))
}

impl Lanes {
    fn give(&self, socket: TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
        let mut place = SocketPlace::new(permit);
        if let Some(peers) = &self.peers {
            match peers.enter(from.ip()) {
                Ok(peer) => place.peer = peer.map(Box::new),
                // An `EventSource` takes the end of its connection for a reason to come back.
                Err(_) => return,
            }
        }
        if !INHERITED && let Err(error) = set_options(&socket, self.hyper.write_timeout()) {
            tracing::debug!(%error, "cannot set socket options");
        }
        if let Some(tls) = &self.tls {
            return self.hyper.take_tls(tls.clone(), socket, place);
        }
        match &self.direct {
            Some(direct) => match socket.into_std() {
                Ok(socket) => direct.give(Arrival { socket: mio::net::TcpStream::from_std(socket), place }),
                Err(error) => tracing::error!(%error, "cannot give a socket to an event loop"),
            },
            None => self.hyper.take(Handed::new(socket, place)),
        }
    }
}
