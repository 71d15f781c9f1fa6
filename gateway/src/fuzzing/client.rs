//! Headers by which proxies say whom they speak for: what a client writes into them makes no difference.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use shared::net::{ClientAddress, ForwardedHeader, Proxies};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Trusted, as all of its network.
const PROXY: &str = "10.0.0.1";
/// Some that are not.
const CLIENTS: [&str; 3] = ["203.0.113.9", "2001:db8:1:2::3", "192.168.7.7"];

/// Each line of the bytes is one of the header, without white space around it, as far as it can be one.
pub(super) fn client(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<&[u8]> = lines.filter(|line| value(line).is_some()).collect();
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        for client in CLIENTS {
            added_behind(header, &lines, address(client));
        }
        found(header, &lines);
    }
    plain_addresses(&lines);
}

/// What a proxy adds is believed, whatever stands before it: on the last line, or on one of its own.
fn added_behind(header: ForwardedHeader, lines: &[&[u8]], client: IpAddr) {
    let said = match (header, client) {
        (ForwardedHeader::XForwardedFor, _) => client.to_string(),
        (ForwardedHeader::Forwarded, IpAddr::V4(_)) => format!("for={client};proto=http"),
        (ForwardedHeader::Forwarded, IpAddr::V6(_)) => format!("proto=http;for=\"[{client}]:80\""),
    };
    let mut own = lines.to_vec();
    own.push(said.as_bytes());
    assert_eq!(read(header, PROXY, &own), ClientAddress::from(client));
    // As one more proxy writes it, which is trusted.
    own.push(if header == ForwardedHeader::Forwarded { b"for=10.9.9.9" } else { b"10.9.9.9" });
    assert_eq!(read(header, PROXY, &own), ClientAddress::from(client));
    if let Some((last, before)) = lines.split_last() {
        let longer = [*last, b", ", said.as_bytes()].concat();
        let longer = [before, &[&longer[..]]].concat();
        assert_eq!(read(header, PROXY, &longer), ClientAddress::from(client));
    }
}

/// The headers mean nothing where they come from somebody else, and hide nobody but behind a proxy.
fn found(header: ForwardedHeader, lines: &[&[u8]]) {
    for client in CLIENTS {
        assert_eq!(read(header, client, lines), ClientAddress::from(address(client)));
    }
    let found = read(header, PROXY, lines);
    assert!(!found.is_hidden() || found.to_string().starts_with("10."), "{found} is hidden and no proxy");
    assert!(!found.is_hidden() || !lines.is_empty(), "hidden by nothing");
}

/// Where there are only plain addresses a plain reader says the same, of either header.
fn plain_addresses(lines: &[&[u8]]) {
    let texts: Option<Vec<&str>> = lines.iter().map(|line| std::str::from_utf8(line).ok()).collect();
    let addresses = texts.and_then(|texts| {
        let all = texts.iter().flat_map(|text| text.split(','));
        all.map(|text| text.trim_matches([' ', '\t']).parse::<IpAddr>().ok()).collect::<Option<Vec<_>>>()
    });
    let Some(addresses) = addresses else { return };
    let addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    let trusted = |address: &IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[0] == 10);
    let proxy = address(PROXY);
    let client = addresses.iter().rev().find(|address| !trusted(address)).or(addresses.first()).unwrap_or(&proxy);
    assert_eq!(read(ForwardedHeader::XForwardedFor, PROXY, lines), ClientAddress::from(*client));
    let element = |address: &IpAddr| match address {
        IpAddr::V4(address) => format!("For={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    let line = addresses.iter().map(element).collect::<Vec<_>>().join(",");
    let lines: &[&[u8]] = if addresses.is_empty() { &[] } else { &[line.as_bytes()] };
    assert_eq!(read(ForwardedHeader::Forwarded, PROXY, lines), ClientAddress::from(*client));
}

fn read(header: ForwardedHeader, peer: &str, lines: &[&[u8]]) -> ClientAddress {
    let name = if header == ForwardedHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
    let headers: HeaderMap = lines.iter().filter_map(|line| Some((name.clone(), value(line)?))).collect();
    let proxies = Proxies::parse(&["10.0.0.0/8".to_owned()], header).expect("a network");
    proxies.client(address(peer), &headers)
}

/// `None`: no header can have it.
fn value(line: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(line).ok()
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
