//! One connection of many, as it is between two reads, and the account that all of a process share. It must not do I/O.

use mio::net::TcpStream;

use super::message::{Account, Plan, Stats};
use crate::args::Scenario;
use crate::latency::Times;
use crate::stream::answer::{self, Body, Unreadable};
use crate::stream::blocks::{Block, Name, Reader, Rules};
use crate::verify::{Arrival, Tracker};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not begun.
    Fresh,
    /// The socket connects.
    Connecting,
    /// The request was sent, the answer's head is not whole.
    Head,
    /// The event stream is read.
    Open,
    /// Open, and never read.
    Stuck,
    /// Waits to be opened again.
    Away,
    /// It came to nothing, or ended.
    Over,
}

/// A connection. There are very many: what few need is elsewhere.
#[derive(Debug)]
pub(super) struct Slot {
    /// `None` while nothing is open.
    pub(super) socket: Option<TcpStream>,
    /// How far it is.
    pub(super) stage: Stage,
    /// It was open once: events are owed.
    pub(super) was_open: bool,
    /// Times it went on to another server, in `storm`.
    pub(super) moved: u16,
    /// Stream number, in `tokens`.
    pub(super) round: u32,
    /// Where the body and its stream are.
    body: Body,
    reader: Reader,
    /// The beginning of a head that came in pieces.
    head: Option<Box<[u8]>>,
    /// What arrived on the connection's own channel.
    pub(super) tracker: Tracker,
    /// Unix time in ns at which connecting began.
    pub(super) began_ns: u64,
    /// Unix time in ns at which it left, to come back; 0 once it has caught up.
    pub(super) left_ns: u64,
    /// Unix time in ns at which it was open again; the first event sent later shows that it has caught up.
    pub(super) back_ns: u64,
}

/// What the connections of one process share.
#[derive(Debug)]
pub(super) struct Books {
    /// What to do.
    pub(super) plan: Plan,
    /// Counted as it goes.
    pub(super) stats: Stats,
    /// Summed up as it goes; verdicts are added at the end.
    pub(super) account: Account,
    /// Sent to received.
    pub(super) latency: Times,
    /// Connecting to head.
    pub(super) connect: Times,
    /// Events sent before this unix time in ns are not measured; at first that is all of them.
    pub(super) measure_from_ns: u64,
    /// What arrived on the second channel of each connection, in `mixed`; else empty.
    pub(super) broad: Vec<Tracker>,
    /// The last event id of each connection, in `storm`; else empty.
    pub(super) cursors: Vec<Vec<u8>>,
    rules: Rules,
}

impl Slot {
    /// Not begun.
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            stage: Stage::Fresh,
            was_open: false,
            moved: 0,
            round: 0,
            body: Body::none(),
            reader: Reader::new(),
            head: None,
            tracker: Tracker::starting_at(0),
            began_ns: 0,
            left_ns: 0,
            back_ns: 0,
        }
    }

    /// Closes the socket. Half a block or head is forgotten, as the end of a stream forgets it.
    pub(super) fn close(&mut self, stage: Stage) {
        self.socket = None;
        self.stage = stage;
        self.body = Body::none();
        self.reader = Reader::new();
        self.head = None;
    }

    /// Whether the end of the connection is no loss of a part of the answer.
    pub(super) fn is_complete(&self) -> bool {
        self.stage == Stage::Open && (self.body.is_over() || self.body.ends_with_connection())
    }

    /// Takes bytes that were read at `now_ns`. True if the answer is over with them.
    pub(super) fn take(
        &mut self,
        index: usize,
        mut bytes: &[u8],
        now_ns: u64,
        books: &mut Books,
    ) -> Result<bool, Unreadable> {
        if self.stage == Stage::Head {
            let Some(rest) = self.take_head(bytes, now_ns, books)? else { return Ok(false) };
            // A head in pieces ends within the bytes at hand.
            bytes = &bytes[bytes.len() - rest..];
        }
        let rules = books.rules;
        while let Some(piece) = self.body.next(&mut bytes)? {
            let Self { reader, tracker, left_ns, back_ns, .. } = self;
            let mut connection = Connection { index, tracker, left_ns, back_ns: *back_ns, now_ns };
            let fed = reader.feed(piece, rules, |block| books.take(&mut connection, block));
            fed.map_err(|too_long| Unreadable(format!("a block of the stream is longer than {} bytes", too_long.0)))?;
        }
        Ok(self.body.is_over())
    }

    /// How many of the bytes are behind the head; `None` while it is not whole.
    fn take_head(&mut self, bytes: &[u8], now_ns: u64, books: &mut Books) -> Result<Option<usize>, Unreadable> {
        let joined;
        let whole = match self.head.take() {
            Some(earlier) => {
                joined = [&earlier, bytes].concat();
                &joined[..]
            }
            None => bytes,
        };
        let Some((body, length)) = answer::head(whole)? else {
            self.head = Some(whole.into());
            return Ok(None);
        };
        let rest = whole.len() - length;
        self.body = body;
        self.stage = Stage::Open;
        self.was_open = true;
        books.opened(self.began_ns, now_ns);
        if self.left_ns > 0 {
            self.back_ns = now_ns;
            books.stats.reopened += 1;
            books.stats.last_reopened_ns = books.stats.last_reopened_ns.max(now_ns);
        }
        Ok(Some(rest))
    }
}

/// What of a connection a block may change.
struct Connection<'a> {
    index: usize,
    tracker: &'a mut Tracker,
    left_ns: &'a mut u64,
    back_ns: u64,
    now_ns: u64,
}

impl Books {
    /// Nothing counted yet.
    pub(super) fn new(plan: Plan) -> Self {
        let many = plan.range.len();
        let (mixed, storm) = (plan.layout.scenario == Scenario::Mixed, plan.layout.scenario == Scenario::Storm);
        Self {
            stats: Stats::default(),
            account: Account::default(),
            latency: Times::new(),
            connect: Times::new(),
            measure_from_ns: u64::MAX,
            broad: if mixed { (0..many).map(|_| Tracker::starting_at(0)).collect() } else { Vec::new() },
            cursors: if storm { vec![Vec::new(); many] } else { Vec::new() },
            rules: Rules::new(plan.size, storm),
            plan,
        }
    }

    /// Number of a connection over all processes.
    pub(super) fn connection(&self, index: usize) -> u32 {
        // A process has at most a million.
        self.plan.range.start + index as u32
    }

    /// Counts a stream that opened.
    pub(super) fn opened(&mut self, began_ns: u64, now_ns: u64) {
        self.stats.opened += 1;
        self.stats.last_opened_ns = now_ns;
        self.connect.record_ns(now_ns.saturating_sub(began_ns));
    }

    #[inline]
    fn take(&mut self, connection: &mut Connection<'_>, block: Block) {
        if let (Some(id), Some(cursor)) = (block.id, self.cursors.get_mut(connection.index)) {
            *cursor = id;
        }
        match block.name {
            _ if !block.has_data => return,
            Name::Gap => {
                self.account.gaps += 1;
                return;
            }
            Name::Reserved => return,
            Name::Publisher => {}
        }
        let now_ns = connection.now_ns;
        self.stats.last_arrival_ns = now_ns;
        let number = self.connection(connection.index);
        let size = self.plan.size;
        let Some(marker) = block.marker.filter(|_| block.data_bytes == size) else {
            self.account.foreign += 1;
            return;
        };
        let layout = &self.plan.layout;
        let arrival = if marker.key == layout.key(number) {
            connection.tracker.receive(marker.sequence)
        } else if layout.broad_key(number) == Some(marker.key)
            && let Some(tracker) = self.broad.get_mut(connection.index)
        {
            tracker.receive(marker.sequence)
        } else {
            self.account.foreign += 1;
            return;
        };
        if arrival == Arrival::Duplicate {
            return;
        }
        self.stats.delivered += 1;
        if marker.sent_at_ns >= self.measure_from_ns {
            self.stats.measured += 1;
            self.latency.record_ns(now_ns.saturating_sub(marker.sent_at_ns));
        }
        if *connection.left_ns > 0 && connection.back_ns > 0 && marker.sent_at_ns >= connection.back_ns {
            *connection.left_ns = 0;
            self.stats.waiting = self.stats.waiting.saturating_sub(1);
            self.stats.last_caught_up_ns = now_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_are_small() {
        assert!(size_of::<Slot>() <= 120, "{} bytes", size_of::<Slot>());
    }
}
