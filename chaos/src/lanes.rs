//! By which lane the nodes of a round serve event streams.

use std::str::FromStr;

use crate::world::NODES;

/// What the flag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// Every node by the direct lane.
    Direct,
    /// Every node by the hyper lane.
    Hyper,
    /// Every second node by the hyper lane, the others in the next round: clients come from one to the other.
    Mixed,
}

impl Lanes {
    /// Whether each of the nodes has the direct lane in this round, counted from 1.
    #[must_use]
    pub fn direct(self, round: u32) -> [bool; NODES] {
        match self {
            Self::Direct => [true; NODES],
            Self::Hyper => [false; NODES],
            Self::Mixed => std::array::from_fn(|node| (node % 2 == 0) == (round % 2 == 1)),
        }
    }
}

impl FromStr for Lanes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "direct" => Ok(Self::Direct),
            "hyper" => Ok(Self::Hyper),
            "mixed" => Ok(Self::Mixed),
            _ => Err("is none of direct, hyper, mixed".to_owned()),
        }
    }
}

/// The lanes of the nodes, as the output names them.
#[must_use]
pub fn names(direct: &[bool]) -> String {
    let names: Vec<_> = direct.iter().map(|direct| if *direct { "direct" } else { "hyper" }).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_each_lane_by_turns() {
        assert_eq!(Lanes::Mixed.direct(1), [true, false, true]);
        assert_eq!(Lanes::Mixed.direct(2), [false, true, false]);
        assert_eq!(Lanes::Mixed.direct(3), Lanes::Mixed.direct(1));
        for round in 1..4 {
            assert_eq!((Lanes::Direct.direct(round), Lanes::Hyper.direct(round)), ([true; 3], [false; 3]));
        }
        assert_eq!(names(&Lanes::Mixed.direct(2)), "hyper, direct, hyper");
    }
}
