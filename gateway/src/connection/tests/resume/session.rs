//! One session of one partition, as the broker on Redis holds it, in small steps: only what of it is sockets is played here.

use std::future::ready;

use futures_util::FutureExt as _;

use super::redis::{Now, Primary};
use super::*;
use crate::broker::past::{self, PastLimits};
use crate::broker::redis::catch_up::{self, Standing};
use crate::broker::redis::ended::Ended;
use crate::broker::redis::hearing::{Attached, Compared, Hearing, Suspicion};
use crate::broker::redis::wanted::{Changes, Wanted};
use crate::broker::{Between, Last, Seen};

pub(super) struct Session {
    pub(super) line: u64,
    pub(super) hearing: Arc<Hearing>,
    epoch: Epoch,
    pub(super) doing: Doing,
    /// Everything that was wanted at first has been said.
    begun: bool,
    pub(super) compare: bool,
    pub(super) catching_up: Vec<CatchUp>,
}

/// What a session waits for: one thing at a time.
pub(super) enum Doing {
    Nothing,
    Subscribing(Vec<(Channel, u64)>),
    Reading(Vec<(Channel, u64)>),
    Attaching(Vec<(Channel, u64)>, Now, Vec<Option<Last>>),
    Comparing(Vec<(Channel, u64)>, Now, Vec<Option<Last>>),
}

pub(super) struct CatchUp {
    seen: Seen,
    attached: Attached,
    /// What the server said.
    read: Option<(past::Past, Epoch)>,
}

impl Session {
    pub(super) fn new(line: u64, hearing: Arc<Hearing>, epoch: Epoch) -> Self {
        let (doing, catching_up) = (Doing::Nothing, Vec::new());
        Self { line, hearing, epoch, doing, begun: false, compare: false, catching_up }
    }

    pub(super) fn commands(&self, primary: &Primary) -> bool {
        let alive = primary.lines.get(&self.line).is_some_and(|line| line.commands);
        if !alive {
            self.hearing.end(Ended::Failed("the model says so".into()));
        }
        alive
    }

    pub(super) fn heard_from(&self, epoch: &Epoch) {
        if *epoch != self.epoch {
            self.hearing.end(Ended::Epoch);
        }
    }

    fn lasts(&self, primary: &mut Primary, batch: &[(Channel, u64)]) -> Option<(Now, Vec<Option<Last>>)> {
        if !self.commands(primary) {
            return None;
        }
        let now = primary.clock(Some(self.line));
        primary.expire();
        Some((now, batch.iter().map(|(channel, _)| primary.last(channel)).collect()))
    }

    /// As `serve` does, one step at a time.
    pub(super) fn go_on(&mut self, primary: &mut Primary, wanted: &mut Wanted, keys: &Keys) -> bool {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Nothing => return self.next(primary, wanted, keys),
            Doing::Subscribing(batch) => {
                self.doing = Doing::Subscribing(batch);
                let dead = primary.lines.get(&self.line).is_none_or(|line| !line.open && line.queue.is_empty());
                if dead {
                    self.hearing.end(Ended::Closed);
                }
                return dead;
            }
            Doing::Reading(batch) => {
                if let Some((now, lasts)) = self.lasts(primary, &batch) {
                    self.doing = Doing::Attaching(batch, now, lasts);
                }
            }
            Doing::Attaching(batch, now, lasts) => self.attach(batch, &now, lasts, primary.evicts, keys),
            Doing::Comparing(batch, now, lasts) => {
                let compared = batch.into_iter().zip(lasts).filter_map(|((channel, generation), last)| {
                    let name = keys.channel(&channel).into_bytes();
                    Some(Compared { name, generation, last: last?.position })
                });
                self.heard_from(&now.epoch);
                self.hearing.compare_at(now.at, compared.collect());
            }
        }
        true
    }

    fn next(&mut self, primary: &mut Primary, wanted: &mut Wanted, keys: &Keys) -> bool {
        if wanted.is_behind() {
            let Changes { unsubscribe, subscribe } = wanted.take();
            let names: Vec<String> = unsubscribe.iter().map(|channel| keys.channel(channel)).collect();
            self.hearing.ignore(&names);
            primary.unsubscribe(self.line, &names);
            if !subscribe.is_empty() {
                let listened: Vec<String> = subscribe.iter().map(|(channel, _)| keys.channel(channel)).collect();
                let zipped = subscribe.iter().zip(&listened);
                self.hearing.listen(zipped.map(|((channel, generation), name)| (name, channel, *generation)));
                primary.subscribe(self.line, &subscribe);
                self.doing = Doing::Subscribing(subscribe);
            }
            return true;
        }
        if !self.begun {
            self.begun = true;
            if self.commands(primary) {
                let now = primary.clock(Some(self.line));
                self.heard_from(&now.epoch);
                self.hearing.establish_at(now.at);
            }
            return true;
        }
        if let Some(missed) = self.hearing.missed().now_or_never() {
            missed.into_iter().for_each(|(channel, generation)| wanted.again(channel, generation));
            return true;
        }
        if let Some(suspicion) = self.hearing.suspicious().now_or_never() {
            let heard = self.hearing.progress().heard;
            if self.commands(primary) {
                let now = primary.clock(Some(self.line));
                self.heard_from(&now.epoch);
                if suspicion == Suspicion::Order && now.at < heard {
                    self.hearing.end(Ended::Order);
                }
            }
            return true;
        }
        if std::mem::take(&mut self.compare) {
            let channels = wanted.subscribed().into_iter();
            let mut batch: Vec<(Channel, u64)> =
                channels.filter_map(|channel| Some((channel.clone(), wanted.subscribed_as(&channel)?))).collect();
            batch.sort_by_key(|(_, generation)| *generation);
            if let Some((now, lasts)) = self.lasts(primary, &batch) {
                self.doing = Doing::Comparing(batch, now, lasts);
            }
            return true;
        }
        false
    }

    fn attach(&mut self, batch: Vec<(Channel, u64)>, now: &Now, lasts: Vec<Option<Last>>, evicts: bool, keys: &Keys) {
        let (mut live, mut moved) = (Vec::new(), Vec::new());
        for ((channel, generation), last) in batch.into_iter().zip(lasts) {
            let snapshot = Snapshot { clock: now.at, time_ms: now.time_ms, evicts, last, entries: Vec::new() };
            let standing = catch_up::standing(self.hearing.seen(&channel, generation), &snapshot.evidence());
            let name = keys.channel(&channel).into_bytes();
            let mut attached = Attached { name, channel, generation, snapshot, join: Join::Anew };
            match standing {
                Standing::Known(join) => {
                    attached.join = join;
                    live.push(attached);
                }
                Standing::Moved(seen) => moved.push(CatchUp { seen, attached, read: None }),
            }
        }
        self.heard_from(&now.epoch);
        self.hearing.live_at(now.at, live, moved.len());
        self.catching_up.append(&mut moved);
    }

    /// To the server, or back.
    pub(super) fn catch_up(&mut self, primary: &mut Primary, index: usize, limits: PastLimits) {
        if !self.commands(primary) {
            return;
        }
        let moved = &mut self.catching_up[index];
        if moved.read.is_none() {
            let (line, channel, mut epoch) = (self.line, moved.attached.channel.clone(), None);
            let page = |between: Between, limit: usize| {
                let (snapshot, of) = primary.read(line, &channel, between, limit);
                epoch = Some(of);
                ready(Ok::<_, std::convert::Infallible>(snapshot))
            };
            let after = moved.seen.last.unwrap_or(Position::ZERO);
            let Ok(past) = past::read(after, limits, page).now_or_never().unwrap();
            moved.read = epoch.map(|epoch| (past, epoch));
            return;
        }
        let CatchUp { seen, mut attached, read } = self.catching_up.remove(index);
        let Some((past, epoch)) = read else { return };
        if epoch != self.epoch {
            return self.hearing.end(Ended::Epoch);
        }
        (attached.snapshot, attached.join) = catch_up::join(past, seen);
        self.hearing.caught_up(attached.snapshot.clock, attached);
    }
}
