//! Cursors: what a client sends back in `Last-Event-ID`, and so what every `id:` field holds.
//!
//! One partition: `<ms>-<seq>_<tag>`. Several: `3.<ms>-<seq>_<tag>~7.<ms>-<seq>_<tag>`, by partition number. The
//! alphabet is `A-Za-z0-9-._~`, so that no browser ever needs a CORS preflight for the header. A cursor says where a
//! client is, never what it may read.

use std::fmt;
use std::str::FromStr;

use crate::position::{Epoch, Position};

/// Longest cursor accepted, in bytes: 64 partitions at their longest fit.
pub const MAX_CURSOR_BYTES: usize = 4096;

const TAG_CHARS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const TAG_CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Five characters that stand for (epoch, number of partitions): cursors of another life of the data, or of another
/// partitioning, do not compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 5]);

impl Tag {
    /// CRC-32 (ISO-HDLC) of `<epoch>/<partitions>`, its low 25 bits in base 32 (`0-9a-v`), highest digit first.
    #[must_use]
    pub fn of(epoch: &Epoch, partitions: u16) -> Self {
        let hash = TAG_CRC.checksum(format!("{epoch}/{partitions}").as_bytes());
        Self([20, 15, 10, 5, 0].map(|shift| TAG_CHARS[(hash >> shift & 31) as usize]))
    }

    /// The five characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII letters and digits ever get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Tag {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; 5] = text.as_bytes().try_into().map_err(|_| ParseCursorError)?;
        if !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return Err(ParseCursorError);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One partition's part of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorPart {
    /// Number of the partition; `None` where there is only one, and its number is not written.
    pub partition: Option<u16>,
    /// Everything up to here, on the connection's channels of this partition, was delivered.
    pub position: Position,
    /// Within which epoch.
    pub tag: Tag,
}

impl fmt::Display for CursorPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(partition) = self.partition {
            write!(f, "{partition}.")?;
        }
        write!(f, "{}_{}", self.position, self.tag)
    }
}

/// A whole cursor: at least one part, in order of partitions, each at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<CursorPart>);

/// A text that is not a cursor. To a client this is a gap, never an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of the form <ms>-<seq>_<tag>")]
pub struct ParseCursorError;

impl Cursor {
    /// Orders and checks `parts`.
    ///
    /// # Errors
    /// No part, the same partition twice, or an unnumbered part beside another.
    pub fn new(mut parts: Vec<CursorPart>) -> Result<Self, ParseCursorError> {
        parts.sort_by_key(|part| part.partition);
        let alone = parts.len() == 1;
        let numbered = parts.iter().all(|part| part.partition.is_some());
        let distinct = parts.windows(2).all(|pair| pair[0].partition != pair[1].partition);
        if parts.is_empty() || !(alone || numbered) || !distinct {
            return Err(ParseCursorError);
        }
        Ok(Self(parts))
    }

    /// Its parts, by partition.
    #[must_use]
    pub fn parts(&self) -> &[CursorPart] {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "~" };
            write!(f, "{separator}{part}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_CURSOR_BYTES {
            return Err(ParseCursorError);
        }
        Self::new(text.split('~').map(parse_part).collect::<Result<_, _>>()?)
    }
}

fn parse_part(text: &str) -> Result<CursorPart, ParseCursorError> {
    let (partition, rest) = match text.split_once('.') {
        Some((number, rest)) => (Some(parse_partition(number)?), rest),
        None => (None, text),
    };
    let (position, tag) = rest.split_once('_').ok_or(ParseCursorError)?;
    let position = position.parse().map_err(|_| ParseCursorError)?;
    Ok(CursorPart { partition, position, tag: tag.parse()? })
}

fn parse_partition(text: &str) -> Result<u16, ParseCursorError> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !canonical {
        return Err(ParseCursorError);
    }
    text.parse().map_err(|_| ParseCursorError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn one_partition() {
        let cursor: Cursor = "1763971200123-0_ab12z".parse().unwrap();
        let position = Position { ms: 1_763_971_200_123, seq: 0 };
        assert_eq!(cursor.parts(), [CursorPart { partition: None, position, tag: tag("ab12z") }]);
        assert_eq!(cursor.to_string(), "1763971200123-0_ab12z");
    }

    #[test]
    fn several_partitions_are_put_in_order() {
        let cursor: Cursor = "7.5-1_aaaaa~3.9-0_bbbbb".parse().unwrap();
        assert_eq!(cursor.to_string(), "3.9-0_bbbbb~7.5-1_aaaaa");
    }

    #[test]
    fn refuses() {
        let long = format!("1-1_{}", "a".repeat(MAX_CURSOR_BYTES));
        for wrong in [
            "",
            "~",
            "1-1",
            "1-1_",
            "1-1_abcd",
            "1-1_abcdef",
            "1-1_abc-e",
            "_abcde",
            "1_abcde",
            "x-1_abcde",
            ".1-1_abcde",
            "01.1-1_abcde",
            "65536.1-1_abcde",
            "-1.1-1_abcde",
            "1-1_abcde~",
            "1-1_abcde~1-1_abcde",
            "1-1_abcde~3.1-1_abcde",
            "3.1-1_abcde~3.2-1_abcde",
            "earliest",
            "1-1_ab\u{e9}d",
            &long,
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(ParseCursorError), "{wrong:?}");
        }
    }

    #[test]
    fn a_tag_is_a_fixed_function() {
        // The same bytes on every node and in every release: cursors outlive a deploy.
        let epoch = Epoch::from_bits(1);
        assert_eq!(Tag::of(&epoch, 1).as_str(), "2ht7c");
        assert_ne!(Tag::of(&epoch, 1), Tag::of(&epoch, 2));
        assert_ne!(Tag::of(&epoch, 1), Tag::of(&Epoch::from_bits(2), 1));
    }

    proptest! {
        #[test]
        fn text_and_value_are_inverse(parts in proptest::collection::btree_map(any::<u16>(), (any::<u64>(), any::<u64>(), "[a-zA-Z0-9]{5}"), 1..64)) {
            let parts = parts.into_iter().map(|(p, (ms, seq, t))| {
                CursorPart { partition: Some(p), position: Position { ms, seq }, tag: tag(&t) }
            });
            let cursor = Cursor::new(parts.collect()).unwrap();
            let text = cursor.to_string();
            prop_assert!(text.len() <= MAX_CURSOR_BYTES);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)));
            prop_assert_eq!(text.parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Cursor>();
        }
    }
}
