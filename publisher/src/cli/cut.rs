//! Input into events: by lines, or as it arrives. Pure; it must not read or publish.

use clap::ValueEnum;

/// Where one event ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// An event a line, without its LF or CR LF
    Line,
    /// Whatever arrives together is an event; no character is torn
    Chunk,
}

/// Why input cannot be cut further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CutError {
    #[error("line {line} of the input has more than {max} bytes; the limit is limits.max_data")]
    LongLine { line: u64, max: usize },
    #[error("line {line} of the input is not UTF-8, which is all that an event stream can carry")]
    Line { line: u64 },
    #[error("byte {at} of the input is not UTF-8, which is all that an event stream can carry")]
    Byte { at: u64 },
    #[error("limits.max_data, {max} bytes, is less than one character of the input")]
    LongCharacter { max: usize },
}

/// Cuts input that comes in pieces of any size. After an error it is of no use.
#[derive(Debug)]
pub(super) struct Cutter {
    by: By,
    /// Bytes of one event.
    max: usize,
    /// What is not complete yet: at most a line and its end, or part of a character.
    rest: Vec<u8>,
    /// Lines cut, or bytes of chunks.
    count: u64,
}

impl Cutter {
    pub(super) fn new(by: By, max: usize) -> Self {
        Self { by, max, rest: Vec::new(), count: 0 }
    }

    /// Adds the texts that are complete with `bytes` to `texts`, also those before an error.
    ///
    /// # Errors
    /// [`CutError`].
    pub(super) fn feed(&mut self, bytes: &[u8], texts: &mut Vec<String>) -> Result<(), CutError> {
        match self.by {
            By::Line => self.feed_lines(bytes, texts),
            By::Chunk => self.feed_chunk(bytes, texts),
        }
    }

    /// The last text, which nothing ended.
    ///
    /// # Errors
    /// [`CutError`].
    pub(super) fn finish(&mut self, texts: &mut Vec<String>) -> Result<(), CutError> {
        match self.by {
            _ if self.rest.is_empty() => Ok(()),
            By::Line => self.take_line(texts),
            By::Chunk => Err(CutError::Byte { at: self.count + 1 }),
        }
    }

    fn feed_lines(&mut self, bytes: &[u8], texts: &mut Vec<String>) -> Result<(), CutError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
            // One more for a CR, which is not the line's if an LF follows.
            if self.rest.len() + piece.len() > self.max.saturating_add(1) {
                return Err(CutError::LongLine { line: self.count + 1, max: self.max });
            }
            self.rest.extend_from_slice(piece);
            if ended {
                if self.rest.last() == Some(&b'\r') {
                    self.rest.pop();
                }
                self.take_line(texts)?;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, texts: &mut Vec<String>) -> Result<(), CutError> {
        self.count += 1;
        if self.rest.len() > self.max {
            return Err(CutError::LongLine { line: self.count, max: self.max });
        }
        let line = std::str::from_utf8(&self.rest).map_err(|_| CutError::Line { line: self.count })?;
        texts.push(line.to_owned());
        self.rest.clear();
        Ok(())
    }

    fn feed_chunk(&mut self, bytes: &[u8], texts: &mut Vec<String>) -> Result<(), CutError> {
        self.rest.extend_from_slice(bytes);
        let (whole, error) = match std::str::from_utf8(&self.rest) {
            Ok(_) => (self.rest.len(), None),
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        let rest = self.rest.split_off(whole);
        let mut text = std::str::from_utf8(&self.rest).unwrap_or_default();
        while !text.is_empty() {
            let end = text.floor_char_boundary(self.max);
            if end == 0 {
                return Err(CutError::LongCharacter { max: self.max });
            }
            texts.push(text[..end].to_owned());
            text = &text[end..];
        }
        self.count += whole as u64;
        self.rest = rest;
        match error {
            Some(_) => Err(CutError::Byte { at: self.count + 1 }),
            // Part of a character waits for the rest of it.
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    /// Feeds `pieces` and ends. Returns the texts, and the error there was.
    fn cut(by: By, max: usize, pieces: &[&[u8]]) -> (Vec<String>, Option<CutError>) {
        let (mut cutter, mut texts) = (Cutter::new(by, max), Vec::new());
        for piece in pieces {
            if let Err(error) = cutter.feed(piece, &mut texts) {
                return (texts, Some(error));
            }
        }
        let error = cutter.finish(&mut texts).err();
        (texts, error)
    }

    #[test]
    fn lines() {
        for (input, lines) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\nb", &["a", "b"]),
            ("a\r\nb\r\n", &["a", "b"]),
            ("\n\na\n", &["", "", "a"]),
            ("a\rb\n", &["a\rb"]),
            ("a\r\r\n", &["a\r"]),
            ("a\r", &["a\r"]),
            ("한\n글", &["한", "글"]),
        ] {
            let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            for pieces in [vec![input.as_bytes()], bytes] {
                assert_eq!(
                    cut(By::Line, 4, &pieces),
                    (lines.iter().map(ToString::to_string).collect(), None),
                    "{input:?}"
                );
            }
        }
    }

    #[test]
    fn lines_at_the_limit() {
        assert_eq!(cut(By::Line, 3, &[b"abc\r\n", b"abc"]).1, None);
        for input in [&b"a\nabcd\nb\n"[..], b"a\nabcd", b"a\nabcd\r\n", b"a\nabcdefgh"] {
            let expected = (vec!["a".to_owned()], Some(CutError::LongLine { line: 2, max: 3 }));
            assert_eq!(cut(By::Line, 3, &[input]), expected);
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut cutter = Cutter::new(By::Line, 10);
        let fed = iter::repeat_with(|| cutter.feed(b"xxxx", &mut Vec::new())).take_while(Result::is_ok).count();
        assert_eq!(fed, 2);
    }

    #[test]
    fn lines_that_are_no_text() {
        assert_eq!(cut(By::Line, 9, &[b"a\nb\xff\nc\n"]), (vec!["a".into()], Some(CutError::Line { line: 2 })));
        assert_eq!(cut(By::Line, 9, &[b"a\nb\xed\x95"]), (vec!["a".into()], Some(CutError::Line { line: 2 })));
    }

    #[test]
    fn chunks_tear_no_character() {
        let text = "a한글👍b\r\n";
        let whole = cut(By::Chunk, 100, &[text.as_bytes()]);
        assert_eq!(whole, (vec![text.to_owned()], None));
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        let characters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(cut(By::Chunk, 100, &bytes), (characters, None));
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(2).collect();
        let (texts, error) = cut(By::Chunk, 100, &pieces);
        assert_eq!((texts.concat().as_str(), error), (text, None));
    }

    #[test]
    fn long_chunks_are_several_events() {
        let (texts, error) = cut(By::Chunk, 4, &["한글ab".as_bytes()]);
        assert_eq!((texts, error), (vec!["한".into(), "글a".into(), "b".into()], None));
        assert_eq!(
            cut(By::Chunk, 2, &["a한".as_bytes()]),
            (vec!["a".into()], Some(CutError::LongCharacter { max: 2 }))
        );
    }

    #[test]
    fn chunks_that_are_no_text() {
        assert_eq!(
            cut(By::Chunk, 9, &[b"ab", b"c\xffd"]),
            (vec!["ab".into(), "c".into()], Some(CutError::Byte { at: 4 }))
        );
        let torn = cut(By::Chunk, 9, &[b"ab\xed\x95"]);
        assert_eq!(torn, (vec!["ab".into()], Some(CutError::Byte { at: 3 })), "nothing completes it");
        let wrong = cut(By::Chunk, 9, &[b"\xed\x95", b"x"]);
        assert_eq!(wrong, (vec![], Some(CutError::Byte { at: 1 })));
    }
}
