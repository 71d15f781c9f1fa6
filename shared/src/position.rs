//! Positions: where a durable event stands in its partition; epochs: within which life of the data.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `<ms>-<seq>`: the id of a Redis Stream entry, totally ordered within a partition.
///
/// `ms` is Unix time in milliseconds as far as the clock went forward; `seq` counts within it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Unix time in milliseconds.
    pub ms: u64,
    /// Counts events of the same `ms`.
    pub seq: u64,
}

impl Position {
    /// Before every event: `0-0`, which Redis refuses as an entry id. As `previous` it means "no event before".
    pub const ZERO: Self = Self { ms: 0, seq: 0 };
    /// After every event.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The position of a new event: `now_ms` with seq 0, or the one right after `self` where that is not later.
    #[must_use]
    pub fn advance(self, now_ms: u64) -> Self {
        if now_ms > self.ms {
            return Self { ms: now_ms, seq: 0 };
        }
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A text that is not `<ms>-<seq>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position of the form <ms>-<seq>")]
pub struct ParsePositionError;

impl FromStr for Position {
    type Err = ParsePositionError;

    /// Strict: decimal digits only, no sign, no leading zero, both halves present, each within 64 bits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').ok_or(ParsePositionError)?;
        Ok(Self { ms: canonical_u64(ms)?, seq: canonical_u64(seq)? })
    }
}

fn canonical_u64(text: &str) -> Result<u64, ParsePositionError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(ParsePositionError);
    }
    text.parse().map_err(|_| ParsePositionError)
}

/// The place of a durable event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its own position.
    pub position: Position,
    /// Position of the channel's durable event before it; [`Position::ZERO`] where none is known.
    pub previous: Position,
}

/// Longest epoch, in bytes.
pub const MAX_EPOCH_BYTES: usize = 40;

/// Names one unbroken life of a partition's data. Another epoch means that events may have been lost in between.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

/// A text that is not 1-40 ASCII letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an epoch: 1 to {MAX_EPOCH_BYTES} ASCII letters and digits")]
pub struct ParseEpochError;

impl Epoch {
    /// An epoch of the embedded broker, whose data live as long as its process: any 64 random bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(format!("{bits:016x}").into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Epoch {
    type Err = ParseEpochError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = 1..=MAX_EPOCH_BYTES;
        if !length.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(ParseEpochError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_strictly() {
        assert_eq!("1763971200123-42".parse(), Ok(Position { ms: 1_763_971_200_123, seq: 42 }));
        assert_eq!("0-0".parse(), Ok(Position::ZERO));
        for wrong in ["", "1", "-", "1-", "-1", "+1-0", "1-+0", "01-0", "1-00", "1-0 ", " 1-0", "1-2-3", "1_0"] {
            assert_eq!(wrong.parse::<Position>(), Err(ParsePositionError), "{wrong:?}");
        }
        assert_eq!("18446744073709551616-0".parse::<Position>(), Err(ParsePositionError));
    }

    #[test]
    fn a_new_event_is_always_later() {
        let at = Position { ms: 100, seq: 7 };
        assert_eq!(at.advance(101), Position { ms: 101, seq: 0 });
        assert_eq!(at.advance(100), Position { ms: 100, seq: 8 });
        assert_eq!(at.advance(50), Position { ms: 100, seq: 8 }, "a clock that stepped back");
        assert_eq!(Position { ms: 5, seq: u64::MAX }.advance(5), Position { ms: 6, seq: 0 });
    }

    #[test]
    fn epochs() {
        assert_eq!(Epoch::from_bits(255).as_str(), "00000000000000ff");
        assert!("".parse::<Epoch>().is_err());
        assert!("a b".parse::<Epoch>().is_err());
        assert!("x".repeat(41).parse::<Epoch>().is_err());
    }

    proptest! {
        #[test]
        fn text_and_value_are_inverse(ms: u64, seq: u64) {
            let position = Position { ms, seq };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn advance_rises(ms in 0..u64::MAX - 1, seq: u64, now: u64) {
            let position = Position { ms, seq };
            prop_assert!(position.advance(now) > position);
        }
    }
}
