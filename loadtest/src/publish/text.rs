//! What is sent for an event: a marker that fills its size, in whatever the server takes. It must not send it.

use std::sync::Arc;

use crate::args::{Args, Scenario};
use crate::layout::Layout;
use crate::stream::blocks::PADDING;
use crate::target::{CHANNEL, PublishTarget};
use crate::verify::Marker;

/// Templates of what is sent.
#[derive(Debug)]
pub(crate) struct Texts {
    layout: Arc<Layout>,
    /// Name in Redis.
    key: String,
    payload: String,
    /// Payload of an event that ends its channel.
    last: String,
    size: usize,
}

impl Texts {
    /// As the flags say, with the defaults of the target.
    pub(crate) fn new(args: &Args, target: &PublishTarget) -> Self {
        let http = matches!(target, PublishTarget::Http(_));
        let default = if http { r#"{"channel":"{channel}","data":{json}}"# } else { "{data}" };
        let last =
            if http { r#"{"channel":"{channel}","data":{json},"end":true}"# } else { r#"{"data":{json},"end":true}"# };
        Self {
            layout: Arc::new(layout_of(args)),
            key: args.key.clone(),
            payload: args.payload.clone().unwrap_or_else(|| default.to_owned()),
            last: last.to_owned(),
            size: args.size(),
        }
    }

    /// Name of a channel.
    pub(crate) fn channel(&self, key: u32, round: u32) -> String {
        self.layout.channel(key, round)
    }

    /// The same in Redis.
    pub(crate) fn redis_key(&self, key: u32, round: u32) -> String {
        self.key.replace(CHANNEL, &self.channel(key, round))
    }

    /// What is sent for a marker; `last` if the channel ends with it.
    pub(crate) fn payload(&self, marker: Marker, round: u32, last: bool) -> String {
        let data = data(marker, self.size);
        let template = if last { &self.last } else { &self.payload };
        if template == "{data}" {
            return data;
        }
        let mut text = template.replace("{json}", &format!("\"{data}\"")).replace("{data}", &data);
        if text.contains(CHANNEL) {
            text = text.replace(CHANNEL, &inside_json(&self.channel(marker.key, round)));
        }
        text
    }
}

/// A marker, padded to `size` bytes. All of it is ASCII that JSON leaves alone.
fn data(marker: Marker, size: usize) -> String {
    let mut data = String::with_capacity(size);
    marker.write(&mut data);
    data.extend(std::iter::repeat_n(char::from(PADDING), size.saturating_sub(data.len())));
    data
}

/// `text` as it stands within a JSON string.
fn inside_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Who reads what, as the flags say.
pub(crate) fn layout_of(args: &Args) -> Layout {
    // Channels of streams that ended stay ended: each run has its own.
    let run =
        if args.scenario == Scenario::Tokens { format!("-{:x}", crate::clock::started_s()) } else { String::new() };
    let servers = args.urls.len() as u32;
    Layout {
        scenario: args.scenario,
        connections: args.connections,
        channels: args.channels(),
        servers,
        sources: args.source_addresses.unwrap_or_else(|| crate::layout::sources_for(args.connections, servers)),
        stuck: if args.scenario == Scenario::Slow { args.share() } else { 0.0 },
        prefix: format!("{}{run}", args.channel_prefix),
        name: args.channel.clone(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn texts(flags: &[&str], target: &str) -> Texts {
        let args = Args::try_parse_from([&["sse-loadtest"], flags].concat()).unwrap();
        Texts::new(&args, &target.parse().unwrap())
    }

    fn marker() -> Marker {
        Marker { sequence: 1, sent_at_ns: 2, key: 0 }
    }

    #[test]
    fn data_has_its_size_and_its_marker_even_when_the_numbers_are_long() {
        let marker = Marker { sequence: u64::MAX - 1, sent_at_ns: u64::MAX, key: u32::MAX };
        for size in [64, 65, 65_536] {
            let data = data(marker, size);
            assert_eq!((data.len(), Marker::parse(data.as_bytes())), (size, Some(marker)));
        }
    }

    #[test]
    fn redis_gets_the_data_itself_and_http_a_request() {
        let data = data(marker(), 64);
        let redis = texts(&["--size", "64"], "redis://r");
        assert_eq!(redis.payload(marker(), 0, false), data);
        assert_eq!(redis.payload(marker(), 0, true), format!(r#"{{"data":"{data}","end":true}}"#));
        assert_eq!(redis.redis_key(0, 0), "sse:load-0");
        let http = texts(&["--size", "64", "--channel", "a\"b"], "http://h");
        assert_eq!(http.payload(marker(), 0, false), format!(r#"{{"channel":"a\"b","data":"{data}"}}"#));
    }

    #[test]
    fn a_template_of_ones_own_holds_what_it_says() {
        let own = texts(&["--size", "64", "--payload", "c={channel}&d={data}", "--key", "{channel}!"], "redis://r");
        assert_eq!(own.payload(marker(), 0, false), format!("c=load-0&d={}", data(marker(), 64)));
        assert_eq!(own.redis_key(0, 0), "load-0!");
    }
}
