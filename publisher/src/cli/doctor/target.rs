//! The address that is asked: the one that was given, with a channel of this run's own in place of its channels.

use shared::channel::Channel;

use crate::cli::url::Url;

/// What a query may have that would begin the stream elsewhere than now.
const BEGINNINGS: [&str; 4] = ["last_event_id", "lastEventId", "lastEvent", "replay"];

/// Where streams are asked for.
#[derive(Debug)]
pub(super) struct Target {
    url: Url,
    /// The query's other pairs, as they were given.
    rest: Vec<String>,
    /// Whether the channel is named by `userId`.
    by_user: bool,
    /// Given, in place of one of this run's own.
    channel: Option<Channel>,
}

impl Target {
    /// Reads the query of `url`.
    ///
    /// # Errors
    /// What of it, or of the channel, cannot be used.
    pub(super) fn new(url: &Url, channel: Option<Channel>) -> Result<Self, String> {
        let (path, query) = url.target.split_once('?').unwrap_or((&url.target, ""));
        let name = |pair: &str| {
            let (key, _) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
            key.into_owned()
        };
        let (mut rest, mut users, mut channels) = (Vec::new(), 0, 0);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match &*name(pair) {
                "channel" => channels += 1,
                "userId" => users += 1,
                "ticket" => {
                    return Err(
                        "--url: a ticket opens one stream, and this opens many; leave it out, and give the token that \
                                it stands for by --token-file"
                            .to_owned(),
                    );
                }
                other if BEGINNINGS.contains(&other) => {}
                _ => rest.push(pair.to_owned()),
            }
        }
        let by_user = (users > 0 && channels == 0) || path.ends_with("/api/sse/connect");
        if by_user && channel.as_ref().is_some_and(|channel| !channel.as_str().starts_with("user:")) {
            return Err("--channel: this path is for channels that begin with user: alone".to_owned());
        }
        let url = Url { target: path.to_owned(), ..url.clone() };
        Ok(Self { url, rest, by_user, channel })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A channel that nobody else is on, unless one was given.
    pub(super) fn channel(&self) -> Result<Channel, String> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let name = format!("{:016x}", fastrand::u64(..));
        let name = if self.by_user { format!("user:doctor-{name}") } else { format!("doctor:{name}") };
        Channel::parse(&name).map_err(|error| error.to_string())
    }

    /// Whether channels are this run's own, so that nobody minds what becomes of them.
    pub(super) fn is_own(&self) -> bool {
        self.channel.is_none()
    }

    /// Path and query of the stream on this channel.
    pub(super) fn on(&self, channel: &Channel) -> String {
        let (key, value) = match channel.as_str().strip_prefix("user:") {
            Some(user) if self.by_user => ("userId", user),
            _ => ("channel", channel.as_str()),
        };
        // What form_urlencoded makes of a colon is right too, and nobody can read it.
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let mut pairs = vec![format!("{key}={}", value.replace("%3A", ":"))];
        pairs.extend(self.rest.iter().cloned());
        format!("{}?{}", self.url.target, pairs.join("&"))
    }

    /// The address for people, with a word in place of the channel and without the values of what else was given: one may be
    /// a token.
    pub(super) fn told(&self) -> String {
        let shown =
            self.channel.as_ref().map_or(if self.by_user { "user:doctor-…" } else { "doctor:…" }, Channel::as_str);
        format!("{}{} on {shown}", self.url.server(), self.url.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, channel: Option<&str>) -> Result<Target, String> {
        Target::new(&Url::parse(url).unwrap(), channel.map(|name| Channel::parse(name).unwrap()))
    }

    fn on(url: &str, channel: Option<&str>) -> String {
        let target = target(url, channel).unwrap();
        let channel = target.channel().unwrap();
        assert_eq!(target.is_own(), channel.as_str().contains("doctor"));
        let random = channel.as_str().rsplit(['-', ':']).next().unwrap();
        target.on(&channel).replace(random, "X")
    }

    #[test]
    fn channels_are_replaced_and_the_rest_stays() {
        assert_eq!(
            on("http://h/events?channel=a&x=%20y&channel=b&format=json", None),
            "/events?channel=doctor:X&x=%20y&format=json"
        );
        assert_eq!(on("http://h/sse/events", None), "/sse/events?channel=doctor:X");
        assert_eq!(on("http://h/events?last_event_id=5&replay=3&channel=a", None), "/events?channel=doctor:X");
        assert_eq!(on("http://h/api/sse/connect?userId=42", None), "/api/sse/connect?userId=doctor-X");
        assert_eq!(on("http://h/api/sse/connect", None), "/api/sse/connect?userId=doctor-X");
        assert_eq!(on("http://h/events?channel=a", Some("stocks")), "/events?channel=X");
        assert_eq!(on("http://h/api/sse/connect?userId=1", Some("user:9")), "/api/sse/connect?userId=X");
        let target = target("http://h/events?access_token=secret", Some("한 글".replace(' ', "&").as_str())).unwrap();
        assert_eq!(target.on(&target.channel().unwrap()), "/events?channel=%ED%95%9C%26%EA%B8%80&access_token=secret");
        assert_eq!(target.told(), "http://h/events on 한&글");
    }

    #[test]
    fn channels_of_two_streams_differ() {
        let target = target("http://h/events", None).unwrap();
        assert_ne!(target.channel().unwrap(), target.channel().unwrap());
    }

    #[test]
    fn what_cannot_be_asked() {
        let ticket = target("http://h/events?ticket=5f0c", None).unwrap_err();
        assert!(ticket.starts_with("--url: a ticket opens one stream") && !ticket.contains("5f0c"), "{ticket}");
        let channel = target("http://h/api/sse/connect?userId=1", Some("stocks")).unwrap_err();
        assert_eq!(channel, "--channel: this path is for channels that begin with user: alone");
    }
}
