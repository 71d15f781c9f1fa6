//! Addresses and URLs as flags give them: where streams are opened, where events are published. It must not resolve names.

use std::str::FromStr;

/// Host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Authority {
    /// Host name or address, an IPv6 one without its brackets.
    pub(crate) host: String,
    /// 1 to 65535.
    pub(crate) port: u16,
    /// What the `Host` header says.
    pub(crate) text: String,
}

/// An http URL in whose path and query `{channel}` stands for a channel's name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct UrlTemplate {
    /// Where to connect.
    pub(crate) authority: Authority,
    /// Path and query. Empty where the URL ends after the port.
    pub(crate) path: String,
}

/// Where events are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishTarget {
    /// A Redis server, as its URL.
    Redis {
        /// `redis://host:port[/db]`.
        url: String,
        /// The server.
        authority: Authority,
        /// Number of the database.
        db: u32,
    },
    /// By POST.
    Http(UrlTemplate),
}

/// What stands for the name of a channel.
pub(crate) const CHANNEL: &str = "{channel}";

impl Authority {
    fn read(url: &http::Uri, default_port: u16) -> Result<Self, String> {
        let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
            return Err("lacks a host".to_owned());
        };
        if authority.as_str().contains('@') {
            return Err("must not hold a user name or password".to_owned());
        }
        let port = match url.port_u16() {
            Some(port) if port != 0 => port,
            // `http` passes over a port that is none; the host alone then is not all there is.
            None if authority.as_str() == authority.host() => default_port,
            _ => return Err("has a port that is not within 1 to 65535".to_owned()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, text: authority.as_str().to_owned() })
    }
}

impl FromStr for UrlTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No URL may hold braces; where the channel stands, any letter will do to read it.
        let url: http::Uri =
            text.replace(CHANNEL, "c").parse().map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        if url.scheme_str() != Some("http") {
            return Err("must begin with http:// (TLS is not supported)".to_owned());
        }
        let authority = Authority::read(&url, 80)?;
        let after_scheme = &text["http://".len()..];
        let path = after_scheme.find(['/', '?']).map_or("", |at| &after_scheme[at..]);
        if after_scheme[..after_scheme.len() - path.len()].contains(CHANNEL) {
            return Err("may hold {channel} behind the port only".to_owned());
        }
        let slash = if path.starts_with('?') { "/" } else { "" };
        let path = if path == "/" { String::new() } else { format!("{slash}{path}") };
        Ok(Self { authority, path })
    }
}

impl UrlTemplate {
    /// The same, with `path` where the URL has none.
    pub(crate) fn with_default_path(mut self, path: &str) -> Self {
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
        }
        self
    }

    /// Path and query for `channel`, and for a second one where the URL has a parameter to repeat.
    pub(crate) fn path_of(&self, channel: &str, second: Option<&str>) -> String {
        let mut text = percent_encoded(channel);
        if let (Some(second), Some(parameter)) = (second, self.parameter()) {
            text.push('&');
            text.push_str(parameter);
            text.push_str(&percent_encoded(second));
        }
        self.path.replace(CHANNEL, &text)
    }

    /// Whether the channel's name stands in it.
    pub(crate) fn names_channel(&self) -> bool {
        self.path.contains(CHANNEL)
    }

    /// The query parameter whose value the channel is, as `channel=`: repeated, it asks for several channels.
    pub(crate) fn parameter(&self) -> Option<&str> {
        let before = &self.path[..self.path.find(CHANNEL)?];
        let name = &before[before.rfind(['?', '&'])? + 1..];
        (name.ends_with('=') && name.len() > 1).then_some(name)
    }
}

impl FromStr for PublishTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("redis://") {
            let url: UrlTemplate =
                text.parse().map_err(|error: String| match error.strip_prefix("must begin with") {
                    Some(rest) => format!("must begin with redis:// or{rest}"),
                    None => error,
                })?;
            return Ok(Self::Http(url.with_default_path("/publish")));
        }
        let url: http::Uri = text.parse().map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let authority = Authority::read(&url, 6379)?;
        let db = match url.path().trim_start_matches('/') {
            "" => 0,
            db => db.parse().map_err(|_| format!("has a database {db:?} that is not a number"))?,
        };
        if url.query().is_some() {
            return Err("must end after the database".to_owned());
        }
        Ok(Self::Redis { url: text.to_owned(), authority, db })
    }
}

/// `text` as a part of a path or a query.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(host: &str, port: u16, text: &str) -> Authority {
        Authority { host: host.to_owned(), port, text: text.to_owned() }
    }

    #[test]
    fn urls_take_names_ipv6_no_port_and_templates() {
        for (text, wanted, path) in [
            ("http://[::1]:81", authority("::1", 81, "[::1]:81"), ""),
            ("http://gateway/", authority("gateway", 80, "gateway"), ""),
            ("http://a:1/sub/{channel}?x=1", authority("a", 1, "a:1"), "/sub/{channel}?x=1"),
            ("http://a:1?topic={channel}", authority("a", 1, "a:1"), "/?topic={channel}"),
        ] {
            assert_eq!(text.parse(), Ok(UrlTemplate { authority: wanted, path: path.to_owned() }), "{text}");
        }
    }

    #[test]
    fn a_channel_is_percent_encoded_where_it_stands() {
        let url: UrlTemplate = "http://a/{channel}/x?c={channel}".parse().unwrap();
        assert_eq!(url.path_of("user:4 é", None), "/user%3A4%20%C3%A9/x?c=user%3A4%20%C3%A9");
        assert!(url.names_channel());
        let url: UrlTemplate = "http://a/hub?topic={channel}&x=1".parse().unwrap();
        assert_eq!(url.path_of("a", Some("b:")), "/hub?topic=a&topic=b%3A&x=1");
    }

    #[test]
    fn the_parameter_to_repeat_is_the_one_that_holds_the_channel() {
        let parameter = |text: &str| text.parse::<UrlTemplate>().unwrap().parameter().map(str::to_owned);
        assert_eq!(parameter("http://a/hub?x=1&topic={channel}").as_deref(), Some("topic="));
        assert_eq!(parameter("http://a/events?channel={channel}&y=2").as_deref(), Some("channel="));
        for none in ["http://a/{channel}", "http://a/x", "http://a/x?=  ".trim(), "http://a/x?t=a{channel}"] {
            assert_eq!(parameter(none), None, "{none}");
        }
    }

    #[test]
    fn publishing_goes_to_redis_or_to_a_url() {
        assert_eq!(
            "redis://127.0.0.1:7000/3".parse(),
            Ok(PublishTarget::Redis {
                url: "redis://127.0.0.1:7000/3".to_owned(),
                authority: authority("127.0.0.1", 7000, "127.0.0.1:7000"),
                db: 3
            })
        );
        let Ok(PublishTarget::Redis { authority, db, .. }) = "redis://r".parse() else { panic!() };
        assert_eq!((authority.port, db), (6379, 0));
        let Ok(PublishTarget::Http(url)) = "http://p:8090".parse() else { panic!() };
        assert_eq!(url.path, "/publish");
        for (text, reason) in [
            ("ftp://x", "must begin with redis:// or http://"),
            ("redis://x/a", "database \"a\""),
            ("redis://u:p@x", "user name or password"),
            ("redis://x:0", "port"),
            ("redis://x/1?a", "must end after the database"),
        ] {
            let error = text.parse::<PublishTarget>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
