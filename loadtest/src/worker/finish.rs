//! The end of a worker: what arrived against what was published. It must not wait for anything more.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};

use super::message::{Answer, Command};
use super::slot::Stage;
use super::{Worker, tell};
use crate::verify::Published;

/// Most bytes that are read of a stuck connection to see whether the server has closed it.
const MAX_LEFT_OVER: usize = 64 << 20;

impl Worker {
    /// Adds up all accounts and tells them. `published` is in the order of the keys of this process' range.
    pub(super) fn finish(mut self, published: &[Published]) -> Result<(), String> {
        let layout = &self.books.plan.layout;
        let keys = layout.keys_of(&self.books.plan.range);
        if keys.len() != published.len() {
            return Err(format!(
                "{:?} has {} channels, not {}",
                Command::Finish(Vec::new()),
                published.len(),
                keys.len()
            ));
        }
        let published: HashMap<u32, &Published> = keys.into_iter().zip(published).collect();
        let mut verdict = self.books.account.verdict;
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.was_open) {
            let number = self.books.connection(index);
            if let Some(published) = published.get(&layout.key(number)) {
                verdict.add(&slot.tracker.verdict(published));
            }
            if let (Some(key), Some(tracker)) = (layout.broad_key(number), self.books.broad.get(index))
                && let Some(published) = published.get(&key)
            {
                verdict.add(&tracker.verdict(published));
            }
        }
        self.books.account.verdict = verdict;
        self.count_closed_stuck();
        let mut account = std::mem::take(&mut self.books.account);
        account.latency = self.books.latency.counted();
        account.connect = self.books.connect.counted();
        tell(&Answer::Stats(self.books.stats))?;
        tell(&Answer::Account(Box::new(account)))
    }

    /// The end of a connection stands behind what its reader has not read: only reading shows it.
    fn count_closed_stuck(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.stage == Stage::Stuck) {
            let Some(socket) = slot.socket.as_mut() else { continue };
            let mut left = MAX_LEFT_OVER;
            let closed = loop {
                match socket.read(&mut self.buffer) {
                    Ok(0) => break true,
                    Ok(length) if length < left => left -= length,
                    Ok(_) => break false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => break error.kind() != ErrorKind::WouldBlock,
                }
            };
            self.books.account.stuck_closed += u64::from(closed);
        }
    }
}
