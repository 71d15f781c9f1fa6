//! A process that reads event streams: one thread, one loop over all of its sockets, told by another process what to do. It
//! must not publish, and it decides nothing about the run.

mod finish;
mod io;
pub(crate) mod message;
mod opening;
mod slot;
mod socket;

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use crate::clock::unix_ns;
use message::{Answer, Command, Plan, Stats};
use opening::Opening;
use slot::{Books, Slot, Stage};

/// The argument that makes this program a worker.
pub(crate) const ARGUMENT: &str = "--worker";
/// The number that no socket has.
const COMMANDS: Token = Token(usize::MAX);
/// Sockets that are looked at in one go.
const EVENTS: usize = 4_096;
/// Bytes read at once; all connections share the buffer. A read that fills it is followed by another.
const BUFFER: usize = 256 * 1024;
/// Commands that wait: the other process sends a handful in a run.
const QUEUE: usize = 64;
/// Time between two looks at what is to be begun,
const OPEN_EVERY: Duration = Duration::from_millis(1);
/// and between two reports.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// One process' connections.
struct Worker {
    poll: Poll,
    slots: Vec<Slot>,
    books: Books,
    opening: Opening,
    buffer: Vec<u8>,
    /// Sockets that had more to read than their turn allowed.
    again: Vec<usize>,
    /// In `tokens`, streams that are open and not yet told of.
    ready: Vec<(u32, u32)>,
    /// In `tokens`, whether a stream that ends is the connection's last.
    last_streams: bool,
    told: Stats,
    told_at_ns: u64,
}

/// Runs as a worker, up to the end of standard input or of the run.
pub(crate) fn run() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody reads it, nobody waits for it.
            let _ = tell(&Answer::Failed(error));
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| format!("cannot read the plan: {error}"))?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| format!("cannot read the plan: {error}"))?;
    let wanted = plan.range.len() as u64 + crate::system::process::SPARE_FILES;
    crate::system::process::raise_open_files(wanted)?;
    let poll = Poll::new().map_err(|error| format!("cannot poll: {error}"))?;
    let waker = Waker::new(poll.registry(), COMMANDS).map_err(|error| format!("cannot poll: {error}"))?;
    let commands = listen(waker)?;
    Worker::new(poll, plan).run(&commands)
}

/// Reads commands on a thread of its own. The end of standard input is the end of the other process, and so of this one,
/// whatever it is doing.
fn listen(waker: Waker) -> Result<Receiver<Command>, String> {
    let (sender, receiver) = sync_channel(QUEUE);
    let listening = std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let Ok(command) = serde_json::from_str(&line) else { break };
            if sender.send(command).is_err() || waker.wake().is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    listening.map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(receiver)
}

fn tell(answer: &Answer) -> Result<(), String> {
    let mut line = serde_json::to_vec(answer).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line).and_then(|()| stdout.flush()).map_err(|error| format!("cannot write: {error}"))
}

impl Worker {
    fn new(poll: Poll, plan: Plan) -> Self {
        let slots = plan.range.clone().map(|_| Slot::new()).collect();
        let opening = Opening::new(plan.connect_rate);
        Self {
            poll,
            slots,
            books: Books::new(plan),
            opening,
            buffer: vec![0; BUFFER],
            again: Vec::new(),
            ready: Vec::new(),
            last_streams: false,
            told: Stats::default(),
            told_at_ns: 0,
        }
    }

    fn run(mut self, commands: &Receiver<Command>) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, Some(self.patience())) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(format!("cannot poll: {error}"));
                }
                _ => {}
            }
            for event in &events {
                if event.token() != COMMANDS {
                    let closed = event.is_read_closed() || event.is_write_closed() || event.is_error();
                    self.look_at(event.token().0, closed);
                }
            }
            for index in std::mem::take(&mut self.again) {
                self.look_at(index, true);
            }
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Finish(published) => return self.finish(&published),
                    other => self.obey(&other),
                }
            }
            let now_ns = unix_ns();
            self.open_due(now_ns);
            self.give_up_late(now_ns);
            self.tell_stats(now_ns)?;
        }
    }

    /// How long nothing may happen at all.
    fn patience(&self) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        if self.opening.has_work() { OPEN_EVERY } else { TELL_EVERY }
    }

    fn obey(&mut self, command: &Command) {
        match command {
            Command::Open => self.opening.open_up_to(self.slots.len()),
            Command::StopOpening => self.opening.stop(),
            Command::Measure(from_ns) => {
                self.books.measure_from_ns = *from_ns;
                self.books.stats.measuring = 1;
            }
            Command::Drop(share) => self.drop_share(*share),
            Command::LastStreams => self.last_streams = true,
            Command::CloseAll => {
                self.opening.start_over();
                self.books.stats.begun = 0;
                self.slots.iter_mut().for_each(|slot| *slot = Slot::new());
            }
            Command::Finish(_) => {}
        }
    }

    /// A share of the open connections leaves at once, to come back.
    fn drop_share(&mut self, share: f64) {
        let now_ns = unix_ns();
        for index in 0..self.slots.len() {
            let connection = self.books.connection(index);
            if self.slots[index].stage == Stage::Open && crate::layout::is_in_share(connection, share) {
                self.leave(index, now_ns);
            }
        }
    }

    /// Tells what has changed, now and then.
    fn tell_stats(&mut self, now_ns: u64) -> Result<(), String> {
        if !self.ready.is_empty() {
            tell(&Answer::Ready(std::mem::take(&mut self.ready)))?;
        }
        let due = now_ns.saturating_sub(self.told_at_ns) >= TELL_EVERY.as_nanos() as u64;
        if !due || self.told == self.books.stats {
            return Ok(());
        }
        (self.told, self.told_at_ns) = (self.books.stats, now_ns);
        tell(&Answer::Stats(self.told))
    }
}
