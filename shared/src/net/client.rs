//! Which client a request comes from, by its address: the socket's other end, or what proxies that are trusted say of it.
//!
//! Everybody can write such a header. So it is read from its end, where the last proxy wrote, and only as far as each address
//! is a proxy's that is trusted: the first one that is not is the client. What cannot be read ends that way too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// One customer is given a network of so many bits, and has all of its addresses.
const CUSTOMER_BITS: u8 = 64;

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
pub struct ClientAddress(IpAddr);

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
            let Some(said) = self.said(line) else { return client.into() };
            for address in said {
                let Some(address) = address else { return client.into() };
                client = address;
                if !self.trusts(client) {
                    return client.into();
                }
            }
        }
        client.into()
    }

    /// Whether `address`, canonical, is a proxy's that is trusted.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// What a line says, from its end; `None` for what is no address.
    fn said(&self, line: &HeaderValue) -> Option<Vec<Option<IpAddr>>> {
        let line = line.to_str().ok()?;
        // A quote that a client opens would take what the proxy adds into the client's own element.
        if self.header == ForwardedHeader::Forwarded && line.chars().fold(Quotes::default(), Quotes::after).open {
            return None;
        }
        let mut said: Vec<_> = match self.header {
            ForwardedHeader::XForwardedFor => line.split(',').map(node).collect(),
            ForwardedHeader::Forwarded => {
                unquoted(line, ',').map(|element| forwarded_for(element).and_then(node)).collect()
            }
        };
        said.reverse();
        Some(said)
    }
}

impl ClientAddress {
    /// Whether it is of the internet, where everybody is somebody else: not of this machine, not of a private network.
    #[must_use]
    pub fn is_public(&self) -> bool {
        match self.0 {
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
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = Ipv6Net::new(address, CUSTOMER_BITS).map_or(address, |network| network.network());
                Self(network.into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/{CUSTOMER_BITS}"),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("\"{text}\" is neither an address nor a network such as 10.0.0.0/8"))
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

/// What `for` says in an element of `Forwarded`, without its quotes.
fn forwarded_for(element: &str) -> Option<&str> {
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
