//! A port and its lanes, from the first socket to the last.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics::Counter;
use shared::net::{Proxies, Tls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Heads;
use super::accept::{Lanes, accept_all};
use super::direct::{DirectLane, DirectSettings};
use super::hyper::HyperLane;
use crate::connection::{AddressFull, AddressPlace, Addresses};
use crate::metrics::{LimitMetrics, Limited};

/// How a port treats its sockets.
#[derive(Clone)]
pub struct LaneSettings {
    /// A socket that takes nothing for so long is closed.
    pub write_timeout: Duration,
    /// Bounds on the heads of requests.
    pub heads: Heads,
    /// Sockets at a time; more wait to be accepted.
    pub max_sockets: usize,
    /// `None`: the hyper lane serves everything.
    pub direct: Option<DirectPort>,
    /// `None`: the port is plain. With TLS all sockets are the hyper lane's.
    pub tls: Option<TlsPort>,
    /// `None`: a peer may have any number of sockets.
    pub peers: Option<Peers>,
}

/// How many sockets the other end of one may have at a time. Proxies that are trusted may have any number.
#[derive(Clone)]
pub struct Peers {
    /// Who has how many.
    pub addresses: Arc<Addresses>,
    /// Whose sockets are not counted.
    pub proxies: Proxies,
    /// Counts those that were closed at once.
    pub metrics: Arc<LimitMetrics>,
}

impl Peers {
    /// A place for a socket whose other end is `peer`; `Ok(None)` where it is not counted.
    pub(super) fn enter(&self, peer: IpAddr) -> Result<Option<AddressPlace>, AddressFull> {
        if self.proxies.trusts(peer.to_canonical()) {
            return Ok(None);
        }
        self.addresses.enter(peer.into()).inspect_err(|_| self.metrics.over(Limited::Address))
    }
}

/// What a port of TLS has to know.
#[derive(Clone)]
pub struct TlsPort {
    /// Certificate and key.
    pub tls: Arc<Tls>,
    /// Counts sockets that did not come to speak TLS.
    pub failed: Counter,
}

/// What the direct lane of a port has to know.
#[derive(Debug, Clone, Copy)]
pub struct DirectPort {
    /// Event loops, a thread each; at least one.
    pub loops: usize,
    /// How long a loop rests at least where work comes soon after work, so that it serves more at a time; zero: never.
    pub rest: Duration,
    /// Knows the paths of event streams.
    pub is_stream: fn(&str) -> bool,
}

/// Serves `router` until `stop`, then lets requests under way finish and takes no new ones. Connections of the hyper lane run
/// in `tasks`, and the loops of the direct lane hold it until their last connection has ended: wait for all of them there.
///
/// # Errors
/// Those of the system at the start, and a loop that has ended by itself.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: LaneSettings,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> io::Result<()> {
    let LaneSettings { write_timeout, heads, max_sockets, direct, tls, peers } = settings;
    let hyper = HyperLane::new(router.clone(), write_timeout, heads.clone(), tasks, stop.clone());
    // Event loops write what is shared by all connections; what goes by TLS is a connection's own.
    let Some(DirectPort { loops, rest, is_stream }) = direct.filter(|_| tls.is_none()) else {
        return accept_all(listener, Lanes { direct: None, hyper, tls, peers }, max_sockets, stop).await;
    };
    let settings = DirectSettings {
        loops,
        rest,
        router,
        is_stream,
        write_timeout,
        heads,
        hyper: hyper.clone(),
        stop: stop.clone(),
    };
    let (direct, ended) = DirectLane::start(&settings)?;
    let accepting =
        accept_all(listener, Lanes { direct: Some(direct), hyper, tls: None, peers }, max_sockets, stop.clone());
    tokio::pin!(ended);
    tokio::select! {
        accepted = accepting => {
            accepted?;
            ended.await;
        }
        () = &mut ended => if !stop.is_cancelled() {
            return Err(io::Error::other("an event loop has ended"));
        },
    }
    Ok(())
}
