//! Two nodes, three clients, four channels, and what happens to them.

use super::client::{Around, Client};
use super::node::Node;
use super::oracle::Record;
use super::redis::Primary;
use super::*;
use crate::broker::past::PastLimits;
use crate::hub::ReplaySettings;

/// Of the hour for which the rules allow.
const MOST_BACK_MS: u64 = 55 * 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

pub(super) struct Model {
    setup: Setup,
    keys: Keys,
    channels: Vec<Channel>,
    /// By channel.
    partitions: Vec<Partition>,
    primaries: Vec<Primary>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    record: Record,
    settings: Arc<ConnectionSettings>,
    now: Instant,
    begin_ms: u64,
    /// Data were lost, or times are such that nobody can know.
    faulty: bool,
    /// By partition: how far its time of day has gone back in all.
    back_ms: Vec<u64>,
    incarnations: u64,
    stats: Stats,
}

impl Model {
    pub(super) fn new(setup: &Setup) -> Self {
        let keys = Keys::new("sse", setup.partitions).unwrap();
        let channels = channels();
        let partitions: Vec<_> = channels.iter().map(|channel| keys.partition(channel)).collect();
        let history = if setup.tight { 3 } else { 1_000 };
        let primary = |partition| Primary::new(&keys, partition, history, setup.evicts);
        let primaries: Vec<_> = (0..u64::from(setup.partitions)).map(primary).collect();
        let keep_alive = KeepAliveSettings { interval: Duration::from_secs(20), event: None };
        let settings =
            ConnectionSettings { node: "n".into(), retry: Duration::from_secs(3), keep_alive, max_lifetime: None };
        let starts = setup.starts.iter().enumerate();
        let of = |i: usize| if i == 0 { vec![0, 2] } else { (i % 2..(i % 2 + 1 + i).min(4)).collect() };
        let clients = starts.map(|(i, start)| Client::new(of(i), start.clone())).collect();
        let begin_ms = primaries[0].time_ms;
        let mut model = Self {
            setup: setup.clone(),
            keys,
            channels,
            partitions,
            primaries,
            nodes: Vec::new(),
            clients,
            record: Record::default(),
            settings: Arc::new(settings),
            now: Instant::now(),
            begin_ms,
            faulty: setup.tight || setup.evicts,
            back_ms: vec![0; usize::from(setup.partitions)],
            incarnations: 0,
            stats: Stats::default(),
        };
        model.nodes = (0..2).map(|_| model.node()).collect();
        model
    }

    fn node(&mut self) -> Node {
        self.incarnations += 1;
        let (log, replay) = if self.setup.tight {
            let limits = PastLimits { events: 2, bytes: 1 << 20 };
            (LogLimits { events: 4, ..LogLimits::default() }, ReplaySettings { limits, ..ReplaySettings::default() })
        } else {
            (LogLimits::default(), ReplaySettings::default())
        };
        Node::new(format!("n{}", self.incarnations), &self.keys, log, replay)
    }

    fn clean(&self) -> bool {
        let old = self.primaries.iter().any(|primary| primary.time_ms > self.begin_ms + 6 * DAY_MS);
        !self.faulty && !old && !self.primaries.iter().any(|primary| primary.forgot)
    }

    /// A client, its node, and the rest.
    fn with<T>(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut Client, &[Node], &mut Around<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let clean = self.clean();
        let mut around = Around {
            record: &self.record,
            stats: &mut self.stats,
            clean,
            partitions: &self.partitions,
            settings: &self.settings,
            now: self.now,
        };
        act(&mut self.clients[client], &self.nodes, &mut around).map_err(|error| format!("client {client}: {error}"))
    }

    fn connect(&mut self, client: usize, node: usize) -> Result<(), String> {
        let channels = self.channels.clone();
        self.with(client, |client, nodes, around| {
            client.connect(node, &nodes[node].hub, &channels, around);
            Ok(())
        })
    }

    fn write(&mut self, client: usize, most: usize) -> Result<bool, String> {
        self.with(client, |client, nodes, around| {
            let Some(node) = client.link.as_ref().map(|link| link.node) else { return Ok(false) };
            client.write(&nodes[node].hub, most, around)
        })
    }

    fn read(&mut self, client: usize, eighths: usize) -> Result<bool, String> {
        self.with(client, |client, _, around| client.read(eighths, around))
    }

    fn publish(&mut self, channel: usize, kind: Kind) {
        let partition = self.partitions[channel];
        let primary = &mut self.primaries[usize::from(partition)];
        let number = self.record.next();
        let name = &self.channels[channel];
        let (ends, text) = match kind {
            Kind::End => (true, format!(r#"{{"end":true,"data":"{channel} {number}"}}"#)),
            _ => (false, format!("{channel} {number}")),
        };
        if kind == Kind::Ephemeral {
            primary.ephemeral(name, &text);
            return self.record.publish(channel, partition, None, false);
        }
        let mut lost = None;
        if let Kind::Lost(node) = kind {
            lost = self.nodes[node].line(usize::from(partition)).filter(|line| primary.listens(*line, name));
            if lost.is_some() {
                self.record.lost.insert((node, number));
                self.faulty = true;
            }
        }
        let position = primary.publish(name, &text, ends, lost);
        self.record.publish(channel, partition, Some(position), ends);
    }

    fn lose_data(&mut self, partition: usize) {
        self.faulty = true;
        self.record.another_life(u16::try_from(partition).unwrap());
    }

    pub(super) fn act(&mut self, op: &Op) -> Result<(), String> {
        self.now += Duration::from_millis(500);
        let count = self.primaries.len();
        match *op {
            Op::Publish(channel, kind) => self.publish(channel, kind),
            Op::Connect(client, node) => self.connect(client, node)?,
            Op::Write(client, most, eighths) => {
                self.write(client, most)?;
                self.read(client, eighths)?;
            }
            Op::Drop(client, change) => {
                self.clients[client].drop_link();
                self.change(client, change);
            }
            Op::Pump(node, p, most) => _ = self.nodes[node].pump(p % count, &mut self.primaries[p % count], most),
            Op::Step(node, p, which) => _ = self.nodes[node].step(p % count, &mut self.primaries[p % count], which),
            Op::Settle(node) => _ = self.nodes[node].settle(&mut self.primaries),
            Op::Barrier(node, p) => self.nodes[node].barrier(p % count, &mut self.primaries[p % count]),
            Op::Sweep(node, p) => self.nodes[node].sweep(p % count),
            Op::Answer(node, which, fail) => self.nodes[node].answer(&mut self.primaries, which, fail),
            Op::Linger(node) => self.nodes[node].hub.sweep(Instant::now() + Duration::from_secs(60)),
            Op::Time(ms) => self.pass(ms),
            Op::Kill(node, p, both) => self.nodes[node].kill(p % count, &mut self.primaries[p % count], both),
            Op::Mute(node, p) => self.nodes[node].deafen(p % count, &mut self.primaries[p % count]),
            Op::RestartNode(node) => self.restart(node),
            Op::Replicate(p) => self.primaries[p % count].replicate(),
            Op::Replace(p, empty, skew_ms) => {
                self.lose_data(p % count);
                let back_ms = self.back(p % count, skew_ms.min(0).unsigned_abs());
                let skew_ms = skew_ms.max(0) - i64::try_from(back_ms).unwrap();
                self.primaries[p % count].replace(empty, skew_ms);
            }
            Op::FlushAll(p) => {
                self.lose_data(p % count);
                self.primaries[p % count].flush();
            }
            Op::StepBack(p, ms) => {
                let ms = self.back(p % count, ms);
                self.primaries[p % count].time_ms -= ms;
            }
            // Whoever asks for the newest events is not told of any between them that are gone.
            Op::Delete(..) if self.setup.starts.iter().any(|start| matches!(start, Resume::Newest(_))) => {}
            Op::Delete(channel, which) => {
                let partition = usize::from(self.partitions[channel]);
                let channel = self.channels[channel].clone();
                self.primaries[partition].delete(&channel, which);
            }
            Op::Evict(channel, last) => {
                let partition = usize::from(self.partitions[channel]);
                let channel = self.channels[channel].clone();
                self.primaries[partition].evict(&channel, last);
            }
        }
        self.learn();
        Ok(())
    }

    /// What epochs the nodes know of by now.
    fn learn(&mut self) {
        for node in &self.nodes {
            for partition in 0..self.keys.partitions() {
                if let Some(life) = node.hub.life(partition) {
                    self.record.know(partition, life.begin.tag);
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        for primary in &mut self.primaries {
            primary.time_ms += ms;
            primary.expire();
        }
    }

    /// How much of `ms` the time of day may go back: clocks stray by less than an hour.
    fn back(&mut self, partition: usize, ms: u64) -> u64 {
        let back_ms = &mut self.back_ms[partition];
        let ms = ms.min(MOST_BACK_MS - *back_ms);
        *back_ms += ms;
        ms
    }

    fn change(&mut self, client: usize, change: Option<usize>) {
        let Some(channel) = change else { return };
        let client = &mut self.clients[client];
        match client.channels.iter().position(|on| *on == channel) {
            None => client.channels.push(channel),
            Some(at) if client.channels.len() > 1 => _ = client.channels.remove(at),
            Some(_) => {}
        }
    }

    fn restart(&mut self, node: usize) {
        let on = |client: &&mut Client| client.link.as_ref().is_some_and(|link| link.node == node);
        self.clients.iter_mut().filter(on).for_each(Client::drop_link);
        for (partition, primary) in self.primaries.iter_mut().enumerate() {
            self.nodes[node].kill(partition, primary, true);
        }
        self.nodes[node] = self.node();
    }

    /// Lets everything come to rest; clients without a stream come back to `node`, or are left.
    fn rest(&mut self, node: Option<usize>) -> Result<(), String> {
        for _ in 0..4 {
            let mut moved = true;
            let mut rounds = 0;
            while moved {
                moved = false;
                for node in 0..self.nodes.len() {
                    for (partition, primary) in self.primaries.iter().enumerate() {
                        self.nodes[node].notice_deafness(partition, primary);
                    }
                    moved |= self.nodes[node].settle(&mut self.primaries);
                    self.learn();
                }
                for client in 0..self.clients.len() {
                    if let Some(node) = node {
                        self.connect(client, node)?;
                    }
                    moved |= self.write(client, 99)?;
                    moved |= self.read(client, 8)?;
                }
                rounds += 1;
                if rounds > 1_000 {
                    return Err("it never comes to rest".into());
                }
            }
            for node in &mut self.nodes {
                for (partition, primary) in self.primaries.iter_mut().enumerate() {
                    node.barrier(partition, primary);
                }
            }
            self.now += Duration::from_millis(1_100);
        }
        Ok(())
    }

    fn sweep(&mut self) {
        for node in &mut self.nodes {
            (0..self.primaries.len()).for_each(|partition| node.sweep(partition));
        }
    }

    fn all_well(&self, when: &str) -> Result<(), String> {
        for (number, client) in self.clients.iter().enumerate() {
            if client.stopped {
                continue;
            }
            if !client.is_joined() {
                return Err(format!("client {number} is not on its channels {when}"));
            }
            let compared = !self.primaries.iter().any(|primary| primary.forgot_last);
            if let Some(event) =
                client.debt.missing(&self.record).find(|event| compared || !self.record.is_lost(*event))
            {
                return Err(format!("client {number} lost event {event} {when}"));
            }
            if let Some(event) = client.debt.suspects.first().filter(|_| compared) {
                return Err(format!("client {number} was never told that event {event} is missing {when}"));
            }
        }
        Ok(())
    }

    /// Everything comes to rest, and is judged.
    pub(super) fn judge(mut self) -> Result<Stats, String> {
        self.rest(None)?;
        self.sweep();
        self.rest(Some(0))?;
        self.sweep();
        self.rest(Some(0))?;
        self.all_well("at the end")?;
        // Idle streams get the cursor that there is by now.
        self.now += Duration::from_secs(60);
        self.rest(Some(0))?;
        for node in [1, 0, 1] {
            let told: Vec<_> = self.clients.iter().map(|client| client.told).collect();
            self.clients.iter_mut().for_each(Client::drop_link);
            self.rest(Some(node))?;
            self.all_well("after coming back")?;
            for (number, (client, told)) in self.clients.iter().zip(told).enumerate() {
                let unsure = self.setup.evicts || client.cursor.is_empty();
                if client.told != told && !unsure {
                    return Err(format!("client {number} has everything, came back, and was told something"));
                }
            }
        }
        self.stats.cases = 1;
        self.stats.events = self.record.next() as u64;
        self.stats.clean = u64::from(self.clean());
        self.stats.over = self.clients.iter().filter(|client| client.stopped).count() as u64;
        Ok(self.stats)
    }
}
