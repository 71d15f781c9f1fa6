//! The JSON object of a publish: which keys it has, each of which type. Data is kept as the text it came as.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use shared::channel::Channel;

use super::Limits;
use super::check::{self, Draft};
use super::problem::{MAX_TOLD, Problem};
use crate::Publication;

const KEYS: [&str; 8] = ["channel", "channels", "event", "data", "retry", "end", "ephemeral", "once"];

/// A string type, as errors call it: JSON can escape half a surrogate pair, which is no text.
const STRING: &str = "a string of Unicode text";

/// One checked publish.
pub(super) struct Order {
    pub(super) target: Target,
    pub(super) publication: Publication,
}

/// Where to, as it was asked for: the answer has the same form.
pub(super) enum Target {
    One(Channel),
    /// At least one, each once, in the order given.
    Many(Vec<Wanted>),
}

/// One of several channels.
pub(super) struct Wanted {
    pub(super) channel: Channel,
    /// Whether whoever asks may publish to it; else it is passed over, and its answer says so.
    pub(super) granted: bool,
}

/// The values of the known keys, unread.
#[derive(Default)]
pub(super) struct Fields<'a> {
    channel: Option<&'a RawValue>,
    channels: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    retry: Option<&'a RawValue>,
    end: Option<&'a RawValue>,
    ephemeral: Option<&'a RawValue>,
    once: Option<&'a RawValue>,
    /// The first key that is unknown or repeated.
    wrong_key: Option<Problem>,
}

impl<'a> Fields<'a> {
    /// Reads a whole JSON text, the first line of which is `line` to the client (from 1).
    ///
    /// # Errors
    /// 400: not JSON, with line and column, or not an object.
    pub(super) fn parse(json: &'a [u8], line: usize) -> Result<Self, Problem> {
        serde_json::from_slice(json).map_err(|error| Problem::malformed_json(&error, line))
    }

    /// Whether it asks for an ephemeral event, right or wrong otherwise.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.ephemeral.is_some_and(|value| value.get() == "true")
    }

    /// Checks everything.
    ///
    /// # Errors
    /// 400, 413 or 422, naming the field.
    pub(super) fn check(self, limits: &Limits) -> Result<Order, Problem> {
        if let Some(problem) = self.wrong_key {
            return Err(problem);
        }
        let draft = Draft {
            event: typed("event", self.event, STRING)?,
            data: self.data.map(RawValue::to_owned),
            retry: typed("retry", self.retry, "a whole number of milliseconds, 0 to 2^64 - 1")?,
            end: typed("end", self.end, "true or false")?.unwrap_or_default(),
            ephemeral: typed("ephemeral", self.ephemeral, "true or false")?.unwrap_or_default(),
            once: typed("once", self.once, STRING)?,
        };
        let target = target(self.channel, self.channels, limits)?;
        Ok(Order { target, publication: draft.finish("data", limits)? })
    }

    fn value_of(&mut self, key: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match key {
            "channel" => &mut self.channel,
            "channels" => &mut self.channels,
            "event" => &mut self.event,
            "data" => &mut self.data,
            "retry" => &mut self.retry,
            "end" => &mut self.end,
            "ephemeral" => &mut self.ephemeral,
            "once" => &mut self.once,
            _ => return None,
        })
    }

    /// Takes note of the first wrong key only, and goes on: a text that is not JSON further on is told as that.
    fn put(&mut self, key: &str, value: &'a RawValue) {
        let problem = match self.value_of(key) {
            Some(slot @ None) => {
                *slot = Some(value);
                return;
            }
            Some(Some(_)) => Problem::duplicate_key(key.to_owned()),
            None => unknown_key(key),
        };
        self.wrong_key.get_or_insert(problem);
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.put(&key, value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn target(one: Option<&RawValue>, many: Option<&RawValue>, limits: &Limits) -> Result<Target, Problem> {
    let one: Option<String> = typed("channel", one, STRING)?;
    let many: Option<Vec<&RawValue>> = typed("channels", many, "an array of strings")?;
    match (one, many) {
        (Some(_), Some(_)) => {
            Err(Problem::conflict("channels", "channel and channels contradict each other, give one of them"))
        }
        (None, None) => Err(Problem::missing("channel", "one of channel and channels is needed")),
        (Some(name), None) => Ok(Target::One(check::channel("channel", &name)?)),
        (None, Some(names)) => {
            let wanted = |channel| Wanted { channel, granted: true };
            Ok(Target::Many(channels(&names, limits.max_channels)?.into_iter().map(wanted).collect()))
        }
    }
}

fn channels(names: &[&RawValue], max: usize) -> Result<Vec<Channel>, Problem> {
    if names.is_empty() || names.len() > max {
        let detail = format!("channels has {} entries, it takes 1 to {max}", names.len());
        return Err(Problem::invalid("channels", detail).limit(max));
    }
    let mut channels = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let field = format!("channels[{i}]");
        let Ok(name) = serde_json::from_str::<String>(name.get()) else {
            return Err(Problem::wrong_type(field, STRING));
        };
        let channel = check::channel(field, &name)?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

fn typed<'a, T: Deserialize<'a>>(
    field: &'static str,
    value: Option<&'a RawValue>,
    wanted: &str,
) -> Result<Option<T>, Problem> {
    let value = value.map(|value| serde_json::from_str(value.get())).transpose();
    value.map_err(|_| Problem::wrong_type(field, wanted))
}

fn unknown_key(key: &str) -> Problem {
    let detail = match nearest(key) {
        Some(known) => format!("unknown key, did you mean {known}"),
        None => format!("unknown key, known ones are {}", KEYS.join(", ")),
    };
    Problem::unknown_key(key, detail)
}

/// The known key that `key` is a slip of, at most half of its letters wrong.
fn nearest(key: &str) -> Option<&'static str> {
    if key.len() > MAX_TOLD {
        return None;
    }
    let key = key.to_ascii_lowercase();
    let (distance, known) = KEYS.iter().map(|known| (strsim::levenshtein(&key, known), *known)).min()?;
    (distance * 2 <= known.len()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_keys() {
        for (key, known) in [
            ("chanel", "channel"),
            ("channelz", "channel"),
            ("Data", "data"),
            ("evnt", "event"),
            ("retyr", "retry"),
            ("ephemera", "ephemeral"),
        ] {
            assert_eq!(nearest(key), Some(known), "{key}");
        }
        for key in ["", "id", "message", "x", "사용자", &"channel".repeat(100)] {
            assert_eq!(nearest(key), None, "{key}");
        }
    }
}
