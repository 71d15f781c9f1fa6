//! Settings that are texts: names, origins, proxies.

use super::*;

#[test]
fn names_of_nodes() {
    let longest = "n".repeat(64);
    for node in ["a", "gw-1.eu_west", &longest] {
        assert_eq!(by_env(&[("node", node)]).unwrap().node.as_deref(), Some(node));
    }
    for node in ["a b", "a/b", "노드", &"n".repeat(65)] {
        assert_eq!(reason("node", node), "a node's name is 1 to 64 of A-Z a-z 0-9 - _ .");
    }
    assert_eq!(by_env(&[("node", "")]).unwrap().node, None, "empty text is no name");
}

#[test]
fn heartbeat_events() {
    let longest = "e".repeat(256);
    for event in ["ping", "하트비트", "sse", &longest] {
        assert_eq!(by_env(&[("heartbeat_event", event)]).unwrap().heartbeat_event.as_deref(), Some(event));
    }
    assert_eq!(reason("heartbeat_event", "sse.ping"), "event names beginning sse. are the gateway's own signals");
    for event in ["a\nb", "a\rdata: forged", "a\0", "\u{7f}", &"e".repeat(257)] {
        assert_eq!(reason("heartbeat_event", event), "an event's name is 1 to 256 bytes without control characters");
    }
    let empty = Config { heartbeat_event: Some(String::new()), ..Config::default() };
    assert_eq!(
        empty.check().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["invalid value for \"heartbeat_event\": an event's name is 1 to 256 bytes without control characters"]
    );
}

#[test]
fn origins() {
    let origins = |text| by_env(&[("cors.allowed_origins", text)]).map(|config| config.cors.allowed_origins);
    assert_eq!(
        origins("https://a.example, http://localhost:5173").unwrap(),
        ["https://a.example", "http://localhost:5173"]
    );
    assert_eq!(origins("*").unwrap(), ["*"]);
    assert!(origins("").unwrap().is_empty());
    for (given, told) in [
        ("https://a.example/", "https://a.example/"),
        ("a.example", "a.example"),
        ("https://a.example,*", "*"),
        ("*,https://a.example", "*"),
    ] {
        let expected = format!(
            "\"{told}\" is not an origin such as https://app.example.com or https://*.example.com \
             (\"*\" stands for all, and stands alone)"
        );
        assert_eq!(reason("cors.allowed_origins", given), expected);
    }
}

#[test]
fn proxies() {
    let trusted = by_env(&[("limits.trusted_proxies", "10.0.0.0/8,::1")]).unwrap();
    assert_eq!(trusted.limits.trusted_proxies, ["10.0.0.0/8", "::1"]);
    assert_eq!(
        reason("limits.trusted_proxies", "10.0.0.0/8,proxy.example"),
        "\"proxy.example\" is neither an address nor a network such as 10.0.0.0/8"
    );
    assert_eq!(
        reason("limits.forwarded_header", "x-real-ip"),
        "expected one of \"x-forwarded-for\", \"forwarded\", got \"x-real-ip\""
    );
}
