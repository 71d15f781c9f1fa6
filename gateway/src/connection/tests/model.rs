//! Any interleaving of publishes, barriers and writes: every connection writes each event of its channels that was published
//! after it opened, once, in order, and its cursor never runs ahead of what it wrote.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::event_stream::decode::{Decoded, Decoder};

use super::*;

const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    /// On a channel, durable or not.
    Publish(usize, bool),
    /// On one channel more than one look takes; small ones, or large enough for several writes.
    Burst(usize, bool),
    Barrier(usize),
    /// Opens a connection on the channels of a bit mask. Before it is open, so many durable events and an ephemeral one come
    /// on its first channel.
    Open(u8, usize),
    /// Lets a connection write, at most so many times.
    Write(usize, usize),
    /// A connection goes.
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..CHANNELS.len(), any::<bool>()).prop_map(|(channel, durable)| Step::Publish(channel, durable)),
        1 => (0..CHANNELS.len(), any::<bool>()).prop_map(|(channel, large)| Step::Burst(channel, large)),
        1 => (0..4usize).prop_map(Step::Barrier),
        2 => (1..16u8, prop_oneof![Just(0usize), 1..4usize, Just(300)]).prop_map(|(mask, events)| Step::Open(mask, events)),
        6 => (0..8usize, 1..4usize).prop_map(|(connection, writes)| Step::Write(connection, writes)),
        1 => (0..8usize).prop_map(Step::Close),
    ]
}

/// A connection, the client behind it, and what that client is to get.
struct Pair {
    connection: Connection,
    decoder: Decoder,
    channels: Vec<&'static str>,
    /// By channel, in order; taken from the front as they arrive.
    expected: BTreeMap<&'static str, Vec<Expected>>,
    /// Last position by partition.
    cursor: BTreeMap<Partition, Position>,
}

#[derive(Debug, Clone, PartialEq)]
struct Expected {
    data: String,
    position: Option<Position>,
}

impl Pair {
    fn take(&mut self, bytes: &[u8], keys: &Keys) -> Result<(), TestCaseError> {
        self.decoder.feed(bytes).unwrap();
        for item in self.decoder.by_ref() {
            let (id, event) = match item {
                Decoded::Event(event) if event.event == "sse.open" => continue,
                Decoded::Event(event) => (event.id.clone(), Some(event)),
                Decoded::Id(id) => (id, None),
                _ => continue,
            };
            let before = self.cursor.clone();
            for part in id.parse::<Cursor>().unwrap().parts() {
                let at = self.cursor.entry(part.partition.unwrap_or(0)).or_insert(part.position);
                prop_assert!(part.position >= *at, "the cursor fell");
                *at = part.position;
            }
            let Some(event) = event else { continue };
            let (channel, _) = event.data.split_once(' ').unwrap();
            let (channel, queue) = self.expected.iter_mut().find(|(name, _)| **name == channel).unwrap();
            prop_assert!(!queue.is_empty(), "not expected: {event:?}");
            let expected = queue.remove(0);
            prop_assert_eq!(&expected.data, &event.data);
            if let Some(position) = expected.position {
                let partition = keys.partition(&super::channel(channel));
                prop_assert!(position > before[&partition], "out of order");
                prop_assert_eq!(self.cursor[&partition], position);
            } else {
                prop_assert_eq!(&before, &self.cursor, "an ephemeral event moved the cursor");
            }
        }
        // What the cursor says was delivered has been.
        for (channel, queue) in &self.expected {
            let cursor = self.cursor.get(&keys.partition(&super::channel(channel)));
            let passed =
                queue.iter().find(|expected| expected.position.is_some_and(|p| cursor.is_some_and(|c| p <= *c)));
            prop_assert_eq!(passed, None, "the cursor ran ahead");
        }
        Ok(())
    }

    fn write(&mut self, times: usize, keys: &Keys, now: Instant) -> Result<(), TestCaseError> {
        for _ in 0..times {
            let Next::Write(bytes) = self.connection.next(now) else { return Ok(()) };
            self.take(&bytes.into_bytes(), keys)?;
        }
        Ok(())
    }
}

fn publish(world: &mut World, pairs: &mut [Pair], channel: &'static str, text: &str, durable: bool) {
    let data = format!("{channel} {text}");
    let position = if durable { Some(world.publish(channel, &data)) } else { None };
    if !durable {
        world.ephemeral(channel, &data);
    }
    for pair in pairs.iter_mut().filter(|pair| pair.channels.contains(&channel)) {
        pair.expected.entry(channel).or_default().push(Expected { data: data.clone(), position });
    }
}

fn run(partitions: u16, steps: &[Step]) -> Result<(), TestCaseError> {
    // Nobody is slow here: that is another test.
    let log = LogLimits { events: 1 << 20, bytes: 1 << 30, age: Duration::from_secs(3_600) };
    let mut world = World::with(partitions, log, None);
    let mut pairs: Vec<Pair> = Vec::new();
    let mut now = Instant::now();
    for (number, step) in steps.iter().enumerate() {
        now += Duration::from_secs(number as u64 % 7);
        match step {
            Step::Publish(index, durable) => {
                publish(&mut world, &mut pairs, CHANNELS[*index], &number.to_string(), *durable);
            }
            Step::Burst(index, large) => {
                let width = if *large { 300 } else { 1 };
                for i in 0..300 {
                    publish(&mut world, &mut pairs, CHANNELS[*index], &format!("{number} {i:0>width$}"), i % 3 > 0);
                }
            }
            Step::Barrier(partition) => {
                let partition = partition % usize::from(partitions);
                world.clocks[partition] = world.clocks[partition].advance(0);
                world.hub.barrier(u16::try_from(partition).unwrap(), world.clocks[partition]);
            }
            Step::Open(mask, events) if pairs.len() < 8 => {
                let chosen = CHANNELS.into_iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
                let channels: Vec<_> = chosen.map(|(_, channel)| channel).collect();
                let first = channels[0];
                let mut pending: BTreeMap<_, Vec<_>> = channels.iter().map(|channel| (*channel, Vec::new())).collect();
                let connection = world.open_while(&channels, &Request::default(), |world| {
                    // Durable ones lie before the beginning; the ephemeral one has no place in that order and is live.
                    for _ in 0..*events {
                        publish(world, &mut pairs, first, &format!("{number} early"), true);
                    }
                    publish(world, &mut pairs, first, &format!("{number} live"), false);
                    let data = format!("{first} {number} live");
                    pending.entry(first).or_default().push(Expected { data, position: None });
                });
                pairs.push(Pair {
                    connection,
                    decoder: Decoder::new(),
                    channels,
                    expected: pending,
                    cursor: BTreeMap::new(),
                });
            }
            Step::Write(index, times) => {
                if let Some(pair) = pairs.get_mut(*index) {
                    pair.write(*times, &world.keys, now)?;
                }
            }
            Step::Close(index) if *index < pairs.len() => drop(pairs.remove(*index)),
            Step::Open(..) | Step::Close(_) => {}
        }
    }
    for pair in &mut pairs {
        pair.write(usize::MAX, &world.keys, now)?;
        let left: Vec<_> = pair.expected.values().flatten().collect();
        prop_assert!(left.is_empty(), "lost: {left:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_event_once_in_order(partitions in 1..4u16, steps in proptest::collection::vec(step(), 1..120)) {
        run(partitions, &steps)?;
    }
}
