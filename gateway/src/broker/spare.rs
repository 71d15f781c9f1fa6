//! What a crowd took and left behind: collections never give back places by themselves, and each of these is as long as there
//! were once channels, or connections, at a time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// So many places stay: less is not worth the while.
const KEPT: usize = 1_024;

/// A collection that can give back places it does not need.
pub(crate) trait Spare {
    /// Gives back most places if few are taken. Called after each removal, it costs a constant share of what filling cost: a
    /// collection has lost half of its items between two times, at the least.
    fn give_back(&mut self);
}

/// How many places to keep, where there are too many.
fn wanted(capacity: usize, length: usize) -> Option<usize> {
    (capacity > KEPT * 4 && length < capacity / 8).then_some((length * 2).max(KEPT))
}

macro_rules! spare {
    ($([$($parameter:tt)*] $collection:ty;)*) => {
        $(impl<$($parameter)*> Spare for $collection {
            fn give_back(&mut self) {
                if let Some(wanted) = wanted(self.capacity(), self.len()) {
                    self.shrink_to(wanted);
                }
            }
        })*
    };
}

spare! {
    [K: Eq + Hash, V] HashMap<K, V>;
    [T: Eq + Hash] HashSet<T>;
    [T] VecDeque<T>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_leaves_no_places_behind() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|number| (number, number)).collect();
        let (mut set, mut queue) = (map.keys().copied().collect::<HashSet<_>>(), VecDeque::from_iter(0..100_000));
        for number in 0..99_990 {
            map.remove(&number);
            set.remove(&number);
            queue.pop_front();
            map.give_back();
            set.give_back();
            queue.give_back();
            let left = 99_999 - number;
            let most = (left * 8 + 8).max(KEPT * 4);
            assert!(map.capacity() <= most, "{} places for {left}", map.capacity());
            assert!(set.capacity() <= most && queue.capacity() <= most);
        }
        let rest: HashSet<usize> = (99_990..100_000).collect();
        assert_eq!((map.into_keys().collect::<HashSet<_>>(), &set), (rest.clone(), &rest));
        assert!(queue.into_iter().eq(99_990..100_000));
    }

    #[test]
    fn few_places_stay() {
        let mut queue: VecDeque<u8> = VecDeque::with_capacity(KEPT * 4);
        queue.give_back();
        assert!(queue.capacity() >= KEPT * 4);
    }
}
