//! What has to be there before the first connection: servers that answer, room for the connections, processes that read.

use std::net::SocketAddr;

use super::Failure;
use crate::args::{Args, Scenario};
use crate::endpoint;
use crate::layout::{Layout, range_of};
use crate::publish::Publisher;
use crate::publish::text::layout_of;
use crate::system::process::{SPARE_FILES, most_open_files};
use crate::worker::message::{Plan, Server};

/// Connections of one process, unless the flags say otherwise.
const PER_PROCESS: u32 = 18_000;
/// Ports of one source address by default on Linux (`net.ipv4.ip_local_port_range`): where only one can be had, the bound on
/// connections to one server.
const PORTS: u32 = 28_000;

/// All that is needed to begin.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Who reads what.
    pub(super) layout: Layout,
    /// One for each process that reads.
    pub(super) plans: Vec<Plan>,
    /// `None` where nothing is published.
    pub(super) publisher: Option<Publisher>,
}

/// Finds the servers and checks that the connections fit on this machine.
pub(super) async fn prepare(args: &Args) -> Result<Prepared, Failure> {
    let processes = processes(args.connections, args.processes, most_open_files()).map_err(Failure::Flags)?;
    let mut servers = Vec::new();
    for url in args.stream_urls() {
        let address = endpoint::find(&url.authority).await.map_err(Failure::Outside)?;
        servers.push(Server { address, url });
    }
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    check_ports(&addresses, args).map_err(Failure::Flags)?;
    let layout = layout_of(args);
    let publisher = if publishes(args) {
        let target = args.publish_target().ok_or_else(|| Failure::Flags("--url is missing".to_owned()))?;
        Some(Publisher::new(args, &target, layout.keys()).await.map_err(Failure::Outside)?)
    } else {
        None
    };
    let plan = |process| Plan {
        layout: layout.clone(),
        range: range_of(process, processes, args.connections),
        servers: servers.clone(),
        size: args.size(),
        connect_rate: f64::from(args.connect_rate) / f64::from(processes),
        tokens: u64::from(args.tokens),
    };
    let plans = (0..processes).map(plan).collect();
    Ok(Prepared { layout, plans, publisher })
}

/// Whether anything is published at all.
pub(super) fn publishes(args: &Args) -> bool {
    match args.scenario {
        Scenario::Idle | Scenario::Churn => false,
        Scenario::Tokens => true,
        _ => args.rate > 0.0,
    }
}

/// How many processes share the connections. The error names the limit.
fn processes(connections: u32, wanted: Option<u32>, most_files: u64) -> Result<u32, String> {
    let room = u32::try_from(most_files.saturating_sub(SPARE_FILES)).unwrap_or(u32::MAX);
    if room == 0 {
        return Err(format!("--connections {connections} cannot fit: a process may open {most_files} files"));
    }
    let least = connections.div_ceil(room);
    let processes = wanted.unwrap_or_else(|| connections.div_ceil(room.min(PER_PROCESS))).min(connections);
    if processes < least {
        return Err(format!(
            "--processes {processes} cannot hold --connections {connections}: a process may open {most_files} files, so it needs {least}"
        ));
    }
    Ok(processes)
}

/// Says why connections, spread evenly over the servers, cannot all have a source port; the error gives the limit.
fn check_ports(servers: &[SocketAddr], args: &Args) -> Result<(), String> {
    let each = args.connections.div_ceil(servers.len().max(1) as u32);
    for address in servers {
        if address.is_ipv4() && address.ip().is_loopback() {
            continue;
        }
        if args.source_addresses.is_some_and(|sources| sources > 1) {
            return Err(format!("--source-addresses are for servers in 127.0.0.0/8, which {address} is not"));
        }
        if each > PORTS {
            return Err(format!(
                "--connections {} cannot fit: {each} of them to {address} need more than the {PORTS} ports that one \
                 source address has; use an address in 127.0.0.0/8 or spread them over more --url",
                args.connections
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn processes_are_as_many_as_descriptors_need() {
        assert_eq!(processes(18_000, None, 20_000), Ok(1));
        assert_eq!(processes(1_000_000, None, 20_000), Ok(56));
        assert_eq!(processes(1_000, None, 564), Ok(2));
        assert_eq!(processes(3, Some(10), 20_000), Ok(3));
        assert!(processes(40_000, Some(2), 20_000).unwrap_err().contains("20000 files, so it needs 3"));
        assert!(processes(1, None, 64).is_err());
    }

    #[test]
    fn elsewhere_there_is_one_source_address_and_a_limit() {
        let check = |addresses: &[&str], flags: &[&str]| {
            let args = Args::try_parse_from([&["sse-loadtest"], flags].concat()).unwrap();
            check_ports(&addresses.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>(), &args)
        };
        for address in ["[::1]:8080", "192.0.2.1:8080"] {
            assert_eq!(check(&[address], &["--connections", "28000"]), Ok(()));
            assert!(check(&[address], &["--connections", "28001"]).unwrap_err().contains("28000 ports"));
            assert_eq!(check(&[address, address], &["--connections", "56000"]), Ok(()));
            assert!(check(&[address], &["--source-addresses", "2"]).unwrap_err().contains("127.0.0.0/8"));
        }
        assert_eq!(check(&["127.0.0.1:8080"], &["--connections", "200000", "--source-addresses", "9"]), Ok(()));
    }
}
