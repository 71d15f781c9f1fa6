//! `answer`: whether it is an event stream, and what else it is; `compression`, `cache`: what its head says; `retry`: when
//! clients are told to come back.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use crate::cli::doctor::checks::{Check, span};

const ANSWER: &str = "answer";
/// What a gateway says by itself lies within; beyond it somebody was told otherwise.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(600);

/// A value of a head as text.
pub(in crate::cli::doctor) fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An event stream, with these times from the request on.
pub(in crate::cli::doctor) fn stream(headers: &HeaderMap, head: Duration, open: Option<Duration>) -> Check {
    let open = open.map(|open| format!(", sse.open after {}", span(open))).unwrap_or_default();
    let measured = format!("200 text/event-stream, its head after {}{open}", span(head));
    if let Some(length) = value(headers, CONTENT_LENGTH.as_str()) {
        return Check::wrong(
            ANSWER,
            format!("{measured}, Content-Length {length}"),
            "a stream has no length: something took it for a file, and read it to an end first",
        )
        .change("proxy", "no caching and no buffering of this path; a function or CDN in front that answers whole is no place for it");
    }
    Check::ok(ANSWER, measured)
}

/// An answer that is no event stream. `said` is the begin of it, or where it leads.
pub(in crate::cli::doctor) fn refused(status: StatusCode, headers: &HeaderMap, said: &str) -> Check {
    let kind = value(headers, CONTENT_TYPE.as_str()).unwrap_or("nothing that says what it is");
    let colon = if said.is_empty() { String::new() } else { format!(": {said}") };
    let wrong = |meaning: &str| Check::wrong(ANSWER, format!("{status}{colon}"), meaning);
    match status.as_u16() {
        200 => Check::wrong(
            ANSWER,
            format!("200 with {kind}, which is no event stream{colon}"),
            if kind.contains("html") {
                "a page stands in its place, as a login or a single-page application's own: an EventSource gives up for good"
            } else {
                "an EventSource takes text/event-stream alone, and gives up for good"
            },
        )
        .change("route", "this path has to lead to a gateway's /events or /api/sse/connect, before any catch-all or login"),
        204 => wrong("the gateway says that the channel has ended, and a browser stops for good")
            .change("--channel", "another one, or none, so that this run has its own"),
        301 | 302 | 303 | 307 | 308 => wrong(
            "the address leads elsewhere. If that is a login, an EventSource gets the page and gives up; if it is the same stream, \
             each connect pays for two",
        )
        .change("pages", "the address it leads to, where that is the stream: run this again with it")
        .change("proxy", "no login redirect for this path; the gateway itself answers 401 to who has no token"),
        401 => wrong("there is no token, or it is refused. An EventSource gives up for good")
            .change("--token-file", "a token that has not expired, signed by a key of auth.jwks_file, auth.public_key_file or auth.secret")
            .change("gateway", "auth.issuer and auth.audience have to be the token's iss and aud; a clock that is wrong makes tokens expire")
            .change("proxy", "where the token was sent: nginx passes Authorization on, unless proxy_set_header Authorization says otherwise"),
        403 => wrong("the token is good, and does not grant this channel; or the proxy lets nobody in")
            .change("--channel", "one that the token grants")
            .change("token", "its claim channels: doctor:* for this command, or the names it is for")
            .change("nginx", "allow and deny of the location, where the answer is not JSON"),
        404 | 405 => wrong("the path leads to nothing that streams. An EventSource gives up for good")
            .change("--url", "the whole path: /events, or /api/sse/connect, and what the proxy puts before it")
            .change("nginx", "location ~ ^/(events|api/sse/connect)$; proxy_pass without a path behind the upstream's name"),
        429 => wrong("somebody in front counts requests. An EventSource gives up for good on 429")
            .change("nginx", "no limit_req for this path: gateways have limits.connects_per_second, and say 200 with a later retry"),
        _ => wrong("an EventSource gives up for good on every status but 200"),
    }
}

/// Asked for by a browser that takes gzip.
pub(in crate::cli::doctor) fn compression(headers: &HeaderMap) -> Check {
    match value(headers, CONTENT_ENCODING.as_str()).filter(|encoding| *encoding != "identity") {
        None => Check::ok("compression", "none, though gzip, deflate and br were offered"),
        Some(encoding) => Check::wrong(
            "compression",
            format!("Content-Encoding: {encoding}"),
            "a compressor holds events back until it has enough of them, and costs memory for each stream. The gateway says no-transform; \
             something does it all the same",
        )
        .change("nginx", "gzip off; in the location of the stream, or no text/event-stream in gzip_types (brotli_types, zstd_types)")
        .change("HAProxy", "filter compression: no text/event-stream in compression type")
        .change("Caddy", "encode: a matcher that leaves the path of the stream out")
        .change("CDN", "no compression for text/event-stream"),
    }
}

/// Whether it may be an old one.
pub(in crate::cli::doctor) fn cache(headers: &HeaderMap) -> Check {
    let control = value(headers, CACHE_CONTROL.as_str());
    let told = control.map_or("no Cache-Control".to_owned(), |control| format!("Cache-Control: {control}"));
    let hit = ["x-cache", "x-cache-status", "cf-cache-status"].iter().find_map(|name| {
        let value = value(headers, name)?;
        value.to_ascii_lowercase().contains("hit").then(|| format!("{name}: {value}"))
    });
    let age = value(headers, AGE.as_str()).map(|age| format!("Age: {age}"));
    if let Some(sign) = hit.or(age) {
        return advised(Check::wrong(
            "cache",
            format!("{sign}, {told}"),
            "this stream came from a cache: what is in it is old, and nothing new will come",
        ));
    }
    let words = control.unwrap_or_default().to_ascii_lowercase();
    let has = |wanted: &str| words.split(',').any(|word| word.trim() == wanted);
    if has("no-cache") || has("no-store") {
        return Check::ok("cache", told);
    }
    let meaning =
        "the gateway says no-cache, no-transform; something changed it, and a cache in between may keep the stream";
    if words.contains("max-age") || has("public") {
        return advised(Check::wrong("cache", told, meaning));
    }
    advised(Check::remark("cache", told, meaning))
}

fn advised(check: Check) -> Check {
    check
        .change("nginx", "no proxy_cache and no expires for this path; proxy_hide_header Cache-Control is not for it")
        .change("CDN", "a rule that bypasses the cache for this path, and leaves the origin's Cache-Control as it is")
}

/// The first one of a stream.
pub(in crate::cli::doctor) fn retry(retry: Option<Duration>) -> Check {
    let Some(retry) = retry else {
        return Check::remark(
            "retry",
            "none",
            "a gateway begins each stream with one, so that clients do not come back all at once; this one was lost, or it is no gateway",
        );
    };
    let measured = format!("clients come back {} after an end", span(retry));
    if retry < SOON {
        return Check::wrong("retry", measured, "clients that are turned away come back in a storm")
            .change("gateway", "retry: 3s");
    }
    if retry > NEVER {
        return Check::wrong("retry", measured, "a page that loses its connection hears nothing for so long")
            .change("gateway", "retry: 3s");
    }
    if retry > LATE {
        return Check::remark("retry", measured, "a page that loses its connection hears nothing for so long")
            .change("gateway", "retry: 3s");
    }
    Check::ok("retry", measured)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::cli::doctor::checks::Verdict::{self, NotChecked, Ok, Remark, Wrong};

    fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn told(check: &Check) -> (Verdict, &str) {
        assert_ne!(check.verdict, NotChecked);
        assert_eq!(check.meaning.is_empty(), check.verdict == Ok, "{check:?}");
        (check.verdict, &check.measured)
    }

    #[test]
    fn streams() {
        let (head_at, open) = (Duration::from_millis(4), Some(Duration::from_millis(12)));
        let measured = "200 text/event-stream, its head after 4.0 ms, sse.open after 12 ms";
        assert_eq!(told(&stream(&head(&[]), head_at, open)), (Ok, measured));
        let check = stream(&head(&[("content-length", "70")]), head_at, None);
        assert_eq!(told(&check), (Wrong, "200 text/event-stream, its head after 4.0 ms, Content-Length 70"));
    }

    #[test]
    fn what_is_no_stream_is_named() {
        let html = head(&[("content-type", "text/html; charset=utf-8")]);
        for (status, headers, said, measured, first) in [
            (
                200,
                &html,
                "<title>Log in",
                "200 with text/html; charset=utf-8, which is no event stream: <title>Log in",
                "route",
            ),
            (200, &head(&[]), "", "200 with nothing that says what it is, which is no event stream", "route"),
            (204, &head(&[]), "", "204 No Content", "--channel"),
            (302, &html, "https://login.example.com/", "302 Found: https://login.example.com/", "pages"),
            (401, &head(&[]), "there is no token", "401 Unauthorized: there is no token", "--token-file"),
            (
                403,
                &head(&[]),
                "the token does not grant doctor:1",
                "403 Forbidden: the token does not grant doctor:1",
                "--channel",
            ),
            (404, &html, "", "404 Not Found", "--url"),
            (429, &html, "", "429 Too Many Requests", "nginx"),
        ] {
            let check = refused(StatusCode::from_u16(status).unwrap(), headers, said);
            assert_eq!(told(&check), (Wrong, measured));
            assert_eq!(check.change[0].at, first, "{check:?}");
        }
        let login = refused(StatusCode::OK, &html, "").meaning;
        assert!(login.starts_with("a page stands in its place"), "{login}");
        assert_eq!(
            refused(StatusCode::IM_A_TEAPOT, &html, "").meaning,
            "an EventSource gives up for good on every status but 200"
        );
    }

    #[test]
    fn compressed() {
        let none = "none, though gzip, deflate and br were offered";
        assert_eq!(told(&compression(&head(&[]))), (Ok, none));
        assert_eq!(told(&compression(&head(&[("content-encoding", "identity")]))), (Ok, none));
        assert_eq!(told(&compression(&head(&[("content-encoding", "gzip")]))), (Wrong, "Content-Encoding: gzip"));
    }

    #[test]
    fn cached() {
        let control = |value| head(&[("cache-control", value)]);
        for (headers, verdict, measured) in [
            (control("no-cache, no-transform"), Ok, "Cache-Control: no-cache, no-transform"),
            (control("NO-STORE"), Ok, "Cache-Control: NO-STORE"),
            (control("private"), Remark, "Cache-Control: private"),
            (head(&[]), Remark, "no Cache-Control"),
            (control("public, max-age=60"), Wrong, "Cache-Control: public, max-age=60"),
            (head(&[("age", "7"), ("cache-control", "no-cache")]), Wrong, "Age: 7, Cache-Control: no-cache"),
            (head(&[("x-cache", "Hit from cloudfront")]), Wrong, "x-cache: Hit from cloudfront, no Cache-Control"),
            (head(&[("x-cache", "Miss"), ("cache-control", "no-cache")]), Ok, "Cache-Control: no-cache"),
        ] {
            assert_eq!(told(&cache(&headers)), (verdict, measured));
        }
    }

    #[test]
    fn retries() {
        for (ms, verdict, measured) in [
            (3_055, Ok, "clients come back 3.1 s after an end"),
            (5, Wrong, "clients come back 5.0 ms after an end"),
            (90_000, Remark, "clients come back 90.0 s after an end"),
            (3_600_000, Wrong, "clients come back 1h after an end"),
        ] {
            assert_eq!(told(&retry(Some(Duration::from_millis(ms)))), (verdict, measured));
        }
        assert_eq!(told(&retry(None)), (Remark, "none"));
    }
}
