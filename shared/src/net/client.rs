//! Which client a request comes from, by its address: the socket's other end, or what proxies that are trusted say of it.
//!
//! Everybody can write such a header. So it is read from its end, where the last proxy wrote, and only as far as each address
//! is a proxy's that is trusted: the first one that is not is the client. What a client wrote stands before that and is not
//! looked at: nothing in it makes a difference. Where it is a proxy's own element that cannot be read, the client counts as that
//! proxy, and as [hidden](ClientAddress::is_hidden).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// One customer is given a network of so many bits, and has all of its addresses.
const CUSTOMER_BITS: u8 = 64;
/// Before the IPv4 address in one that is mapped, `::ffff:10.0.0.1`.
const MAPPED_BITS: u8 = 96;

/// The other end of the socket that a request came by. In the extensions of every request, put there by whoever accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// In which header proxies say whom they speak for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239)
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// A client as it is counted: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    address: IpAddr,
    is_hidden: bool,
}

/// The proxies whose word is taken, and the header that they set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
}

impl Proxies {
    /// `trusted` are addresses (`10.0.0.7`, `::1`) and networks (`10.0.0.0/8`). None: headers mean nothing.
    ///
    /// # Errors
    /// What is wrong with the first one that is neither, as text.
    pub fn parse(trusted: &[String], header: ForwardedHeader) -> Result<Self, String> {
        Ok(Self { trusted: trusted.iter().map(|text| network(text)).collect::<Result<_, _>>()?, header })
    }

    /// The client of a request that came from `peer` with `headers`.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client.into();
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        // Several lines are one list, the last line its end.
        for line in headers.get_all(name).iter().rev() {
            let mut list = Some(line.as_bytes());
            while let Some(said) = list {
                let (element, before) = self.last(said);
                let Some(address) = self.address(element) else {
                    return ClientAddress { is_hidden: true, ..client.into() };
                };
                client = address;
                if !self.trusts(client) {
                    return client.into();
                }
                list = before;
            }
        }
        client.into()
    }

    /// Whether `address`, canonical, is a proxy's that is trusted.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The last element of a list, and the list before it.
    fn last<'a>(&self, list: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        let comma = match self.header {
            ForwardedHeader::XForwardedFor => list.iter().rposition(|byte| *byte == b','),
            ForwardedHeader::Forwarded => last_unquoted_comma(list),
        };
        comma.map_or((list, None), |at| (&list[at + 1..], Some(&list[..at])))
    }

    /// Of whom an element speaks; `None` where that is no address.
    fn address(&self, element: &[u8]) -> Option<IpAddr> {
        let element = std::str::from_utf8(element).ok()?;
        match self.header {
            ForwardedHeader::XForwardedFor => node(element),
            ForwardedHeader::Forwarded => forwarded_for(element).and_then(node),
        }
    }
}

impl ClientAddress {
    /// Whether it is of the internet, where everybody is somebody else: not of this machine, not of a private network.
    #[must_use]
    pub fn is_public(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => {
                // 100.64.0.0/10: between a provider and its customers.
                let shared = address.octets()[0] == 100 && address.octets()[1] & 0xC0 == 64;
                !(address.is_loopback()
                    || address.is_private()
                    || address.is_link_local()
                    || address.is_unspecified()
                    || shared)
            }
            // ::1 and :: are counted as ::/64.
            IpAddr::V6(address) => {
                !(address.is_unspecified() || address.is_unique_local() || address.is_unicast_link_local())
            }
        }
    }

    /// Whether it is that of a trusted proxy which spoke for somebody else, and not of whom in a way that can be read.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.is_hidden
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => {
                Ipv6Net::new(address, CUSTOMER_BITS).map_or(address, |network| network.network()).into()
            }
            address @ IpAddr::V4(_) => address,
        };
        Self { address, is_hidden: false }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/{CUSTOMER_BITS}"),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| format!("\"{text}\" is neither an address nor a network such as 10.0.0.0/8"))?;
    Ok(unmapped(network).unwrap_or(network))
}

/// IPv4 addresses that are mapped are compared as what they stand for, so networks of them are networks of IPv4.
fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(network) = network else { return None };
    let bits = network.prefix_len().checked_sub(MAPPED_BITS)?;
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, bits).ok().map(IpNet::V4)
}

/// One node of a list: an address, with a port or without. `None` for `unknown`, for hidden names, and for what is wrong.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let address = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let is_right = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(address.parse::<Ipv6Addr>().ok().filter(|_| is_right)?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.rsplit_once(':')?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

/// A number, or a hidden one such as `_gazonk`.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty() && hidden.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The comma before the last element of a list of `Forwarded`, outside of quotes. Looked for from the end, so that a quote which
/// a client leaves open does not take what a proxy adds into the client's own element.
fn last_unquoted_comma(list: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            // The last byte of a quoted string, and then its first. Those within are escaped.
            b'"' => quoted = !quoted || is_escaped(list, at),
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Whether backslashes before it make the byte mean itself.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// What `for` says in an element of `Forwarded`, without its quotes.
fn forwarded_for(element: &str) -> Option<&str> {
    if element.chars().fold(Quotes::default(), Quotes::after).open {
        return None;
    }
    let mut said = unquoted(element, ';').filter_map(|pair| pair.split_once('='));
    let (_, value) = said.find(|(name, _)| name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for"))?;
    let value = value.trim_matches([' ', '\t']);
    match value.strip_prefix('"') {
        // No address has anything that would have to be escaped.
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// The pieces of `text` between separators that stand outside of quotes.
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    text.split(move |c| {
        quotes = quotes.after(c);
        c == separator && !quotes.open
    })
}

/// Where one stands in a text with quoted strings.
#[derive(Clone, Copy, Default)]
struct Quotes {
    open: bool,
    /// The next character means itself.
    escaped: bool,
}

impl Quotes {
    fn after(self, c: char) -> Self {
        match c {
            _ if self.escaped => Self { escaped: false, ..self },
            '"' => Self { open: !self.open, escaped: false },
            '\\' if self.open => Self { escaped: true, ..self },
            _ => self,
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
