//! `cors`: whether a page of another origin may read the stream.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::cli::doctor::checks::Check;

const NAME: &str = "cors";

/// What was answered to a page of this origin.
#[derive(Debug, Clone)]
pub(in crate::cli::doctor) struct Asked {
    pub(in crate::cli::doctor) origin: String,
    /// Head of the answer to `GET`.
    pub(in crate::cli::doctor) get: HeaderMap,
    /// Status and head of the answer to the preflight for `Last-Event-ID`.
    pub(in crate::cli::doctor) preflight: Result<(StatusCode, HeaderMap), String>,
}

/// What is wrong with one answer.
enum Fault {
    None,
    Missing,
    Twice(String),
    Other(String),
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Words of a list, over all lines of it, lower case.
fn words(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let list = values(headers, name).join(",").to_ascii_lowercase();
    list.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

fn fault(headers: &HeaderMap, origin: &str) -> Fault {
    let allowed = values(headers, &ACCESS_CONTROL_ALLOW_ORIGIN);
    match &*allowed {
        [] => Fault::Missing,
        // A browser takes one value, and a list for none.
        [one] if one.contains(',') => Fault::Twice(one.clone()),
        [one] if one == "*" || one == origin => Fault::None,
        [one] => Fault::Other(one.clone()),
        _ => Fault::Twice(allowed.join(", ")),
    }
}

/// What they come to.
pub(in crate::cli::doctor) fn cors(asked: &Asked) -> Check {
    let Asked { origin, get, preflight } = asked;
    let closed = "the page gets no stream: its EventSource says `error` and gives up, and only the console says why";
    if let Some(check) = refusal(fault(get, origin), origin, "GET", closed) {
        return check;
    }
    let (status, head) = match preflight {
        Ok(answer) => answer,
        Err(why) => return no_preflight(format!("there is no answer to OPTIONS: {why}")),
    };
    if !status.is_success() {
        return no_preflight(format!("OPTIONS is answered with {status}"));
    }
    let by_fetch =
        "clients that use fetch and set Last-Event-ID or Authorization get no stream; a browser's own EventSource does";
    if let Some(check) = refusal(fault(head, origin), origin, "OPTIONS", by_fetch) {
        return check;
    }
    let has = |name, wanted: &str| words(head, name).iter().any(|word| word == wanted || word == "*");
    if !has(&ACCESS_CONTROL_ALLOW_HEADERS, "last-event-id") {
        return no_preflight("Access-Control-Allow-Headers has no Last-Event-ID".to_owned());
    }
    // GET is allowed whatever is said.
    let methods = words(head, &ACCESS_CONTROL_ALLOW_METHODS).join(", ");
    let credentials = values(get, &ACCESS_CONTROL_ALLOW_CREDENTIALS).iter().any(|value| value == "true");
    let any = values(get, &ACCESS_CONTROL_ALLOW_ORIGIN).iter().any(|value| value == "*");
    if any || !credentials {
        let value = if any { "*" } else { origin };
        return Check::remark(
            NAME,
            format!("Access-Control-Allow-Origin: {value}, without credentials"),
            "pages may read, and send no cookie: new EventSource(url, { withCredentials: true }) fails",
        )
        .change(
            "gateway",
            format!("cors.allowed_origins = [\"{origin}\"] where a cookie holds the token; else all is well"),
        );
    }
    if !words(get, &VARY).iter().any(|word| word == "origin" || word == "*") {
        return Check::remark(
            NAME,
            format!("{origin} is allowed, and Vary does not say so"),
            "a cache may give one origin's answer to another",
        )
        .change("proxy", "leave the gateway's Vary: origin as it is");
    }
    Check::ok(NAME, format!("{origin} may read, with credentials; preflight allows Last-Event-ID ({methods})"))
}

fn refusal(fault: Fault, origin: &str, method: &str, meaning: &str) -> Option<Check> {
    let (measured, check): (String, fn(Check, &str) -> Check) = match fault {
        Fault::None => return None,
        Fault::Missing => {
            (format!("no Access-Control-Allow-Origin in the answer to {method} of a page of {origin}"), missing)
        }
        Fault::Other(value) => {
            (format!("Access-Control-Allow-Origin: {value} in the answer to {method}, not {origin}"), missing)
        }
        Fault::Twice(value) => (format!("Access-Control-Allow-Origin twice in the answer to {method}: {value}"), twice),
    };
    Some(check(Check::wrong(NAME, measured, meaning), origin))
}

fn missing(check: Check, origin: &str) -> Check {
    check
        .change(
            "gateway",
            format!("cors.allowed_origins = [\"{origin}\"] in [cors]: scheme, host and port as the browser has them"),
        )
        .change(
            "nginx",
            "no proxy_hide_header Access-Control-Allow-Origin, and no add_header of it: the gateway says it itself",
        )
        .change("pages", "or put the pages on the stream's own origin")
}

fn twice(check: Check, _: &str) -> Check {
    check
        .change(
            "nginx",
            "no add_header Access-Control-Allow-Origin in the stream's location: the gateway says it itself",
        )
        .change("HAProxy", "no http-response add-header for it")
}

fn no_preflight(measured: String) -> Check {
    Check::wrong(
        NAME,
        measured,
        "clients that use fetch and set Last-Event-ID or Authorization get no stream; a browser's own EventSource does",
    )
    .change("nginx", "let OPTIONS through to the gateway: no limit_except, no return 204 of its own")
    .change("HAProxy", "no http-request deny of METH_OPTIONS for this path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::Verdict;

    const APP: &str = "https://app.example.com";

    fn head(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in text.lines() {
            let (name, value) = line.trim().split_once(": ").unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn judged(get: &str, preflight: &str) -> (Verdict, String) {
        let preflight = Ok((StatusCode::OK, head(preflight)));
        let check = cors(&Asked { origin: APP.to_owned(), get: head(get), preflight });
        (check.verdict, check.measured)
    }

    const ORIGIN: &str = "access-control-allow-origin: https://app.example.com";
    const GOOD: &str =
        "access-control-allow-origin: https://app.example.com\naccess-control-allow-credentials: true\nvary: origin";
    const PREFLIGHT: &str = "access-control-allow-origin: https://app.example.com\n\
                             access-control-allow-headers: authorization,Last-Event-ID\naccess-control-allow-methods: GET,POST";

    #[test]
    fn allowed() {
        let wanted = "https://app.example.com may read, with credentials; preflight allows Last-Event-ID (get, post)";
        assert_eq!(judged(GOOD, PREFLIGHT), (Verdict::Ok, wanted.to_owned()));
        let any = "access-control-allow-origin: *";
        let preflight = "access-control-allow-origin: *\naccess-control-allow-headers: *";
        let wanted = "Access-Control-Allow-Origin: *, without credentials";
        assert_eq!(judged(any, preflight), (Verdict::Remark, wanted.to_owned()));
        let wanted = "Access-Control-Allow-Origin: https://app.example.com, without credentials";
        assert_eq!(judged(ORIGIN, PREFLIGHT), (Verdict::Remark, wanted.to_owned()));
        let wanted = "https://app.example.com is allowed, and Vary does not say so";
        let get = format!("{ORIGIN}\naccess-control-allow-credentials: true");
        assert_eq!(judged(&get, PREFLIGHT), (Verdict::Remark, wanted.to_owned()));
    }

    #[test]
    fn refused() {
        for (get, wanted) in [
            ("x: y", "no Access-Control-Allow-Origin in the answer to GET of a page of https://app.example.com"),
            (
                "access-control-allow-origin: https://other.example",
                "Access-Control-Allow-Origin: https://other.example in the answer to GET, not https://app.example.com",
            ),
            (
                &format!("{ORIGIN}\naccess-control-allow-origin: *"),
                "Access-Control-Allow-Origin twice in the answer to GET: https://app.example.com, *",
            ),
            ("access-control-allow-origin: *, *", "Access-Control-Allow-Origin twice in the answer to GET: *, *"),
        ] {
            assert_eq!(judged(get, PREFLIGHT), (Verdict::Wrong, wanted.to_owned()));
        }
    }

    #[test]
    fn preflights() {
        for (preflight, wanted) in [
            ("x: y", "no Access-Control-Allow-Origin in the answer to OPTIONS of a page of https://app.example.com"),
            (ORIGIN, "Access-Control-Allow-Headers has no Last-Event-ID"),
        ] {
            assert_eq!(judged(GOOD, preflight), (Verdict::Wrong, wanted.to_owned()));
        }
        let asked = |preflight| Asked { origin: APP.to_owned(), get: head(GOOD), preflight };
        let check = cors(&asked(Ok((StatusCode::METHOD_NOT_ALLOWED, HeaderMap::new()))));
        assert_eq!(
            (check.verdict, &*check.measured),
            (Verdict::Wrong, "OPTIONS is answered with 405 Method Not Allowed")
        );
        let check = cors(&asked(Err("it broke off".to_owned())));
        assert_eq!(check.measured, "there is no answer to OPTIONS: it broke off");
    }
}
