//! Lines, words, bytes and SHA-256 of a text that comes in pieces, wherever it is cut.

use sha2::{Digest as _, Sha256};

use crate::random::hex;

/// The count so far.
#[derive(Default)]
pub(super) struct Count {
    bytes: usize,
    /// Line feeds.
    feeds: usize,
    words: usize,
    /// The last byte, if there was one.
    last: Option<u8>,
    sha256: Sha256,
}

/// What a text has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) bytes: usize,
    /// A last one without a line feed counts too.
    pub(super) lines: usize,
    /// What stands between white space of ASCII.
    pub(super) words: usize,
    /// In hex.
    pub(super) sha256: String,
}

impl Count {
    /// Takes the next piece.
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        self.bytes += piece.len();
        for &byte in piece {
            let before_word = self.last.is_none_or(is_space);
            self.words += usize::from(before_word && !is_space(byte));
            self.feeds += usize::from(byte == b'\n');
            self.last = Some(byte);
        }
    }

    /// The whole.
    pub(super) fn finish(self) -> Counted {
        let unfinished = self.last.is_some_and(|last| last != b'\n');
        let lines = self.feeds + usize::from(unfinished);
        Counted { bytes: self.bytes, lines, words: self.words, sha256: hex(&self.sha256.finalize()) }
    }
}

fn is_space(byte: u8) -> bool {
    // The vertical tab is one for everybody but the standard library.
    byte.is_ascii_whitespace() || byte == 0x0B
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str, piece: usize) -> Counted {
        let mut count = Count::default();
        for piece in text.as_bytes().chunks(piece) {
            count.add(piece);
        }
        count.finish()
    }

    #[test]
    fn counts_the_same_wherever_it_is_cut() {
        for (text, lines, words) in [
            ("", 0, 0),
            ("\n", 1, 0),
            ("a", 1, 1),
            ("one two\nthree\n", 2, 3),
            ("\r\n \x0B\tone  two\r\n\r\nthree", 4, 3),
            ("한글 두 단어", 1, 3),
        ] {
            for piece in 1..=text.len().max(1) {
                let Counted { bytes, lines: l, words: w, .. } = counted(text, piece);
                assert_eq!((bytes, l, w), (text.len(), lines, words), "{text:?} in pieces of {piece}");
                assert_eq!(counted(text, piece), counted(text, 1_000), "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_sum_is_sha_256() {
        assert_eq!(counted("", 1).sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(counted("abc", 2).sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
