//! A message on a channel's Pub/Sub channel: durable if it begins as [`sse.lua`](super::functions::TEXT) writes it, else
//! somebody's plain `PUBLISH`.
//!
//! Durable: byte 0x1E, `<position> <previous> <epoch>`, LF, payload.

use crate::position::{Epoch, Position};

const MARK: u8 = 0x1E;
/// Longest head, in bytes: two positions of 41, an epoch of 40, two spaces.
const MAX_HEAD: usize = 2 * 41 + 40 + 2;

/// What stands before the payload of a durable message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Of the event.
    pub position: Position,
    /// Of the channel's event before it; [`Position::ZERO`] where none was known.
    pub previous: Position,
    /// Within which it was published.
    pub epoch: Epoch,
}

/// Splits a message into its head and where its payload begins. `None`: the whole of it is the payload of an ephemeral
/// event.
///
/// Strict, since anybody may publish anything: one space, one form of each number, a position that is not zero and later
/// than the one before it.
#[must_use]
pub fn parse(message: &[u8]) -> Option<(Head, usize)> {
    let rest = message.strip_prefix(&[MARK])?;
    let end = rest.iter().take(MAX_HEAD + 1).position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&rest[..end]).ok()?.split(' ');
    let position: Position = words.next()?.parse().ok()?;
    let previous: Position = words.next()?.parse().ok()?;
    let epoch: Epoch = words.next()?.parse().ok()?;
    if words.next().is_some() || position <= previous {
        return None;
    }
    // The mark, the head, the line feed.
    Some((Head { position, previous, epoch }, end + 2))
}

/// A clock as it is stored and as a node hears it: `<position> <epoch> <replid>`.
#[must_use]
pub fn parse_clock(text: &[u8]) -> Option<(Position, Epoch)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let position = words.next()?.parse().ok()?;
    let epoch = words.next()?.parse().ok()?;
    Some((position, epoch))
}

/// The last position of a channel as it is stored: `<position>` or `<position> end`.
#[must_use]
pub fn parse_last(text: &str) -> Option<(Position, bool)> {
    match text.split_once(' ') {
        None => Some((text.parse().ok()?, false)),
        Some((position, "end")) => Some((position.parse().ok()?, true)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durable() {
        let message = b"\x1E12-3 0-0 abc\n{\"data\":1}";
        let (head, payload) = parse(message).unwrap();
        let position = Position { ms: 12, seq: 3 };
        assert_eq!(head, Head { position, previous: Position::ZERO, epoch: "abc".parse().unwrap() });
        assert_eq!(&message[payload..], b"{\"data\":1}");
        assert_eq!(parse(b"\x1E12-3 12-2 abc\n").unwrap().1, 15, "an empty payload");
    }

    #[test]
    fn anything_else_is_a_payload() {
        for message in [
            &b""[..],
            b"{}",
            b"\x1E",
            b"\x1E12-3 0-0 abc",
            b"12-3 0-0 abc\nx",
            b"\x1E 12-3 0-0 abc\nx",
            b"\x1E12-3  0-0 abc\nx",
            b"\x1E12-3 0-0 abc \nx",
            b"\x1E12-3 0-0 a_c\nx",
            b"\x1E12-3 0-0\nx",
            b"\x1E012-3 0-0 abc\nx",
            b"\x1E12-3 12-3 abc\nx",
            b"\x1E0-0 0-0 abc\nx",
            b"\x1E12-3 0-0 abc\r\nx",
            b"\x1E\xFF12-3 0-0 abc\nx",
        ] {
            assert_eq!(parse(message), None, "{}", message.escape_ascii());
        }
        let long = [&b"\x1E12-3 0-0 "[..], &[b'a'; 200], b"\nx"].concat();
        assert_eq!(parse(&long), None);
    }

    #[test]
    fn stored_texts() {
        let position = Position { ms: 5, seq: 0 };
        assert_eq!(parse_clock(b"5-0 abc 0123"), Some((position, "abc".parse().unwrap())));
        assert_eq!(parse_clock(b"5-0"), None);
        assert_eq!(parse_last("5-0"), Some((position, false)));
        assert_eq!(parse_last("5-0 end"), Some((position, true)));
        assert_eq!(parse_last("5-0 ende"), None);
    }

    proptest! {
        #[test]
        fn any_position_fits(ms in 1u64.., seq: u64, epoch in "[a-zA-Z0-9]{1,40}", payload: Vec<u8>) {
            let position = Position { ms, seq };
            let previous = Position { ms: ms - 1, seq: u64::MAX };
            let head = format!("\x1E{position} {previous} {epoch}\n");
            let message = [head.as_bytes(), &payload].concat();
            let (parsed, at) = parse(&message).unwrap();
            prop_assert_eq!(parsed, Head { position, previous, epoch: epoch.parse().unwrap() });
            prop_assert_eq!(&message[at..], &payload[..]);
        }

        #[test]
        fn never_panics(message: Vec<u8>) {
            let _ = parse(&message);
            let _ = parse_clock(&message);
        }
    }
}
