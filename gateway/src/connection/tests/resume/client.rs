//! One client: an `EventSource` that reads the bytes a connection hands out, piece by piece, remembers the last `id:`, and
//! comes back with it. And the lane that it is served by, which asks the connection only when that has a reason to be asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use shared::event_stream::decode::{Decoded, Decoder};

use super::oracle::{Debt, Record};
use super::*;
use crate::hub::{Subscription, all_live};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request, until its stream ends.
pub(super) struct Link {
    pub(super) node: usize,
    flag: Arc<Flag>,
    wakeup: Arc<Wakeup>,
    resume: Resume,
    stage: Stage,
    /// When the connection is to be asked again; `None`: at once.
    until: Option<Instant>,
    /// Written, and not read yet.
    pipe: Vec<u8>,
    decoder: Decoder,
    /// It asked for history: where a channel begins shows with its first event only.
    unsure: bool,
    /// It asked for everything while nothing was lost, and has no cursor yet.
    earliest: bool,
    /// It left before it was told anything of some partition.
    at_zero: bool,
}

enum Stage {
    Waiting(Vec<Subscription>),
    Open(Box<Connection>),
    Ended,
}

pub(super) struct Client {
    pub(super) channels: Vec<usize>,
    /// What it asks for while it has no cursor.
    pub(super) start: Resume,
    pub(super) cursor: String,
    pub(super) link: Option<Link>,
    /// It was told not to come again.
    pub(super) stopped: bool,
    pub(super) debt: Debt,
    /// Events and gaps so far.
    pub(super) told: u64,
}

/// What a client needs of the world.
pub(super) struct Around<'a> {
    pub(super) record: &'a Record,
    pub(super) stats: &'a mut Stats,
    /// Nothing happened that would be a reason for a gap.
    pub(super) clean: bool,
    pub(super) partitions: &'a [Partition],
    pub(super) settings: &'a Arc<ConnectionSettings>,
    pub(super) now: Instant,
}

impl Client {
    pub(super) fn new(channels: Vec<usize>, start: Resume) -> Self {
        let (cursor, debt) = (String::new(), Debt::default());
        Self { channels, start, cursor, link: None, stopped: false, debt, told: 0 }
    }

    pub(super) fn on(&self, partitions: &[Partition]) -> Vec<(usize, Partition)> {
        self.channels.iter().map(|channel| (*channel, partitions[*channel])).collect()
    }

    /// Asks a node for a stream.
    pub(super) fn connect(&mut self, node: usize, hub: &Arc<Hub>, channels: &[Channel], around: &Around<'_>) {
        if self.link.is_some() || self.stopped {
            return;
        }
        let wakeup = Arc::new(Wakeup::default());
        let attached = self.channels.iter().map(|channel| hub.attach(&channels[*channel], &wakeup).unwrap());
        let stage = Stage::Waiting(attached.collect());
        let resume = if self.cursor.is_empty() { self.start.clone() } else { Resume::parse(&self.cursor) };
        let earliest = around.clean && self.cursor.is_empty() && resume == Resume::Earliest;
        self.debt.connect(around.record, &self.cursor, &self.on(around.partitions), earliest);
        let unsure = matches!(resume, Resume::Newest(_) | Resume::Earliest);
        let at_zero = self.cursor.contains(".0-0_");
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let (pipe, decoder) = (Vec::new(), Decoder::new());
        self.link =
            Some(Link { node, flag, wakeup, resume, stage, until: None, pipe, decoder, unsure, earliest, at_zero });
    }

    /// The connection is gone, and whatever was not read.
    pub(super) fn drop_link(&mut self) {
        self.link = None;
        self.debt.suspects.clear();
    }

    /// Lets the node write, at most so many times. Returns whether it wrote something.
    pub(super) fn write(&mut self, hub: &Arc<Hub>, most: usize, around: &Around<'_>) -> Result<bool, String> {
        let on = self.on(around.partitions);
        let Some(link) = &mut self.link else { return Ok(false) };
        let mut wrote = false;
        for _ in 0..most {
            let waker: Waker = link.flag.clone().into();
            let woken = link.flag.0.swap(false, Ordering::Relaxed);
            match &mut link.stage {
                Stage::Waiting(subscriptions) => {
                    if !woken {
                        break;
                    }
                    let live =
                        std::pin::pin!(all_live(subscriptions, &link.wakeup)).poll(&mut Context::from_waker(&waker));
                    if live.is_pending() {
                        break;
                    }
                    if is_over(hub, subscriptions, &link.resume) {
                        let heard = |partition| hub.cursor(partition, hub.watermark(partition)).unwrap();
                        let node = link.node;
                        self.stopped = true;
                        self.link = None;
                        self.debt.over(around.record, &self.cursor, &on, heard, node)?;
                        return Ok(true);
                    }
                    let request = Request { resume: link.resume.clone(), ..Request::default() };
                    let place = Gate::new(1).enter().unwrap();
                    let guard = || Guard::open(Arc::new(ConnectionMetrics::new(Lane::Hyper)), place);
                    let subscriptions = std::mem::take(subscriptions);
                    let rng = fastrand::Rng::with_seed(7);
                    let opened =
                        Connection::open(hub, around.settings, &link.wakeup, subscriptions, &request, guard, rng);
                    link.stage = opened.map_or(Stage::Ended, |connection| Stage::Open(Box::new(connection)));
                    wrote = true;
                }
                Stage::Open(connection) => {
                    if !woken && link.until.is_some_and(|until| around.now < until) {
                        break;
                    }
                    connection.wakeup().register(&waker);
                    match connection.next(around.now) {
                        Next::Write(bytes) => {
                            link.pipe.extend_from_slice(&bytes.into_bytes());
                            link.until = None;
                            wrote = true;
                        }
                        Next::Wait(until) => {
                            link.until = Some(until);
                            break;
                        }
                        Next::End => {
                            link.stage = Stage::Ended;
                            wrote = true;
                        }
                    }
                }
                Stage::Ended => break,
            }
        }
        Ok(wrote)
    }

    /// Reads at most `eighths` of what has arrived. Returns whether there was something.
    pub(super) fn read(&mut self, eighths: usize, around: &mut Around<'_>) -> Result<bool, String> {
        let on = self.on(around.partitions);
        let Some(link) = &mut self.link else { return Ok(false) };
        let count = (link.pipe.len() * eighths).div_ceil(8);
        let bytes: Vec<u8> = link.pipe.drain(..count).collect();
        link.decoder.feed(&bytes).map_err(|error| error.to_string())?;
        while let Some(item) = self.link.as_mut().and_then(|link| link.decoder.next()) {
            self.take(item, &on, around)?;
        }
        let Some(link) = &self.link else { return Ok(true) };
        if matches!(link.stage, Stage::Ended) && link.pipe.is_empty() {
            self.drop_link();
            return Ok(true);
        }
        Ok(count > 0)
    }

    fn take(&mut self, item: Decoded, on: &[(usize, Partition)], around: &mut Around<'_>) -> Result<(), String> {
        let (event, id) = match item {
            Decoded::Event(event) => {
                let id = event.id.clone();
                (Some(event), id)
            }
            Decoded::Id(id) => (None, id),
            Decoded::Retry(_) | Decoded::Comment(_) => return Ok(()),
        };
        let mut of = None;
        if let Some(event) = &event {
            match event.event.as_str() {
                "sse.open" => {}
                "sse.gap" => {
                    self.told += 1;
                    self.gap(&event.data, on, around)?;
                }
                _ => {
                    self.told += 1;
                    let (channel, number) = event.data.split_once(' ').ok_or("no event of ours")?;
                    of = Some(channel.parse().unwrap());
                    if !self.channels.contains(&channel.parse().unwrap()) {
                        return Err(format!("an event of channel {channel}"));
                    }
                    self.debt.event(around.record, number.parse().unwrap())?;
                }
            }
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        if !id.is_empty() && id != self.cursor {
            self.cursor = id;
            if link.earliest && !around.clean {
                self.debt.owed.retain(|_, owed| *owed > 0);
            }
            link.earliest &= self.cursor.contains(".0-0_");
            let begins = |channel| !link.unsure || of == Some(channel);
            self.debt.cursor(around.record, &self.cursor, on, link.node, begins)?;
        }
        Ok(())
    }

    fn gap(&mut self, data: &str, on: &[(usize, Partition)], around: &mut Around<'_>) -> Result<(), String> {
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        let index = channels().iter().position(|channel| channel.as_str() == text("channel")).unwrap();
        let (_, partition) = *on.iter().find(|(channel, _)| *channel == index).ok_or("a gap of another channel")?;
        let end: Cursor = text("cursor").parse().unwrap();
        let real = self.debt.gap(around.record, index, partition, &end.parts()[0]);
        let reason = text("reason");
        let count = around.stats.gaps.entry(reason.clone()).or_default();
        if real {
            count.0 += 1;
        } else {
            count.1 += 1;
        }
        // Its cursor says nothing of a partition that it comes to anew, or that it stands before all of it.
        let anew = reason == "unknown_cursor" || self.link.as_ref().is_some_and(|link| link.at_zero);
        if around.clean && !anew {
            return Err(format!("a gap on channel {index} for no reason: {reason}"));
        }
        Ok(())
    }

    /// Whether it has a stream and is on all its channels.
    pub(super) fn is_joined(&self) -> bool {
        match self.link.as_ref().map(|link| &link.stage) {
            Some(Stage::Open(connection)) => {
                connection.parts.iter().all(Part::is_settled) && connection.readers.iter().all(Reader::is_joined)
            }
            _ => false,
        }
    }
}
