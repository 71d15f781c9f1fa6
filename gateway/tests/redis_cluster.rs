//! A Redis Cluster, with each partition on one of its servers: streams over several of them, and what becomes of these when a
//! partition goes to another server.

use std::collections::BTreeMap;

use publisher::{Event, Once, Publisher};
use serde_json::Value;
use shared::channel::Channel;
use shared::event_stream::decode::Decoded;
use shared::keys::Keys;
use shared::redis::Settings;
use testkit::{PATIENCE, RedisCluster, eventually_within, soon};

use crate::support::{Builder, Gateway, Stream};

const PARTITIONS: u16 = 16;
/// As long as a failover may take, and everybody to learn of it.
const LONG: std::time::Duration = PATIENCE.saturating_mul(6);

fn settings(cluster: &RedisCluster) -> Settings {
    Settings { partitions: PARTITIONS, ..Settings::new(&cluster.url()) }
}

fn on(cluster: &RedisCluster) -> Builder {
    let builder = Gateway::builder().args(&["--redis-url", &cluster.url()]);
    builder.env("SSE_GATEWAY__REDIS__PARTITIONS", &PARTITIONS.to_string())
}

fn keys() -> Keys {
    Keys::new("sse", PARTITIONS).unwrap()
}

fn slot(channel: &str) -> u16 {
    Keys::slot(keys().partition(&Channel::parse(channel).unwrap()))
}

/// A channel on each of `servers`, all of different partitions.
async fn channels_on<const N: usize>(cluster: &RedisCluster, servers: [usize; N]) -> [String; N] {
    let (mut channels, mut slots) = (Vec::new(), Vec::new());
    for server in servers {
        let mut number = 0;
        loop {
            let name = format!("c{number}");
            let slot = slot(&name);
            if !slots.contains(&slot) && cluster.owner_of_slot(slot).await == server {
                channels.push(name);
                slots.push(slot);
                break;
            }
            number += 1;
        }
    }
    channels.try_into().unwrap()
}

/// Publishes numbers, on each channel from 0 on, each once.
struct Backend {
    publisher: Publisher,
    next: BTreeMap<String, u32>,
}

impl Backend {
    async fn new(cluster: &RedisCluster) -> Self {
        Self { publisher: Publisher::connect(&settings(cluster)).await.unwrap(), next: BTreeMap::new() }
    }

    /// Until it is taken. Returns its number.
    async fn publish(&mut self, channel: &str) -> u32 {
        let number = self.next.entry(channel.to_owned()).or_default();
        let name = Channel::parse(channel).unwrap();
        let once = Once::parse(&format!("number-{number}")).unwrap();
        eventually_within(LONG, "an event that is taken", async || {
            let event = Event::text(number.to_string()).once(once.clone());
            self.publisher.publish(&name, event).await.ok()
        })
        .await;
        *number += 1;
        *number - 1
    }

    /// So many on each.
    async fn publish_on(&mut self, channels: &[String], count: usize) {
        for _ in 0..count {
            for channel in channels {
                self.publish(channel).await;
            }
        }
    }
}

/// What a stream in JSON has brought.
struct Reader {
    stream: Stream,
    cursor: String,
    /// By channel, the next number.
    next: BTreeMap<String, u32>,
    /// Channels of which there was a gap since somebody asked.
    gaps: Vec<String>,
}

impl Reader {
    async fn open(gateway: &Gateway, channels: &[String]) -> Self {
        let stream = gateway.stream(&Self::path(channels)).await;
        Self { stream, cursor: String::new(), next: BTreeMap::new(), gaps: Vec::new() }.opened().await
    }

    /// At another node, from where it was.
    async fn again(self, gateway: &Gateway, channels: &[String]) -> Self {
        let request = gateway.client.get(gateway.url(&Self::path(channels))).header("last-event-id", &self.cursor);
        Self { stream: Stream::open(request).await, ..self }.opened().await
    }

    fn path(channels: &[String]) -> String {
        let channels: Vec<_> = channels.iter().map(|channel| format!("channel={channel}")).collect();
        format!("/events?format=json&{}", channels.join("&"))
    }

    async fn opened(mut self) -> Self {
        self.stream.opened().await;
        self
    }

    /// Reads until `channel` has brought `last`. Each channel's numbers follow one another, but for gaps that are told.
    async fn read_to(&mut self, channel: &str, last: u32) {
        while self.next.get(channel).is_none_or(|next| *next <= last) {
            match soon("an event", self.stream.next()).await.expect("the stream ended") {
                Decoded::Event(event) => self.take(&event.event, &event.data, &event.id),
                Decoded::Id(id) => self.cursor = id,
                _ => {}
            }
        }
    }

    /// The same, whatever number is the first.
    async fn go_on_to(&mut self, channel: &str, last: u32) {
        self.gaps.push(channel.to_owned());
        self.read_to(channel, last).await;
        self.gaps.clear();
    }

    fn take(&mut self, event: &str, data: &str, id: &str) {
        let data: Value = serde_json::from_str(data).unwrap();
        if !id.is_empty() {
            id.clone_into(&mut self.cursor);
        }
        let channel = data["channel"].as_str().unwrap_or_default().to_owned();
        if event == "sse.gap" {
            assert_eq!(data["reason"], "data_lost");
            self.next.remove(&channel);
            self.gaps.push(channel);
        } else if event.is_empty() || event == "message" {
            let number: u32 = data["data"].as_str().unwrap().parse().unwrap();
            let expected = self.next.insert(channel.clone(), number + 1);
            let begins = self.gaps.contains(&channel);
            assert!(
                expected == Some(number) || expected.is_none() && (number == 0 || begins),
                "{channel}: {number} came where {expected:?} was to come"
            );
        }
    }

    /// The channels of which there was a gap.
    fn gaps(&mut self) -> Vec<String> {
        let mut gaps = std::mem::take(&mut self.gaps);
        gaps.sort();
        gaps.dedup();
        gaps
    }
}

/// Waits until each server has run for so long that it knows what came from another one since.
async fn are_old_enough(cluster: &RedisCluster) {
    eventually_within(LONG, "servers that have run for a while", async || {
        for server in cluster.servers.iter().filter(|server| server.runs()) {
            let info = server.cli(&["INFO", "server"]).await;
            let seconds = info.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"))?;
            (seconds.trim().parse::<u32>().ok()? > 11).then_some(())?;
        }
        Some(())
    })
    .await;
}

/// Waits until a node has sessions of all partitions.
async fn is_up(gateway: &Gateway) {
    let up = async || (gateway.metric("sse_gateway_broker_up").await == 1.0).then_some(());
    eventually_within(LONG, "sessions of all partitions", up).await;
}

#[tokio::test]
async fn a_stream_over_several_servers_goes_on_at_another_node() {
    let cluster = RedisCluster::start().await;
    let nodes = [on(&cluster).start().await, on(&cluster).start().await];
    let channels: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let mut backend = Backend::new(&cluster).await;
    let mut reader = Reader::open(&nodes[0], &channels).await;
    backend.publish_on(&channels, 5).await;
    for channel in &channels {
        reader.read_to(channel, 4).await;
    }
    assert!(reader.cursor.contains('~'), "it reads several partitions: {}", reader.cursor);
    backend.publish_on(&channels, 3).await;
    // What node one has sent meanwhile was not read.
    let mut reader = reader.again(&nodes[1], &channels).await;
    backend.publish_on(&channels, 1).await;
    for channel in &channels {
        reader.read_to(channel, 8).await;
    }
    assert_eq!(reader.gaps(), [""; 0]);
    // One connection that hears and one that reads, to each server, of each node.
    for server in &cluster.servers {
        let clients = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        assert_eq!(clients.lines().count(), nodes.len(), "{clients}");
    }
    for node in &nodes {
        assert_eq!(node.metric("sse_gateway_broker_silent_losses_total").await, 0.0);
    }
}

/// A page may load its state first, and open its stream from what it was told then.
#[tokio::test]
async fn a_stream_begins_where_a_receipt_says() {
    let cluster = RedisCluster::start().await;
    let node = on(&cluster).start().await;
    let backend = Backend::new(&cluster).await;
    for name in ["c0", "c1", "c2"] {
        let channel = Channel::parse(name).unwrap();
        let publish = async |data: &str| backend.publisher.publish(&channel, Event::text(data)).await.unwrap();
        let cursor = publish("before").await.cursor.unwrap();
        publish("after").await;
        let mut stream = node.stream(&format!("/events?channel={name}&last_event_id={cursor}")).await;
        assert_eq!(stream.data().await.as_deref(), Some("after"), "{name} from {cursor}");
    }
}

#[tokio::test]
async fn a_partition_that_moves_is_followed_without_a_gap_while_others_go_on() {
    let cluster = RedisCluster::start().await;
    are_old_enough(&cluster).await;
    let node = on(&cluster).start().await;
    let [moves, stays, other] = channels_on(&cluster, [0, 0, 1]).await;
    let all = [moves.clone(), stays.clone(), other.clone()];
    let mut backend = Backend::new(&cluster).await;
    let mut reader = Reader::open(&node, &all).await;
    backend.publish_on(&all, 3).await;
    let slot = slot(&moves);
    for to in [1, 2, 0] {
        cluster.begin_move(slot, to).await;
        while cluster.migrate_some(slot, to, 1).await > 0 {
            backend.publish_on(&all[1..], 1).await;
        }
        cluster.finish_move(slot, to).await;
        backend.publish_on(&all, 3).await;
        for channel in &all {
            reader.read_to(channel, backend.next[channel] - 1).await;
        }
        assert_eq!(reader.gaps(), [""; 0], "to {to}");
    }
    assert_eq!(node.metric("sse_gateway_broker_silent_losses_total").await, 0.0);
}

/// A server that has just started cannot tell what it is given from what it had and lost.
#[tokio::test]
async fn a_partition_that_moves_to_a_server_that_is_new_is_a_gap_unless_failovers_are_trusted() {
    for trusts in [false, true] {
        let mut cluster = RedisCluster::start().await;
        let node = on(&cluster).env("SSE_GATEWAY__REDIS__TRUST_FAILOVER", &trusts.to_string()).start().await;
        let [moves, stays] = channels_on(&cluster, [0, 0]).await;
        let all = [moves.clone(), stays];
        let mut backend = Backend::new(&cluster).await;
        let mut reader = Reader::open(&node, &all).await;
        backend.publish_on(&all, 3).await;
        // What was published before it started may have been its own.
        cluster.servers[2].restart().await;
        cluster.settles().await;
        cluster.move_slot(slot(&moves), 2).await;
        backend.publish_on(&all, 3).await;
        for channel in &all {
            reader.read_to(channel, 5).await;
        }
        let told = if trusts { vec![] } else { vec![moves] };
        assert_eq!(reader.gaps(), told);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_costs_its_own_partitions_a_gap_and_no_other_anything() {
    let mut cluster = RedisCluster::builder().primaries(3).replicas(1).start().await;
    let nodes = [on(&cluster).start().await, on(&cluster).start().await];
    let [dies, lives] = channels_on(&cluster, [0, 1]).await;
    let all = [dies.clone(), lives.clone()];
    let mut backend = Backend::new(&cluster).await;
    let mut readers = [Reader::open(&nodes[0], &all).await, Reader::open(&nodes[1], &all).await];
    backend.publish_on(&all, 3).await;
    cluster.servers[0].kill().await;
    // While one is away the others are not kept waiting.
    for _ in 0..20 {
        backend.publish(&lives).await;
    }
    for reader in &mut readers {
        reader.read_to(&lives, 22).await;
    }
    // One that starts meanwhile serves what there is.
    let late = on(&cluster).start().await;
    let mut of_late = Reader::open(&late, std::slice::from_ref(&lives)).await;
    backend.publish(&lives).await;
    let last = backend.publish(&lives).await;
    of_late.go_on_to(&lives, last).await;
    cluster.fails_over(0).await;
    for node in &nodes {
        is_up(node).await;
    }
    backend.publish_on(&all, 3).await;
    for reader in &mut readers {
        for channel in &all {
            reader.read_to(channel, backend.next[channel] - 1).await;
        }
        assert_eq!(reader.gaps(), std::slice::from_ref(&dies));
    }
}

#[tokio::test]
async fn servers_come_and_go_while_events_are_published() {
    let mut cluster = RedisCluster::start().await;
    let added = cluster.add_primary().await;
    are_old_enough(&cluster).await;
    let node = on(&cluster).start().await;
    let [first, second, stays] = channels_on(&cluster, [0, 1, 2]).await;
    let all = [first.clone(), second.clone(), stays];
    let mut backend = Backend::new(&cluster).await;
    let mut reader = Reader::open(&node, &all).await;
    backend.publish_on(&all, 2).await;
    // One that has lost its last slot may have failed; this one is nobody's.
    let spare = (0..).find(|slot| !(0..PARTITIONS).map(Keys::slot).any(|ours| ours == *slot)).unwrap();
    cluster.move_slot(spare, added).await;
    // The functions are not there yet: whoever comes first loads them.
    for channel in [&first, &second] {
        cluster.move_slot(slot(channel), added).await;
        backend.publish_on(&all, 2).await;
    }
    for (channel, to) in [(&first, 1), (&second, 0)] {
        cluster.move_slot(slot(channel), to).await;
        backend.publish_on(&all, 2).await;
    }
    cluster.move_slot(spare, 0).await;
    cluster.remove_primary(added).await;
    is_up(&node).await;
    backend.publish_on(&all, 1).await;
    for channel in &all {
        reader.read_to(channel, backend.next[channel] - 1).await;
    }
    assert_eq!(reader.gaps(), [""; 0]);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let cluster = RedisCluster::start().await;
    let node = on(&cluster).start().await;
    let other = on(&cluster).env("SSE_GATEWAY__REDIS__PARTITIONS", "17");
    let exit = other.fail().await;
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    let reason = "redis.partitions is 17, and 16 of those who came before with this prefix: ";
    assert!(exit.errors.contains(reason), "{exit:?}");
    drop(node);
}

/// With TLS everywhere, and as users who have passwords.
#[tokio::test]
async fn by_tls() {
    let cluster = RedisCluster::builder().primaries(3).tls().start().await;
    for server in &cluster.servers {
        server.cli(&["ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all"]).await;
    }
    let (url, ca) = (cluster.url_as("me:secret@"), cluster.servers[0].ca_file().display().to_string());
    assert!(url.starts_with("rediss+cluster://"), "{url}");
    let builder = || {
        let builder = Gateway::builder().args(&["--redis-url", &url]).env("SSE_GATEWAY__REDIS__CA_FILE", &ca);
        builder.env("SSE_GATEWAY__REDIS__PARTITIONS", &PARTITIONS.to_string())
    };
    let node = builder().start().await;
    let [one, other] = channels_on(&cluster, [0, 2]).await;
    let all = [one, other];
    let settings = Settings { partitions: PARTITIONS, ca_file: Some(ca.clone().into()), ..Settings::new(&url) };
    let mut backend = Backend { publisher: Publisher::connect(&settings).await.unwrap(), next: BTreeMap::new() };
    let mut reader = Reader::open(&node, &all).await;
    backend.publish_on(&all, 3).await;
    cluster.move_slot(slot(&all[0]), 1).await;
    backend.publish_on(&all, 3).await;
    for channel in &all {
        reader.read_to(channel, 5).await;
    }
}

/// As the users of `config/redis-acl-cluster.conf`, who may not load the functions.
#[tokio::test]
async fn with_no_more_rights_than_needed() {
    let cluster = RedisCluster::start().await;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/redis-acl-cluster.conf");
    let config = std::fs::read_to_string(config).unwrap();
    for server in &cluster.servers {
        // Who asks here stays the default user.
        for line in config.lines().filter(|line| !line.starts_with("user default")) {
            let words: Vec<_> = ["ACL", "SETUSER"].into_iter().chain(acl_words(line)).collect();
            assert_eq!(server.cli(&words).await, "OK", "{line}");
        }
        assert_eq!(server.cli(&["FUNCTION", "LOAD", shared::redis::functions::TEXT]).await, "sse");
    }
    let as_user = |user: &str| cluster.url_as(&format!("{user}@"));
    let builder = Gateway::builder().args(&["--redis-url", &as_user("sse-gateway:GATEWAY-PASSWORD")]);
    let node = builder.env("SSE_GATEWAY__REDIS__PARTITIONS", &PARTITIONS.to_string()).start().await;
    let url = as_user("sse-publisher:PUBLISHER-PASSWORD");
    let settings = Settings { partitions: PARTITIONS, ..Settings::new(&url) };
    let mut backend = Backend { publisher: Publisher::connect(&settings).await.unwrap(), next: BTreeMap::new() };
    let all = channels_on(&cluster, [0, 1, 2]).await;
    let mut reader = Reader::open(&node, &all).await;
    backend.publish_on(&all, 2).await;
    for channel in &all {
        reader.read_to(channel, 1).await;
    }
    for server in &cluster.servers {
        assert_eq!(server.cli(&["ACL", "LOG"]).await, "");
    }
}

/// What stands behind `user`; a selector in parentheses is one word.
fn acl_words(line: &str) -> Vec<&str> {
    let (plain, selector) =
        line.split_once(" (").map_or((line, None), |(plain, _)| (plain, Some(&line[plain.len() + 1..])));
    plain.split(' ').skip(1).chain(selector).collect()
}

#[tokio::test]
async fn one_partition_on_a_cluster_is_refused_with_the_reason() {
    let cluster = RedisCluster::builder().primaries(3).start().await;
    let url = cluster.servers[0].url();
    for (url, code, reason) in [
        (url, 1, "where classic Pub/Sub sends every message to every node"),
        (cluster.url(), 2, "\"redis.partitions\": with one partition, messages go by classic Pub/Sub"),
    ] {
        let exit = Gateway::builder().args(&["--redis-url", &url]).fail().await;
        assert_eq!(exit.status.code(), Some(code), "{exit:?}");
        assert!(exit.errors.contains(reason), "{exit:?}");
    }
}
