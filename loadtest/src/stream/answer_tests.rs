use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";

fn body_of(headers: &str) -> Body {
    let text = format!("{HEAD}{headers}\r\n");
    let (body, length) = head(text.as_bytes()).unwrap().unwrap();
    assert_eq!(length, text.len());
    body
}

/// All of the body, read in pieces of `cut` bytes.
fn read(mut body: Body, bytes: &[u8], cut: usize) -> Result<(Vec<u8>, bool), Unreadable> {
    let mut out = Vec::new();
    for mut piece in bytes.chunks(cut) {
        while let Some(part) = body.next(&mut piece)? {
            assert!(!part.is_empty());
            out.extend_from_slice(part);
        }
    }
    Ok((out, body.is_over()))
}

#[test]
fn chunks_are_put_together_however_they_are_cut() {
    let chunked = body_of("Transfer-Encoding: chunked\r\n");
    let bytes = b"5\r\nhello\r\n00A;name=\"v\"\r\n, 01234567\r\n1 \r\n!\r\n0\r\nTrailer: x\r\n\r\nnext answer";
    for cut in 1..=bytes.len() {
        assert_eq!(read(chunked, bytes, cut), Ok((b"hello, 01234567!".to_vec(), true)), "cut every {cut}");
    }
    let (out, over) = read(chunked, b"0\r\n", 3).unwrap();
    assert_eq!((out.len(), over), (0, false), "the last empty line is missing");
    assert!(read(chunked, b"0\n\n", 1).unwrap().1, "LF alone ends a line too");
}

#[test]
fn what_is_no_chunk_is_refused() {
    let chunked = body_of("transfer-encoding: Chunked\r\n");
    for bytes in [&b"x\r\n"[..], b"\r\n", b"5\r\nhellox", b"-1\r\n", b"11111111111111111\r\n", b"5x\r\n"] {
        assert!(read(chunked, bytes, 1).is_err(), "{:?}", String::from_utf8_lossy(bytes));
    }
    let long = [b"1;".to_vec(), vec![b'a'; MAX_LINE as usize]].concat();
    assert!(read(chunked, &long, 64).unwrap_err().0.contains("longer than 4096 bytes"));
}

#[test]
fn a_length_or_the_end_of_the_connection_bounds_other_bodies() {
    let counted = body_of("Content-Length: 4\r\n");
    assert_eq!(read(counted, b"abcdef", 3), Ok((b"abcd".to_vec(), true)));
    assert_eq!(read(counted, b"abc", 1), Ok((b"abc".to_vec(), false)));
    let open = body_of("");
    assert!(open.ends_with_connection() && !counted.ends_with_connection());
    assert_eq!(read(open, b"5\r\nabc", 2), Ok((b"5\r\nabc".to_vec(), false)));
}

#[test]
fn a_head_that_is_not_whole_is_waited_for_within_bounds() {
    let text = format!("{HEAD}\r\n");
    for cut in 0..text.len() {
        assert_eq!(head(&text.as_bytes()[..cut]), Ok(None), "{cut}");
    }
    let endless = format!("{HEAD}A: {}", "x".repeat(MAX_HEAD));
    assert!(head(endless.as_bytes()).unwrap_err().0.contains("longer than 16384 bytes"));
}

#[test]
fn what_is_no_event_stream_is_refused_with_the_reason() {
    for (text, reason) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "content type \"text/html\""),
        ("HTTP/1.1 200 OK\r\n\r\n", "content type \"\""),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: x\r\n\r\n", "content length"),
        ("SSH-2.0-x\r\n\r\n", "head"),
    ] {
        let error = head(text.as_bytes()).unwrap_err().0;
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}
