//! Who reads what: which channels, servers and source addresses connection number `i` has. Pure, so that the process that
//! publishes and those that read come to the same answers.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::args::Scenario;

/// Connections to one server that one source address carries: a third of the 28,232 ephemeral ports that Linux has by default.
/// It prefers the even ones, tries one after the other, and once most are taken looks through thousands for each connect, which
/// takes ms.
pub(crate) const PER_SOURCE: u32 = 10_000;

/// Over all connections of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// What is done.
    pub(crate) scenario: Scenario,
    /// All connections, of all processes.
    pub(crate) connections: u32,
    /// Channels; in `mixed` the broad ones.
    pub(crate) channels: u32,
    /// Servers.
    pub(crate) servers: u32,
    /// Source addresses.
    pub(crate) sources: u32,
    /// Share of the connections that is stuck, 0 to 1.
    pub(crate) stuck: f64,
    /// Begins the names of channels.
    pub(crate) prefix: String,
    /// The name of the one channel, instead.
    pub(crate) name: Option<String>,
}

impl Layout {
    /// Number of keys: every channel has one, and events carry it.
    pub(crate) fn keys(&self) -> u32 {
        match self.scenario {
            Scenario::Mixed => self.channels + self.connections,
            _ => self.channels,
        }
    }

    /// Key of the channel that a connection reads, or its own where it reads two.
    pub(crate) fn key(&self, connection: u32) -> u32 {
        match self.scenario {
            Scenario::Mixed => self.channels + connection,
            _ => connection % self.channels,
        }
    }

    /// Key of the broad channel that a connection reads beside its own.
    pub(crate) fn broad_key(&self, connection: u32) -> Option<u32> {
        (self.scenario == Scenario::Mixed).then(|| connection % self.channels)
    }

    /// The channel's name. In `tokens` each stream of a connection has a channel of its own.
    pub(crate) fn channel(&self, key: u32, round: u32) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if self.scenario == Scenario::Tokens => format!("{}-{key}-{round}", self.prefix),
            None => format!("{}-{key}", self.prefix),
        }
    }

    /// Number of the server: the connections of each channel are spread over all of them, and so are the channels.
    pub(crate) fn server(&self, connection: u32) -> u32 {
        let (channel, turn) = (connection % self.channels, connection / self.channels);
        (channel % self.servers + turn % self.servers) % self.servers
    }

    /// The source address; `None` leaves the choice to the system.
    pub(crate) fn source(&self, connection: u32) -> Option<IpAddr> {
        if self.sources <= 1 {
            return None;
        }
        // Servers take turns with each connection: sources, only once all servers had theirs, so that each server sees all of them.
        let [_, _, third, fourth] = (connection / self.servers % self.sources).to_be_bytes().map(u32::from);
        // 127.0.0.1 is the first, and no address ends in 0 or 255.
        let number = third * 256 + fourth;
        let (third, fourth) = (number / 250, number % 250 + 1);
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, u8::try_from(third).ok()?, u8::try_from(fourth).ok()?)))
    }

    /// Whether a connection reads nothing, spread evenly.
    pub(crate) fn is_stuck(&self, connection: u32) -> bool {
        self.scenario == Scenario::Slow && is_in_share(connection, self.stuck)
    }

    /// Keys that the connections in `range` read, each once, rising.
    pub(crate) fn keys_of(&self, range: &Range<u32>) -> Vec<u32> {
        let mut keys: Vec<u32> = if range.len() >= self.channels as usize {
            (0..self.channels).collect()
        } else {
            range.clone().map(|connection| connection % self.channels).collect()
        };
        keys.sort_unstable();
        if self.scenario == Scenario::Mixed {
            keys.extend(range.clone().map(|connection| self.key(connection)));
        }
        keys
    }

    /// How many of the connections in `ranges` read each key.
    pub(crate) fn readers(&self, ranges: &[Range<u32>]) -> Vec<u32> {
        let mut readers = vec![0; self.keys() as usize];
        let reading = ranges.iter().cloned().flatten().filter(|connection| !self.is_stuck(*connection));
        for connection in reading {
            let keys = [Some(self.key(connection)), self.broad_key(connection)];
            for key in keys.into_iter().flatten() {
                readers[key as usize] += 1;
            }
        }
        readers
    }
}

/// Whether number `index` belongs to an evenly spread `share` (0 to 1) of all numbers.
pub(crate) fn is_in_share(index: u32, share: f64) -> bool {
    ((f64::from(index) + 1.0) * share).floor() > (f64::from(index) * share).floor()
}

/// Source addresses needed for `connections` to `servers`.
pub(crate) fn sources_for(connections: u32, servers: u32) -> u32 {
    connections.div_ceil(servers.max(1)).div_ceil(PER_SOURCE)
}

/// The connections of process number `process` of `processes`.
pub(crate) fn range_of(process: u32, processes: u32, connections: u32) -> Range<u32> {
    let at = |number: u32| (u64::from(connections) * u64::from(number) / u64::from(processes)) as u32;
    at(process)..at(process + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(scenario: Scenario, connections: u32, channels: u32, servers: u32) -> Layout {
        Layout { scenario, connections, channels, servers, sources: 1, stuck: 0.1, prefix: "p".to_owned(), name: None }
    }

    #[test]
    fn servers_take_turns_on_connections_and_on_channels() {
        for (channels, connections) in [(1, 12), (2, 12), (12, 12), (3, 12)] {
            let layout = layout(Scenario::Broadcast, connections, channels, 2);
            let mut by_server = [0, 0];
            (0..connections).for_each(|i| by_server[layout.server(i) as usize] += 1);
            assert_eq!(by_server, [6, 6], "{channels} channels");
            if channels < connections {
                let of_first = (0..connections).filter(|i| layout.key(*i) == 0).map(|i| layout.server(i));
                let seen: std::collections::BTreeSet<u32> = of_first.collect();
                assert_eq!(seen.len(), 2, "{channels} channels");
            }
        }
    }

    #[test]
    fn every_connection_is_in_one_process_and_keys_are_those_it_reads() {
        for (connections, processes) in [(10, 3), (1_000_000, 56), (5, 5), (1, 1)] {
            let ranges: Vec<_> = (0..processes).map(|p| range_of(p, processes, connections)).collect();
            let all: Vec<u32> = ranges.iter().cloned().flatten().collect();
            assert!(all.into_iter().eq(0..connections));
            assert!(ranges.iter().all(|range| range.len() <= 18_000));
        }
        let few = layout(Scenario::Broadcast, 10, 4, 1);
        assert_eq!(few.keys_of(&(3..6)), [0, 1, 3]);
        assert_eq!(few.keys_of(&(0..10)), [0, 1, 2, 3]);
        let mixed = layout(Scenario::Mixed, 10, 4, 1);
        assert_eq!((mixed.keys(), mixed.keys_of(&(3..5))), (14, vec![0, 3, 7, 8]));
        assert_eq!((mixed.key(3), mixed.broad_key(3), mixed.broad_key(5)), (7, Some(3), Some(1)));
        assert_eq!(few.readers(std::slice::from_ref(&(0..10))), [3, 3, 2, 2]);
    }

    #[test]
    fn a_share_is_spread_evenly() {
        let count = |share| (0..1_000).filter(|i| is_in_share(*i, share)).count();
        assert_eq!([0.0, 0.1, 0.5, 1.0].map(count), [0, 100, 500, 1_000]);
        let slow = layout(Scenario::Slow, 1_000, 1, 1);
        assert_eq!(slow.readers(&[0..500, 500..1_000]), [900]);
    }

    #[test]
    fn a_large_fleet_has_source_addresses_enough() {
        assert_eq!(sources_for(10_000, 1), 1);
        assert_eq!(sources_for(10_001, 1), 2);
        assert_eq!(sources_for(1_000_000, 56), 2);
        assert_eq!(sources_for(1_000_000, 1), 100);
        let mut layout = layout(Scenario::Unicast, 1_000, 1_000, 1);
        assert_eq!(layout.source(7), None);
        layout.sources = 600;
        let text = |i| layout.source(i).unwrap().to_string();
        assert_eq!(
            [text(0), text(249), text(250), text(599), text(600)].join(" "),
            "127.0.0.1 127.0.0.250 127.0.1.1 127.0.2.100 127.0.0.1"
        );
    }

    #[test]
    fn no_server_has_more_of_one_source_than_it_carries() {
        let mut plan = layout(Scenario::Unicast, 1_000_000, 1_000_000, 56);
        plan.sources = sources_for(1_000_000, 56);
        let mut counts = std::collections::HashMap::new();
        for connection in 0..plan.connections {
            *counts.entry((plan.server(connection), plan.source(connection))).or_insert(0) += 1;
        }
        assert!(counts.values().all(|count| *count <= PER_SOURCE), "{counts:?}");
    }

    #[test]
    fn names_are_prefix_and_key_or_what_was_said() {
        let mut plan = layout(Scenario::Unicast, 3, 3, 1);
        assert_eq!(plan.channel(2, 0), "p-2");
        plan.scenario = Scenario::Tokens;
        assert_eq!(plan.channel(2, 5), "p-2-5");
        plan.name = Some("bench".to_owned());
        assert_eq!(plan.channel(0, 0), "bench");
    }
}
