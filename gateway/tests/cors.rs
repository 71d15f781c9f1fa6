//! Which pages of other origins may read.

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};

use crate::support::{Gateway, Raw};

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://evil.example.com";

async fn preflight(gateway: &Gateway, path: &str, origin: &str) -> Response {
    let request = gateway.client.request(Method::OPTIONS, gateway.url(path)).header("origin", origin);
    let request = request.header("access-control-request-method", "GET");
    let request = request.header("access-control-request-headers", "content-type,last-event-id");
    request.send().await.unwrap()
}

async fn get(gateway: &Gateway, path: &str, origin: &str) -> HeaderMap {
    let request = gateway.client.get(gateway.url(path)).header("origin", origin);
    request.send().await.unwrap().headers().clone()
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

fn allows(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(reqwest::header::HeaderName::as_str).filter(|name| name.starts_with("access-control-")).collect()
}

fn has_all(list: Option<&str>, wanted: &[&str]) -> bool {
    let list = list.unwrap_or_default().to_ascii_lowercase();
    let list: Vec<&str> = list.split(',').map(str::trim).collect();
    wanted.iter().all(|wanted| list.contains(wanted))
}

#[tokio::test]
async fn everybody_on_loopback_without_credentials() {
    let gateway = Gateway::start().await;
    for path in ["/events?channel=a", "/api/sse/connect?userId=42", "/events", "/nothing"] {
        let headers = get(&gateway, path, OTHER).await;
        assert_eq!(value(&headers, "access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(value(&headers, "access-control-allow-credentials"), None, "{path}");
        // Where an answer or a job is listened to.
        assert_eq!(
            value(&headers, "access-control-expose-headers"),
            Some("location,retry-after,x-request-id"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_preflight_takes_last_event_id_and_content_type() {
    let gateway = Gateway::start().await;
    for path in ["/events?channel=a", "/publish", "/api/sse/connect?userId=42"] {
        let response = preflight(&gateway, path, OTHER).await;
        assert!(response.status().is_success(), "{path}");
        let headers = response.headers();
        assert_eq!(value(headers, "access-control-allow-origin"), Some("*"), "{path}");
        let allowed = value(headers, "access-control-allow-headers");
        assert!(has_all(allowed, &["content-type", "last-event-id", "authorization"]), "{path}: {allowed:?}");
        let methods = value(headers, "access-control-allow-methods");
        assert!(has_all(methods, &["get", "post"]), "{path}: {methods:?}");
        assert!(headers.contains_key("access-control-max-age"), "{path}");
    }
    assert_eq!(gateway.metric(&gateway.ever_open()).await, 0.0);
}

#[tokio::test]
async fn configured_origins_with_credentials_and_no_others() {
    let settings = format!("[cors]\nallowed_origins = [\"{APP}\", \"http://localhost:5173\"]");
    let gateway = Gateway::builder().config(&settings).start().await;
    for origin in [APP, "http://localhost:5173"] {
        let headers = get(&gateway, "/events?channel=a", origin).await;
        assert_eq!(value(&headers, "access-control-allow-origin"), Some(origin));
        assert_eq!(value(&headers, "access-control-allow-credentials"), Some("true"));
        assert!(has_all(value(&headers, "vary"), &["origin"]), "caches have to know: {headers:?}");
        let response = preflight(&gateway, "/events", origin).await;
        assert_eq!(value(response.headers(), "access-control-allow-origin"), Some(origin));
        assert_eq!(value(response.headers(), "access-control-allow-credentials"), Some("true"));
    }
    for origin in
        [OTHER, "https://app.example.com.evil.example", "https://app.example.com:444", "null", "http://app.example.com"]
    {
        let headers = get(&gateway, "/events?channel=a", origin).await;
        assert_eq!(value(&headers, "content-type"), Some("text/event-stream"), "{origin}");
        assert_eq!(value(&headers, "access-control-allow-origin"), None, "{origin}");
        let response = preflight(&gateway, "/events", origin).await;
        assert_eq!(value(response.headers(), "access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn every_host_below_a_domain_and_what_caches_have_to_know() {
    let settings = "[cors]\nallowed_origins = [\"https://*.example.com\", \"https://*.example.org:8443\"]";
    let gateway = Gateway::builder().config(settings).start().await;
    for (origin, allowed) in [
        ("https://app.example.com", true),
        ("https://a.b.example.com", true),
        ("https://app.example.org:8443", true),
        ("https://example.com", false),
        ("https://app.example.org", false),
        ("https://app.example.com:8443", false),
        ("http://app.example.com", false),
        ("https://evilexample.com", false),
        ("https://app.example.com.evil.example", false),
        ("null", false),
    ] {
        let expected = allowed.then_some(origin);
        for path in ["/events?channel=a", "/nothing", "/publish"] {
            let headers = get(&gateway, path, origin).await;
            assert_eq!(value(&headers, "access-control-allow-origin"), expected, "{origin} {path}");
            let credentials = value(&headers, "access-control-allow-credentials");
            assert_eq!(credentials, allowed.then_some("true"), "{origin} {path}");
            assert_eq!(value(&headers, "vary"), Some("origin"), "{origin} {path}");
            let response = preflight(&gateway, path, origin).await;
            let headers = response.headers();
            assert_eq!(value(headers, "access-control-allow-origin"), expected, "{origin} {path}");
            assert!(has_all(value(headers, "vary"), &["origin"]), "{origin} {path}");
            assert!(has_all(value(headers, "access-control-allow-methods"), &["get", "post", "delete"]));
            let allowed = value(headers, "access-control-allow-headers");
            assert!(has_all(allowed, &["authorization", "last-event-id", "content-type", "cache-control"]));
            assert_eq!(value(headers, "access-control-max-age"), Some("86400"));
        }
    }
    // Who names no origin is told as well: what a cache keeps of it is not for a page that may read.
    let headers = gateway.client.get(gateway.url("/nothing")).send().await.unwrap().headers().clone();
    assert_eq!(value(&headers, "vary"), Some("origin"));
}

#[tokio::test]
async fn beyond_loopback_nobody_until_it_is_set() {
    let gateway = Gateway::builder().args(&["--listen", "0.0.0.0:0", "--insecure"]).start().await;
    for path in ["/events?channel=a", "/nothing"] {
        let headers = get(&gateway, path, APP).await;
        assert_eq!(allows(&headers), Vec::<&str>::new(), "{path}");
    }
    let response = preflight(&gateway, "/events?channel=a", APP).await;
    assert_eq!(allows(response.headers()), Vec::<&str>::new());

    let builder = Gateway::builder().config("[cors]\nallowed_origins = [\"*\"]");
    let gateway = builder.args(&["--listen", "0.0.0.0:0", "--insecure"]).start().await;
    let headers = get(&gateway, "/events?channel=a", APP).await;
    assert_eq!(value(&headers, "access-control-allow-origin"), Some("*"));
    assert_eq!(value(&headers, "access-control-allow-credentials"), None);
}

#[tokio::test]
async fn the_operator_port_lets_no_page_in() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.admin).await;
    raw.send(format!("GET /readyz HTTP/1.1\r\nHost: x\r\nOrigin: {OTHER}\r\n\r\n")).await;
    let head = raw.head().await;
    assert_eq!((&*head.status, head.get("access-control-allow-origin")), ("HTTP/1.1 200 OK", None));
}
