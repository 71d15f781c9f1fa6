//! What nodes of a Redis Cluster say of it, and which of them to believe. Pure.
//!
//! Of two that claim the same slots the one with the higher configuration epoch has them: that is the cluster's own rule
//! (specification, "UPDATE messages"), and a node that was cut off from the others still claims what was its own.

use std::collections::HashMap;

use crate::keys::SLOTS;

/// Host and port.
pub(super) type Place = (String, u16);

/// A primary as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Primary {
    pub(super) place: Place,
    /// Of its claim.
    pub(super) epoch: u64,
    /// First and last, both of them included.
    pub(super) slots: Vec<(u16, u16)>,
}

/// The cluster as one of its nodes sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) primaries: Vec<Primary>,
    /// All nodes that are there, for those who want to ask others too.
    pub(super) nodes: Vec<Place>,
}

/// Who has a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) place: Place,
    pub(super) epoch: u64,
}

impl View {
    /// The answer to CLUSTER NODES of the node `asked`; with `by_name`, nodes are called by the names that they announce, where they
    /// do. `None`: it is none.
    pub(super) fn parse(text: &str, asked: &Place, by_name: bool) -> Option<Self> {
        let mut view = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            // <id> <ip:port@cport[,hostname[,field=value]*]> <flags> <primary> <ping> <pong> <epoch> <link> <slot>...
            let mut words = line.split(' ');
            let (_, address, flags) = (words.next()?, words.next()?, words.next()?);
            let epoch: u64 = words.nth(3)?.parse().ok()?;
            words.next()?;
            let is = |flag: &str| flags.split(',').any(|it| it == flag);
            if is("fail") || is("handshake") || is("noaddr") {
                continue;
            }
            let place = place(address, asked, by_name)?;
            view.nodes.push(place.clone());
            if is("master") {
                // What is in brackets is being moved, and is still where it was.
                let slots = words.filter(|word| !word.starts_with('['));
                view.primaries.push(Primary { place, epoch, slots: slots.map(range).collect::<Option<_>>()? });
            }
        }
        (!view.nodes.is_empty()).then_some(view)
    }

    fn claim(&self, slot: u16) -> Option<Claim> {
        let has = |primary: &&Primary| primary.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        let primary = self.primaries.iter().find(has)?;
        Some(Claim { place: primary.place.clone(), epoch: primary.epoch })
    }
}

fn place(address: &str, asked: &Place, by_name: bool) -> Option<Place> {
    let (address, name) = address.split_once(',').unwrap_or((address, ""));
    let address = address.split_once('@').map_or(address, |(address, _)| address);
    let (host, port) = address.rsplit_once(':')?;
    let name = name.split(',').next().filter(|name| by_name && !name.is_empty() && *name != "?" && !name.contains('='));
    // A node that was never told its own address has none for itself.
    let host = name.or(Some(host).filter(|host| !host.is_empty())).unwrap_or(&asked.0);
    Some((host.to_owned(), port.parse().ok()?))
}

fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some((first, last))
}

/// Who has each of `slots` after `views`, where `known` had it before. `agree`: those who have answered are more than half of those
/// who were asked, and so may take back what is known; a few that are behind may not.
pub(super) fn settle(
    slots: impl Iterator<Item = u16>,
    views: &[View],
    known: &HashMap<u16, Claim>,
    agree: bool,
) -> HashMap<u16, Claim> {
    let claim = |slot| {
        let latest = views.iter().filter_map(|view| view.claim(slot)).max_by_key(|claim| claim.epoch);
        let known = known.get(&slot);
        match (latest, known) {
            (Some(latest), Some(known)) if latest.epoch < known.epoch && !agree => Some((slot, known.clone())),
            // The same one by two names: the name before stays.
            (Some(latest), Some(known)) if latest.epoch == known.epoch && said(views, slot, known) => {
                Some((slot, known.clone()))
            }
            (Some(latest), _) => Some((slot, latest)),
            (None, Some(known)) => Some((slot, known.clone())),
            (None, None) => None,
        }
    };
    slots.filter_map(claim).collect()
}

fn said(views: &[View], slot: u16, claim: &Claim) -> bool {
    views.iter().any(|view| view.claim(slot).as_ref() == Some(claim))
}

/// Whether `place` has slots, as those see it who know the latest of the cluster.
pub(super) fn has_slots(views: &[View], place: &Place) -> bool {
    let newest = |view: &View| view.primaries.iter().map(|primary| primary.epoch).max().unwrap_or(0);
    let latest = views.iter().map(newest).max();
    let has = |view: &View| view.primaries.iter().any(|primary| primary.place == *place && !primary.slots.is_empty());
    let mut latest = views.iter().filter(|view| Some(newest(view)) == latest).peekable();
    latest.peek().is_some() && latest.all(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "\
aa 127.0.0.1:7001@17001,, myself,master - 0 0 1 connected 0-5460 [93-<-bb] [77->-bb]
bb 127.0.0.1:7002@17002,b.example,shard-id=xx master - 0 1 2 connected 5461-10922 16383
cc :7003@17003 master - 0 1 3 connected
dd 127.0.0.1:7004@17004 slave aa 0 1 1 connected
ee 127.0.0.1:7005@17005 master,fail - 0 1 4 disconnected 10923-16382
ff :0@0 master,noaddr - 0 1 4 disconnected
";

    fn at(host: &str, port: u16) -> Place {
        (host.to_owned(), port)
    }

    /// Host, epoch and slots.
    type Claimed<'a> = (&'a str, u64, &'a [(u16, u16)]);

    fn view(claims: &[Claimed<'_>]) -> View {
        let primary =
            |(host, epoch, slots): &Claimed<'_>| Primary { place: at(host, 1), epoch: *epoch, slots: slots.to_vec() };
        let primaries: Vec<_> = claims.iter().map(primary).collect();
        View { nodes: primaries.iter().map(|primary| primary.place.clone()).collect(), primaries }
    }

    fn claims(claims: &HashMap<u16, Claim>) -> Vec<(u16, &str, u64)> {
        let mut claims: Vec<_> =
            claims.iter().map(|(slot, claim)| (*slot, claim.place.0.as_str(), claim.epoch)).collect();
        claims.sort_unstable();
        claims
    }

    #[test]
    fn an_answer_of_redis() {
        let asked = at("me.example", 9);
        let view = View::parse(THREE, &asked, false).unwrap();
        let ports: Vec<_> = view.nodes.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports, [7001, 7002, 7003, 7004]);
        assert_eq!(view.primaries.len(), 3);
        assert_eq!(view.primaries[1].slots, [(5_461, 10_922), (16_383, 16_383)]);
        assert_eq!(view.primaries[2], Primary { place: at("me.example", 7003), epoch: 3, slots: vec![] });
        assert_eq!(view.claim(0), Some(Claim { place: at("127.0.0.1", 7001), epoch: 1 }));
        assert_eq!(view.claim(12_000), None, "of one that has failed");
        let by_name = View::parse(THREE, &asked, true).unwrap();
        let hosts: Vec<_> = by_name.nodes.iter().map(|(host, _)| host.as_str()).collect();
        assert_eq!(hosts, ["127.0.0.1", "b.example", "me.example", "127.0.0.1"]);
    }

    #[test]
    fn answers_that_are_none() {
        let asked = at("h", 1);
        for text in ["", "x", "aa 127.0.0.1:7001 master", "aa nowhere master - 0 0 1 connected 0-5460"] {
            assert_eq!(View::parse(text, &asked, false), None, "{text}");
        }
        for slots in ["x", "1-", "5-3", "0-16384"] {
            let text = format!("aa 127.0.0.1:7001@1 master - 0 0 1 connected {slots}");
            assert_eq!(View::parse(&text, &asked, false), None, "{slots}");
        }
    }

    #[test]
    fn the_highest_epoch_has_a_slot() {
        let behind = view(&[("a", 1, &[(0, 9)]), ("b", 2, &[(10, 19)])]);
        let ahead = view(&[("c", 5, &[(0, 9)]), ("b", 2, &[(10, 19)])]);
        let none = HashMap::new();
        let settled = settle([0, 10, 20].into_iter(), &[behind.clone(), ahead.clone()], &none, true);
        assert_eq!(claims(&settled), [(0, "c", 5), (10, "b", 2)]);
        let still = settle([0].into_iter(), std::slice::from_ref(&behind), &settled, false);
        assert_eq!(claims(&still), [(0, "c", 5)], "one that is behind takes nothing back");
        let back = settle([0].into_iter(), &[behind], &settled, true);
        assert_eq!(claims(&back), [(0, "a", 1)]);
        let gone = settle([0].into_iter(), &[view(&[])], &settled, true);
        assert_eq!(claims(&gone), [(0, "c", 5)], "while nobody has it, it is where it was");
        assert!(
            has_slots(std::slice::from_ref(&ahead), &at("b", 1))
                && !has_slots(std::slice::from_ref(&ahead), &at("a", 1))
        );
        let empty = view(&[("b", 6, &[])]);
        assert!(!has_slots(&[ahead, empty], &at("b", 1)), "the latest counts");
        assert!(!has_slots(&[], &at("b", 1)));
    }

    #[test]
    fn one_node_by_two_names_stays() {
        let (one, other) = (view(&[("a", 1, &[(0, 9)])]), view(&[("a.example", 1, &[(0, 9)])]));
        let known = settle([3].into_iter(), std::slice::from_ref(&one), &HashMap::new(), true);
        let still = settle([3].into_iter(), &[other.clone(), one], &known, true);
        assert_eq!(claims(&still), [(3, "a", 1)]);
        assert_eq!(claims(&settle([3].into_iter(), &[other], &known, true)), [(3, "a.example", 1)]);
    }
}
