//! Answers of Redis (RESP2), of which only their number counts, and which of them are errors.

/// Deepest array within arrays; answers to what we send have one level.
const MAX_DEPTH: u32 = 4;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    /// Its length in bytes.
    pub(super) length: usize,
    /// What is wrong.
    pub(super) error: Option<&'a [u8]>,
}

/// The answer at the start of `bytes`; `Ok(None)` while it is not whole. An error means that this is not Redis.
pub(super) fn reply(bytes: &[u8]) -> Result<Option<Reply<'_>>, String> {
    let Some(length) = skip(bytes, MAX_DEPTH)? else { return Ok(None) };
    let error = bytes.strip_prefix(b"-").map(|rest| &rest[..length - 3]);
    Ok(Some(Reply { length, error }))
}

fn skip(bytes: &[u8], depth: u32) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..end].strip_suffix(b"\r").ok_or("an answer's line has no end")?;
    let (kind, text) = line.split_first().ok_or("an answer is empty")?;
    let count = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    match kind {
        b'+' | b'-' | b':' => Ok(Some(end + 1)),
        b'$' => {
            let count = count().ok_or("an answer's length is no number")?;
            let Ok(count) = usize::try_from(count) else { return Ok(Some(end + 1)) };
            let length = (end + 3).checked_add(count).ok_or("an answer is too long")?;
            Ok((bytes.len() >= length).then_some(length))
        }
        b'*' if depth > 0 => {
            let mut length = end + 1;
            for _ in 0..count().ok_or("an answer's length is no number")? {
                let Some(item) = skip(&bytes[length..], depth - 1)? else { return Ok(None) };
                length += item;
            }
            Ok(Some(length))
        }
        _ => Err(format!("an answer begins with the byte 0x{kind:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_told_and_parts_are_not() {
        for text in [":3\r\n", "+OK\r\n", "$3\r\na\nb\r\n", "$-1\r\n", "*2\r\n$3\r\n1-0\r\n:1\r\n", "*-1\r\n", "*0\r\n"]
        {
            let both = format!("{text}:1\r\n");
            assert_eq!(reply(both.as_bytes()), Ok(Some(Reply { length: text.len(), error: None })), "{text:?}");
            for cut in 0..text.len() {
                assert_eq!(reply(&text.as_bytes()[..cut]), Ok(None), "{text:?} up to {cut}");
            }
        }
        let error = reply(b"-ERR no such thing\r\n").unwrap().unwrap();
        assert_eq!((error.length, error.error), (20, Some(&b"ERR no such thing"[..])));
    }

    #[test]
    fn what_is_no_redis_is_refused() {
        for text in ["HTTP/1.1 400 Bad Request\r\n", "\r\n", ":3\n", "$x\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"] {
            assert!(reply(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
