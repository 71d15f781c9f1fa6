//! Which partition each channel of a round belongs to, and what both are called in Redis.

use shared::channel::Channel;
use shared::keys::{DEFAULT_PREFIX, Keys};

use crate::publishing::channel_name;

/// The partitions of a round's channels.
#[derive(Debug, Clone)]
pub struct Partitions {
    keys: Keys,
    /// Channels by number, each with its partition.
    channels: Vec<(Channel, u16)>,
}

impl Partitions {
    /// Of channels numbered from 0.
    ///
    /// # Errors
    /// Numbers or names that are none; ours never are.
    pub fn new(partitions: u16, channels: usize) -> Result<Self, String> {
        let keys = Keys::new(DEFAULT_PREFIX, partitions).map_err(|error| error.to_string())?;
        let channel = |index| Channel::parse(&channel_name(index)).map_err(|error| error.to_string());
        let with_partition = |channel: Channel| (keys.partition(&channel), channel);
        let channels = (0..channels).map(|index| channel(index).map(with_partition).map(|(of, channel)| (channel, of)));
        Ok(Self { channels: channels.collect::<Result<_, _>>()?, keys })
    }

    /// How many there are, with those that have no channel.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.keys.partitions()
    }

    /// The channel's partition.
    #[must_use]
    pub fn of(&self, channel: usize) -> u16 {
        self.channels[channel].1
    }

    /// Those that have channels, each once.
    #[must_use]
    pub fn used(&self) -> Vec<u16> {
        let mut used: Vec<u16> = self.channels.iter().map(|(_, of)| *of).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Channels of these partitions, and their names in Redis.
    #[must_use]
    pub fn channels(&self, of: &[u16]) -> Vec<(usize, String)> {
        let all = self.channels.iter().enumerate().filter(|(_, (_, partition))| of.contains(partition));
        all.map(|(index, (channel, _))| (index, self.keys.channel(channel))).collect()
    }

    /// Name of a partition's clock in Redis.
    #[must_use]
    pub fn clock(&self, partition: u16) -> String {
        self.keys.clock(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Redis;

    #[test]
    fn one_partition_has_all() {
        let one = Partitions::new(1, 2).unwrap();
        assert_eq!((one.used(), one.of(1), one.clock(0).as_str()), (vec![0], 0, "sse.clock"));
        let names = [(0, "sse:chaos:0".to_owned()), (1, "sse:chaos:1".to_owned())];
        assert_eq!(one.channels(&[0]), names);
    }

    /// Even those of the smallest rounds are spread over all three primaries, whose slots are thirds.
    #[test]
    fn channels_of_a_cluster_are_spread() {
        let some = Partitions::new(Redis::Cluster.partitions(), 6).unwrap();
        let used = some.used();
        let mut thirds: Vec<u16> = used.iter().map(|partition| Keys::slot(*partition) / 5_462).collect();
        thirds.sort_unstable();
        thirds.dedup();
        assert_eq!((used.len(), thirds), (6, vec![0, 1, 2]));
        let first = some.of(0);
        assert_eq!(some.channels(&[first]), [(0, format!("sse:{{{first}}}:chaos:0"))]);
        assert_eq!(some.clock(first), format!("sse.{{{first}}}.clock"));
    }

    #[test]
    fn no_two_partitions_of_a_cluster_share_a_slot() {
        let slots: std::collections::HashSet<u16> = (0..Redis::Cluster.partitions()).map(Keys::slot).collect();
        assert_eq!(slots.len(), usize::from(Redis::Cluster.partitions()));
    }
}
