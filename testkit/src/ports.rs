//! Ports of 127.0.0.1 for servers that cannot take one that the system chooses.

use std::net::TcpListener;
use std::ops::Range;

/// Below the ports that Linux gives to outgoing connections (from 32768 on): while a server is down, no client takes its port,
/// nor connects to itself on it. With 10,000 more, the port of a cluster's bus is one too.
pub(crate) const PORTS: Range<u16> = 15_000..32_000;

/// `N` different ports on which nobody listens at this moment. Somebody may take one before it is used: whoever starts a
/// server there tries again.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All of them are held until the last was found, so that they differ.
    let listeners = std::array::from_fn::<_, N, _>(|_| free());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn free() -> TcpListener {
    let candidates = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1_000);
    candidates.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).next().expect("no port is free")
}
