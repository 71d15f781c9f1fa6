//! Channel names: the topics that publishers write to and connections read.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest channel name, in bytes of UTF-8.
pub const MAX_CHANNEL_BYTES: usize = 256;

/// Names with this prefix are the cluster's own; only an operator may read them, nobody publishes to them.
pub const RESERVED_PREFIX: &str = "sse.";

/// A valid channel name: 1-256 bytes of UTF-8 without control characters, white space, `{`, `}` or `*`.
///
/// The forbidden characters are those that would change meaning in a Redis key (`{}` are hash tags), in a pattern (`*`)
/// or in a log line. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

/// Why a text is not a channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Nothing was given.
    #[error("a channel name is empty")]
    Empty,
    /// Longer than [`MAX_CHANNEL_BYTES`].
    #[error("a channel name has {bytes} bytes, the limit is {MAX_CHANNEL_BYTES}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Holds a character that names may not have.
    #[error("a channel name may not have {character:?} (no control characters, white space, '{{', '}}' or '*')")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl Channel {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`ChannelError`] says which rule it breaks.
    pub fn parse(name: &str) -> Result<Self, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if name.len() > MAX_CHANNEL_BYTES {
            return Err(ChannelError::TooLong { bytes: name.len() });
        }
        match name.chars().find(|&c| c.is_control() || c.is_whitespace() || matches!(c, '{' | '}' | '*')) {
            Some(character) => Err(ChannelError::Character { character }),
            None => Ok(Self(name.into())),
        }
    }

    /// The channel of one user's own events, `user:<id>`.
    ///
    /// # Errors
    /// As [`Channel::parse`], of the whole name; an empty id is [`ChannelError::Empty`].
    pub fn user(id: &str) -> Result<Self, ChannelError> {
        if id.is_empty() {
            return Err(ChannelError::Empty);
        }
        Self::parse(&format!("user:{id}"))
    }

    /// Where it is told when a user comes and goes: `presence:<id>`.
    ///
    /// # Errors
    /// As [`user`](Self::user).
    pub fn presence(id: &str) -> Result<Self, ChannelError> {
        if id.is_empty() {
            return Err(ChannelError::Empty);
        }
        Self::parse(&format!("presence:{id}"))
    }

    /// Whose own channel it is, if it is `user:<id>`.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.0.strip_prefix("user:").filter(|id| !id.is_empty())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is one of the cluster's own (`sse.` prefix).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_ordinary_names() {
        for name in ["a", "user:42", "stocks/AAPL", "chat.7", "한글", "a-b_c~d", &"x".repeat(256)] {
            assert_eq!(Channel::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        let error = |name: &str| Channel::parse(name).unwrap_err();
        assert_eq!(error(""), ChannelError::Empty);
        assert_eq!(error(&"x".repeat(257)), ChannelError::TooLong { bytes: 257 });
        for character in [' ', '\t', '\n', '\r', '\0', '\u{7f}', '\u{85}', '\u{a0}', '\u{2028}', '{', '}', '*'] {
            assert_eq!(error(&format!("a{character}b")), ChannelError::Character { character });
        }
    }

    #[test]
    fn length_is_counted_in_bytes() {
        assert!(Channel::parse(&"한".repeat(85)).is_ok(), "255 bytes");
        assert_eq!(Channel::parse(&"한".repeat(86)).unwrap_err(), ChannelError::TooLong { bytes: 258 });
    }

    #[test]
    fn user_channels() {
        assert_eq!(Channel::user("42").unwrap().as_str(), "user:42");
        assert_eq!(Channel::user("").unwrap_err(), ChannelError::Empty);
        assert_eq!(Channel::user(&"x".repeat(252)).unwrap_err(), ChannelError::TooLong { bytes: 257 });
    }

    #[test]
    fn reserved_names() {
        assert!(Channel::parse("sse.control").unwrap().is_reserved());
        assert!(!Channel::parse("sse:control").unwrap().is_reserved());
    }
}
