//! Addresses of event streams: `http://host[:port]/path?query` or `https://...`, read as a person types them.

use http::Uri;

const SHAPE: &str = "an address is http://host[:port]/path?query";
const SHAPE_OF_EITHER: &str = "an address is http://host[:port]/path?query, or https://";
const NO_TLS: &str = "https is not supported here; ask a gateway directly, or use curl -N";

/// An address that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is `https`.
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// As it stands in the `Host` header.
    pub(super) authority: String,
    /// Path and query, from the `/` on.
    pub(super) target: String,
}

impl Url {
    /// Reads `text`, which may be `https`. What is not ASCII is percent-encoded, as browsers do it; a fragment stays here.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, SHAPE_OF_EITHER)
    }

    /// The same, for who speaks no TLS.
    pub(super) fn parse_plain(text: &str) -> Result<Self, String> {
        match Self::read(text, SHAPE) {
            Ok(url) if url.tls => Err(NO_TLS.to_owned()),
            read => read,
        }
    }

    fn read(text: &str, shape: &str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let tls = match scheme.as_deref() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(shape.to_owned()),
        };
        let uri: Uri = encoded(text).parse().map_err(|error| format!("{shape}: {error}"))?;
        let authority = uri.authority().ok_or(shape)?;
        if authority.as_str().contains('@') {
            return Err("user and password are not supported here".to_owned());
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err(shape.to_owned());
        }
        let port = match authority.as_str().strip_prefix(host).unwrap_or_default().strip_prefix(':') {
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().map_err(|_| format!("{port} is no port, 0 to 65535"))?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        // `http://host?query` has no path, and a request has to have one.
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            tls,
            host: bare.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            target: format!("{slash}{target}"),
        })
    }

    /// Where a redirect leads: an address that is not `https`, or a path on the same host.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let target = encoded(location.split('#').next().unwrap_or_default());
            return Ok(Self { target, ..self.clone() });
        }
        Self::parse_plain(location)
    }

    /// Scheme, host and port: where, and nothing of what is asked for.
    pub(super) fn server(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.target)
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, u16, String, String) {
        let Url { host, port, authority, target, tls } = Url::parse(text).unwrap();
        assert_eq!(tls, text.starts_with("https:"));
        (host, port, authority, target)
    }

    #[test]
    fn addresses() {
        let expect = |text, host: &str, port, authority: &str, target: &str| {
            assert_eq!(parts(text), (host.to_owned(), port, authority.to_owned(), target.to_owned()), "{text}");
        };
        expect("http://h", "h", 80, "h", "/");
        expect("HTTP://h:8080/events?channel=a:b", "h", 8080, "h:8080", "/events?channel=a:b");
        expect("http://[::1]:7/x#y", "::1", 7, "[::1]:7", "/x");
        expect("https://h/x", "h", 443, "h", "/x");
        expect("http://h?a=1", "h", 80, "h", "/?a=1");
        expect("http://h/e?channel=한 글", "h", 80, "h", "/e?channel=%ED%95%9C%20%EA%B8%80");
    }

    #[test]
    fn what_is_none() {
        for (text, wanted) in [
            ("", SHAPE),
            ("localhost:8080/events", SHAPE),
            ("ftp://h/", SHAPE),
            ("http://", SHAPE),
            ("http:///path", SHAPE),
            ("http://h:99999/", "99999 is no port"),
            ("https://h/", NO_TLS),
            ("http://me:hunter2@h/", "user and password are not supported here"),
        ] {
            let error = Url::parse_plain(text).unwrap_err();
            assert!(error.starts_with(wanted) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn redirects() {
        let url = Url::parse_plain("http://h:1/a/b?c").unwrap();
        assert_eq!(url.join("/x?y#z").unwrap().to_string(), "http://h:1/x?y");
        assert_eq!(url.join("http://other/").unwrap().to_string(), "http://other/");
        assert_eq!(url.join("https://other/"), Err(NO_TLS.to_owned()));
        assert!(url.join("//other/x").is_err() && url.join("x").is_err());
    }
}
