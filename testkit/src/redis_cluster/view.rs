//! What one node of a cluster knows of all of them, as `CLUSTER NODES` tells it.

use std::ops::RangeInclusive;

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) id: String,
    /// Of whom it is a replica.
    pub(super) replica_of: Option<String>,
    /// First and last slot of each range. Those on their way to another node are here too, those from one are not.
    pub(super) slots: Vec<(u16, u16)>,
    /// Nobody thinks that it fails, and who tells has a connection to it.
    pub(super) is_well: bool,
}

impl Node {
    pub(super) fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| RangeInclusive::new(*first, *last).contains(&slot))
    }

    pub(super) fn count(&self) -> u16 {
        self.slots.iter().map(|(first, last)| last - first + 1).sum()
    }
}

/// Sorted, so that what two nodes know is equal if it is the same. Without those with whom the node only begins to talk: they
/// have no name yet.
pub(super) fn parse(text: &str) -> Vec<Node> {
    let mut nodes: Vec<_> = text.lines().filter_map(parse_line).collect();
    nodes.sort();
    nodes
}

/// `<id> <address> <flags> <primary or -> <ping> <pong> <epoch> <connected or disconnected> <slots>...`
fn parse_line(line: &str) -> Option<Node> {
    let mut words = line.split_whitespace();
    let [id, _, flags, primary, _, _, _, link] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let has = |flag: &str| flags.split(',').any(|one| one == flag);
    (!has("handshake")).then(|| Node {
        id: id.to_owned(),
        replica_of: (primary != "-").then(|| primary.to_owned()),
        slots: words.filter_map(parse_range).collect(),
        is_well: link == "connected" && !["fail", "fail?", "noaddr"].into_iter().any(has),
    })
}

/// `7` or `0-5460`; none of `[7->-<id>]` and `[7-<-<id>]`, which say that a slot moves.
fn parse_range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "b 127.0.0.1:2@12 myself,master - 0 0 1 connected 0-5 7 [5->-a] [9-<-a]\n\
                    c 127.0.0.1:3@13,name slave,fail? b 0 0 1 connected\n\
                    d 127.0.0.1:4@14 handshake - 0 0 0 connected\n\
                    a 127.0.0.1:1@11 master - 0 0 1 disconnected\n";
        let node = |id: &str, replica_of: Option<&str>, slots: &[(u16, u16)], is_well| Node {
            id: id.to_owned(),
            replica_of: replica_of.map(str::to_owned),
            slots: slots.to_vec(),
            is_well,
        };
        let nodes =
            [node("a", None, &[], false), node("b", None, &[(0, 5), (7, 7)], true), node("c", Some("b"), &[], false)];
        assert_eq!(parse(text), nodes);
        assert_eq!(nodes[1].count(), 7);
        assert!([0, 5, 7].into_iter().all(|slot| nodes[1].owns(slot)) && !nodes[1].owns(6));
    }
}
