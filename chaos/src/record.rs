//! What a client lived through, for the oracle and for the evidence.

use std::fmt::Write as _;
use std::time::Duration;

use shared::cursor::{Cursor, CursorPart};

use crate::oracle::{Heard, Start};

/// Everything about one client.
#[derive(Debug, Default)]
pub struct Record {
    /// Its channels, by number.
    pub channels: Vec<usize>,
    /// What it heard, and on which of `channels`, in order of arrival.
    pub heard: Vec<(usize, Heard)>,
    /// When it got its first cursor, and what that said.
    pub start: Option<(Duration, Option<Cursor>)>,
    /// Its tries to connect.
    pub connects: Vec<Connect>,
    /// What an `EventSource` does not survive, or no gateway may say.
    pub fatal: Vec<String>,
}

/// One try to connect.
#[derive(Debug)]
pub struct Connect {
    /// When.
    pub at: Duration,
    /// To which node, from 1.
    pub node: usize,
    /// What it sent as `Last-Event-ID`; empty: nothing.
    pub cursor: String,
    /// Whether it was answered with an event stream.
    pub answered: bool,
    /// When and how it ended.
    pub ended: Option<(Duration, String)>,
}

impl Record {
    /// For a client on these channels.
    #[must_use]
    pub fn new(channels: &[usize]) -> Self {
        Self { channels: channels.to_vec(), ..Self::default() }
    }

    /// Where it began on the channels of a partition.
    #[must_use]
    pub fn start_on(&self, partition: u16) -> Option<Start> {
        let (at, cursor) = self.start.as_ref()?;
        Some(Start { at: *at, cursor: cursor.as_ref().and_then(|cursor| part(cursor, partition)) })
    }

    /// The highest number heard on a channel.
    #[must_use]
    pub fn newest(&self, channel: usize) -> u64 {
        let on = self.heard.iter().filter(|(on, _)| *on == channel);
        on.map(|(_, heard)| if let Heard::Event { n, .. } = heard { *n } else { 0 }).max().unwrap_or_default()
    }

    /// What it heard on a channel, in order.
    #[must_use]
    pub fn heard_on(&self, channel: usize) -> Vec<Heard> {
        self.heard.iter().filter(|(on, _)| *on == channel).map(|(_, heard)| heard.clone()).collect()
    }

    /// Event streams that it opened beyond the first.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        (self.connects.iter().filter(|connect| connect.answered).count() as u64).saturating_sub(1)
    }

    /// All of it as text, a line for each thing in order of time.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for (channel, heard) in &self.heard {
            lines.push((heard.at(), format!("  channel {channel}: {}", heard_text(heard))));
        }
        for connect in &self.connects {
            lines.push((connect.at, connect_text(connect)));
            if let Some((at, how)) = &connect.ended {
                lines.push((*at, format!("node {} ended: {how}", connect.node)));
            }
        }
        if let Some((at, cursor)) = &self.start {
            let cursor = cursor.as_ref().map_or_else(|| "?".to_owned(), Cursor::to_string);
            lines.push((*at, format!("  its first cursor: {cursor}")));
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut text = format!("channels {:?}\n", self.channels);
        for (at, line) in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {line}", seconds(at));
        }
        self.fatal.iter().for_each(|fatal| text += &format!("FATAL: {fatal}\n"));
        text
    }
}

/// One line about a try to connect.
#[must_use]
pub fn connect_text(connect: &Connect) -> String {
    let cursor = if connect.cursor.is_empty() { "no Last-Event-ID" } else { &connect.cursor };
    format!("connects to node {} with {cursor}", connect.node)
}

/// One line about what was heard.
#[must_use]
pub fn heard_text(heard: &Heard) -> String {
    match heard {
        Heard::Event { n, .. } => format!("number {n}"),
        Heard::Gap { reason, cursor, .. } => format!("GAP {reason}, exact again from {}", cursor_text(*cursor)),
    }
}

/// A cursor, or that there is none.
#[must_use]
pub fn cursor_text(cursor: Option<CursorPart>) -> String {
    cursor.map_or_else(|| "?".to_owned(), |cursor| cursor.to_string())
}

/// What a cursor says of a partition. Where there is only one, it has no number.
#[must_use]
pub fn part(cursor: &Cursor, partition: u16) -> Option<CursorPart> {
    cursor.parts().iter().find(|part| part.partition.unwrap_or_default() == partition).copied()
}

/// A time of a round.
#[must_use]
pub fn seconds(at: Duration) -> String {
    format!("{:8.3}", at.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_begins_on_each_partition_by_itself() {
        let at = Duration::from_secs(1);
        let of = |cursor: &str| Record { start: Some((at, cursor.parse().ok())), ..Record::default() };
        let begins = |cursor: &str, partition| {
            of(cursor).start_on(partition).map(|start| cursor_text(start.cursor)).unwrap_or_default()
        };
        assert_eq!(
            [0, 3, 7].map(|partition| begins("3.9-0_bbbbb~7.5-1_aaaaa", partition)),
            ["?", "3.9-0_bbbbb", "7.5-1_aaaaa"]
        );
        assert_eq!(begins("9-0_bbbbb", 0), "9-0_bbbbb");
        assert_eq!(begins("nonsense", 0), "?");
        assert_eq!(Record::default().start_on(0), None);
    }
}
