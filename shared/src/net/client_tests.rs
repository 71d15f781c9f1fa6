//! What is believed of headers that anybody can write.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn proxies(trusted: &[&str], header: ForwardedHeader) -> Proxies {
    Proxies::parse(&trusted.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), header).unwrap()
}

fn headers(name: &'static str, lines: &[impl AsRef<[u8]>]) -> HeaderMap {
    let name = HeaderName::from_static(name);
    lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_ref()).unwrap())).collect()
}

/// With `?` behind the address of a proxy that hides its client.
fn told(client: ClientAddress) -> String {
    format!("{client}{}", if client.is_hidden() { "?" } else { "" })
}

fn by_x(peer: &str, lines: &[impl AsRef<[u8]>]) -> String {
    let proxies = proxies(&["10.0.0.0/8", "::1", "2001:db8:ffff::/48"], ForwardedHeader::XForwardedFor);
    told(proxies.client(peer.parse().unwrap(), &headers("x-forwarded-for", lines)))
}

fn by_forwarded(lines: &[impl AsRef<[u8]>]) -> String {
    let proxies = proxies(&["10.0.0.0/8"], ForwardedHeader::Forwarded);
    told(proxies.client("10.0.0.1".parse().unwrap(), &headers("forwarded", lines)))
}

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
    for (peer, lines, expected) in [
        ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", &["198.51.100.1, 203.0.113.9,10.1.2.3 , 10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", &["198.51.100.1", "203.0.113.9", "10.1.2.3"], "203.0.113.9"),
        ("10.0.0.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::1", &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("::1", &["[2001:db8:1:2:3::6]:4711, 2001:db8:ffff::1"], "2001:db8:1:2::/64"),
        ("::1", &["203.0.113.9:80"], "203.0.113.9"),
        ("2001:db8::1", &["203.0.113.9"], "2001:db8::/64"),
    ] {
        assert_eq!(by_x(peer, lines), expected, "{peer} {lines:?}");
    }
}

#[test]
fn what_a_client_writes_cannot_hide_it() {
    for line in
        [&b"\xE9, 203.0.113.9"[..], b"\xFF\xFE,\t203.0.113.9", b"\"\\, 203.0.113.9", b",,,,203.0.113.9, 10.1.1.1"]
    {
        assert_eq!(by_x("10.0.0.1", &[line]), "203.0.113.9", "{}", line.escape_ascii());
    }
    assert_eq!(by_x("10.0.0.1", &[&b"\xE9"[..], b"203.0.113.9"]), "203.0.113.9");
    for line in [
        &b"for=x;y=\", for=203.0.113.9"[..],
        b"for=x;y=\"\\, for=203.0.113.9",
        b"for=x;y=\\\", for=203.0.113.9;host=\"a,\\\"b\"",
        b"\xE9, for=203.0.113.9",
        b"for=\"\xE9, for=\"203.0.113.9:80\";proto=http, for=10.1.1.1",
    ] {
        assert_eq!(by_forwarded(&[line]), "203.0.113.9", "{}", line.escape_ascii());
    }
}

#[test]
fn what_cannot_be_read_ends_at_the_last_address_that_could() {
    for text in [
        "",
        " ",
        "unknown",
        "_hidden",
        "203.0.113",
        "203.0.113.9:",
        "203.0.113.9:port",
        "203.0.113.9:123456",
        "[2001:db8::1",
        "[2001:db8::1]x",
        "2001:db8::1%eth0",
        "203.0.113.9;x",
        "\"203.0.113.9\"",
    ] {
        assert_eq!(by_x("10.0.0.1", &[text]), "10.0.0.1?", "{text:?}");
        assert_eq!(by_x("10.0.0.1", &[format!("203.0.113.9, {text}, 10.7.7.7")]), "10.7.7.7?", "{text:?}");
    }
    assert_eq!(by_x("10.0.0.1", &["203.0.113.9, é"]), "10.0.0.1?");
    assert_eq!(by_x("10.0.0.1", &[b"203.0.113.9, \xE9"]), "10.0.0.1?");
}

#[test]
fn forwarded_as_rfc_7239_has_it() {
    for (lines, expected) in [
        (&["for=203.0.113.9"][..], "203.0.113.9"),
        (&["For=\"203.0.113.9:4711\";proto=http;by=203.0.113.43"], "203.0.113.9"),
        (&["proto=https; for = 203.0.113.9"], "203.0.113.9"),
        (&["for=\"[2001:db8:cafe:7::17]:_port\""], "2001:db8:cafe:7::/64"),
        (&["for=198.51.100.17, for=203.0.113.9", "for=10.1.1.1"], "203.0.113.9"),
        (&["for=203.0.113.9;host=\"a,b;for=198.51.100.1\""], "203.0.113.9"),
        (&["host=\"a\\\",for=198.51.100.1\";for=203.0.113.9"], "203.0.113.9"),
        (&["for=203.0.113.9, for=unknown"], "10.0.0.1?"),
        (&["for=203.0.113.9, for=_gazonk, for=10.2.2.2"], "10.2.2.2?"),
        (&["for=203.0.113.9, proto=http"], "10.0.0.1?"),
        (&["for=\"203.0.113.9"], "10.0.0.1?"),
        (&["for=203.0.113.9;x=\""], "10.0.0.1?"),
        (&["for=198.51.100.1;x=\"\\, for=\"[2001:db8::1]\""], "2001:db8::/64"),
        (&["203.0.113.9"], "10.0.0.1?"),
    ] {
        assert_eq!(by_forwarded(lines), expected, "{lines:?}");
    }
}

#[test]
fn only_the_header_that_was_chosen_counts() {
    let proxies = proxies(&["10.0.0.1"], ForwardedHeader::Forwarded);
    let headers = headers("x-forwarded-for", &["203.0.113.9"]);
    assert_eq!(proxies.client("10.0.0.1".parse().unwrap(), &headers).to_string(), "10.0.0.1");
}

#[test]
fn nobody_is_trusted_unless_it_is_said() {
    let headers = headers("x-forwarded-for", &["203.0.113.9"]);
    assert_eq!(Proxies::default().client("127.0.0.1".parse().unwrap(), &headers).to_string(), "127.0.0.1");
    for text in ["proxy.example", "10.0.0.0/33", "10.0.0.1:80", "", "*"] {
        assert_eq!(
            Proxies::parse(&[text.to_owned()], ForwardedHeader::default()),
            Err(format!("\"{text}\" is neither an address nor a network such as 10.0.0.0/8"))
        );
    }
}

#[test]
fn mapped_networks_are_networks_of_ipv4() {
    for (trusted, peer, expected) in [
        ("::ffff:10.0.0.0/104", "10.1.2.3", "203.0.113.9"),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "203.0.113.9"),
        ("::ffff:10.0.0.0/104", "11.1.2.3", "11.1.2.3"),
        ("::ffff:10.0.0.7", "10.0.0.7", "203.0.113.9"),
        ("::ffff:10.0.0.7", "10.0.0.8", "10.0.0.8"),
        ("::ffff:0:0/96", "192.0.2.1", "203.0.113.9"),
        ("::/0", "192.0.2.1", "192.0.2.1"),
        ("::/0", "2001:db8::1", "203.0.113.9"),
    ] {
        let proxies = proxies(&[trusted], ForwardedHeader::XForwardedFor);
        let client = proxies.client(peer.parse().unwrap(), &headers("x-forwarded-for", &["203.0.113.9"]));
        assert_eq!(client.to_string(), expected, "{trusted} {peer}");
    }
}

#[test]
fn addresses_of_the_internet() {
    for (text, expected) in [
        ("203.0.113.9", true),
        ("100.128.0.1", true),
        ("2001:db8::1", true),
        ("127.1.2.3", false),
        ("10.1.1.1", false),
        ("172.16.0.1", false),
        ("192.168.7.7", false),
        ("169.254.0.1", false),
        ("100.64.0.1", false),
        ("0.0.0.0", false),
        ("::1", false),
        ("::", false),
        ("::ffff:127.0.0.1", false),
        ("fd00::1", false),
        ("fe80::1", false),
    ] {
        assert_eq!(ClientAddress::from(text.parse::<IpAddr>().unwrap()).is_public(), expected, "{text}");
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()))
    ]
}

/// As a proxy writes it.
fn element(client: IpAddr, quoted: bool) -> String {
    match client {
        IpAddr::V4(address) if quoted => format!("for=\"{address}:80\";host=\"a, b\""),
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    }
}

/// Any bytes that a header may have, and more often those that have a meaning here.
fn written() -> impl Strategy<Value = Vec<u8>> {
    let any = prop_oneof![Just(b'\t'), 0x20..=0x7E_u8, 0x80..=0xFF_u8];
    let meant = proptest::sample::select(&b"\"\\,;= "[..]);
    proptest::collection::vec(prop_oneof![any, meant], 0..40)
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4), forwarded: bool) {
        let header = if forwarded { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
        let name = if forwarded { FORWARDED } else { X_FORWARDED_FOR };
        let lines = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        let headers: HeaderMap = lines.map(|line| (name.clone(), line)).collect();
        let _ = proxies(&["0.0.0.0/0", "::/0"], header).client("10.0.0.1".parse().unwrap(), &headers);
    }

    /// Whatever a client writes, it comes before what the proxy adds, on the same line or on one before, and changes nothing.
    #[test]
    fn what_the_client_writes_itself_is_not_believed(text in written(), client in address(), quoted: bool) {
        let client: IpAddr = client.to_canonical();
        prop_assume!(!matches!(client, IpAddr::V4(address) if address.octets()[0] == 10));
        for (name, header, said) in [
            ("x-forwarded-for", ForwardedHeader::XForwardedFor, client.to_string()),
            ("forwarded", ForwardedHeader::Forwarded, element(client, quoted)),
        ] {
            let proxies = proxies(&["10.0.0.0/8"], header);
            let behind = [&text[..], b", ", said.as_bytes()].concat();
            for lines in [headers(name, &[&text[..], said.as_bytes()]), headers(name, &[behind])] {
                let found = proxies.client("10.0.0.1".parse().unwrap(), &lines);
                prop_assert_eq!(found, ClientAddress::from(client), "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn any_address_is_read_back(client in address()) {
        let client: IpAddr = client.to_canonical();
        let found = proxies(&["192.0.2.1"], ForwardedHeader::Forwarded)
            .client("192.0.2.1".parse().unwrap(), &headers("forwarded", &[element(client, false)]));
        prop_assert_eq!(found, ClientAddress::from(client));
    }
}
