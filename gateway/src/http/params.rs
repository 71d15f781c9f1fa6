//! What a request for an event stream asks for, read from its query or its body. Unknown query keys are ignored, since
//! clients append their own.

use std::borrow::Cow;
use std::collections::HashSet;

use publisher::http::auth::may_read;
use publisher::http::problem::Problem;
use publisher::http::{Members, query};
use serde_json::Value;
use shared::auth::Access;
use shared::channel::Channel;

use super::Limits;
use crate::connection::{Request, Resume};
use crate::hub::encoded::Format;

/// Longest body of `POST /events`: the most channels at their longest, each byte escaped.
pub(crate) fn max_body(limits: &Limits) -> usize {
    limits.max_channels * shared::channel::MAX_CHANNEL_BYTES * 6 + 1_024
}

/// Channels in the order they were named, each once; at least one, and all of them such that `access` has them.
pub(crate) fn channels_of_query(query: &str, access: &Access, limits: &Limits) -> Result<Vec<Channel>, Problem> {
    let named = query::all(query.as_bytes(), "channel")?;
    if named.is_empty() {
        if let Some(own) = access.user_channel() {
            return Ok(vec![own.clone()]);
        }
        return Err(Problem::missing("channel", "say which channel to read: /events?channel=user:42"));
    }
    channels(named.iter().map(String::as_str), "channel", |_| "channel".into(), access, limits)
}

/// The channels of a body `{"channels": [...]}`.
pub(crate) fn channels_of_body(body: &[u8], access: &Access, limits: &Limits) -> Result<Vec<Channel>, Problem> {
    let Members(members) = serde_json::from_slice(body).map_err(|error| Problem::malformed_json(&error, 1))?;
    if let Some((key, _)) = members.iter().find(|(key, _)| key != "channels") {
        return Err(Problem::unknown_key(key, "unknown key, this body has only channels"));
    }
    let wanted = "an array of channel names, at least one";
    let named = match members.as_slice() {
        [(_, Value::Array(named))] if !named.is_empty() => named,
        [_] => return Err(Problem::wrong_type("channels", wanted)),
        [] => return Err(Problem::missing("channels", format!("channels has to be {wanted}"))),
        _ => return Err(Problem::duplicate_key("channels")),
    };
    let names: Option<Vec<&str>> = named.iter().map(Value::as_str).collect();
    let names = names.ok_or_else(|| Problem::wrong_type("channels", wanted))?;
    channels(names.into_iter(), "channels", |i| format!("channels[{i}]").into(), access, limits)
}

/// The channel of one user, by `userId`, or by the token.
pub(crate) fn channel_of_user(query: &str, access: &Access) -> Result<Channel, Problem> {
    let [Some(user)] = query::values(query.as_bytes(), ["userId"])? else {
        if let Some(own) = access.user_channel() {
            return Ok(own.clone());
        }
        return Err(Problem::missing("userId", "say whose events to read: /api/sse/connect?userId=42"));
    };
    let channel = Channel::user(&user).map_err(|error| Problem::channel("userId", error))?;
    may_read(access, &channel, "userId")?;
    Ok(channel)
}

/// Names under which clients that cannot set a header send what they have; the first that is there counts.
const CURSOR_KEYS: [&str; 3] = ["last_event_id", "lastEventId", "lastEvent"];

/// How events are written, and where the stream begins.
pub(crate) fn request(query: &str, limits: &Limits) -> Result<Request, Problem> {
    let [format, newest] = query::values(query.as_bytes(), ["format", "replay"])?;
    let format = match format.as_deref() {
        None => Format::Plain,
        Some("json") => Format::Json,
        Some(other) => {
            return Err(Problem::invalid("format", format!("format {other:?} is not known, only json")).limit("json"));
        }
    };
    Ok(Request { format, greeting: None, resume: resume(query, newest.as_deref(), limits)? })
}

/// A cursor that cannot be read is a gap, never an error: the client has it from somewhere, and would not come back.
fn resume(query: &str, newest: Option<&str>, limits: &Limits) -> Result<Resume, Problem> {
    for key in CURSOR_KEYS {
        // Bytes that are no text are no cursor either.
        let sent = query::all(query.as_bytes(), key).unwrap_or_else(|_| vec![String::from("?")]);
        if let Some(sent) = sent.first().filter(|sent| !sent.is_empty()) {
            return Ok(Resume::parse(sent));
        }
    }
    let Some(newest) = newest.filter(|newest| !newest.is_empty()) else { return Ok(Resume::Now) };
    match newest.parse::<usize>() {
        Ok(0) => Ok(Resume::Now),
        Ok(count) if count <= limits.max_replay && !newest.starts_with('+') => Ok(Resume::Newest(count)),
        _ => {
            let detail = format!("replay is how many events of each channel to begin with, 0 to {}", limits.max_replay);
            Err(Problem::invalid("replay", detail).limit(limits.max_replay))
        }
    }
}

/// `field` says what the client calls the name at an index.
fn channels<'a>(
    names: impl Iterator<Item = &'a str>,
    list: &'static str,
    field: impl Fn(usize) -> Cow<'static, str>,
    access: &Access,
    limits: &Limits,
) -> Result<Vec<Channel>, Problem> {
    let mut seen = HashSet::new();
    let mut channels = Vec::new();
    for (i, name) in names.enumerate() {
        let channel = Channel::parse(name).map_err(|error| Problem::channel(field(i), error))?;
        may_read(access, &channel, field(i))?;
        if !seen.insert(channel.clone()) {
            continue;
        }
        if channels.len() == limits.max_channels {
            let detail = format!("a connection reads at most {} channels", limits.max_channels);
            return Err(Problem::invalid(list, detail).limit(limits.max_channels));
        }
        channels.push(channel);
    }
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        max_channels: 3,
        max_url: 8_192,
        request_timeout: Duration::from_secs(30),
        open_timeout: Duration::from_secs(5),
        max_replay: 1_000,
    };

    fn names(channels: Result<Vec<Channel>, Problem>) -> Vec<String> {
        channels.unwrap().iter().map(ToString::to_string).collect()
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Problem>) -> Value {
        serde_json::to_value(result.unwrap_err()).unwrap()
    }

    #[test]
    fn query() {
        assert_eq!(
            names(channels_of_query("channel=user%3A42&x=1&channel=b&channel=b&channel=b", &Access::Open, &LIMITS)),
            ["user:42", "b"]
        );
        assert_eq!(refused(channels_of_query("chanel=a", &Access::Open, &LIMITS))["field"], "channel");
        assert_eq!(refused(channels_of_query("channel=a%20b", &Access::Open, &LIMITS))["status"], 400);
        let many = refused(channels_of_query("channel=a&channel=b&channel=c&channel=d", &Access::Open, &LIMITS));
        assert_eq!((&many["field"], &many["limit"]), (&"channel".into(), &3.into()));
        let long = refused(channels_of_query(&format!("channel={}", "x".repeat(257)), &Access::Open, &LIMITS));
        assert_eq!((&long["status"], &long["limit"]), (&400.into(), &256.into()));
        assert_eq!(refused(channels_of_query("channel=sse.control", &Access::Open, &LIMITS))["status"], 403);
    }

    #[test]
    fn body() {
        assert_eq!(names(channels_of_body(br#"{"channels":["a","b","a"]}"#, &Access::Open, &LIMITS)), ["a", "b"]);
        for (body, status, field) in [
            (r#"{"channels":[]}"#, 400, "channels"),
            (r#"{"channels":"a"}"#, 400, "channels"),
            (r#"{"channels":[1]}"#, 400, "channels"),
            (r#"{"channels":["a","b","c","d"]}"#, 400, "channels"),
            (r#"{"channels":["a","*"]}"#, 400, "channels[1]"),
            ("{}", 400, "channels"),
            (r#"{"channels":["a"],"channels":["b"]}"#, 400, "channels"),
            (r#"{"channel":["a"]}"#, 422, "channel"),
            ("[]", 400, "body"),
            ("{", 400, "body"),
            ("", 400, "body"),
        ] {
            let problem = refused(channels_of_body(body.as_bytes(), &Access::Open, &LIMITS));
            assert_eq!((&problem["status"], &problem["field"]), (&status.into(), &field.into()), "{body}");
        }
    }

    #[test]
    fn user_and_format() {
        assert_eq!(channel_of_user("userId=42", &Access::Open).unwrap().as_str(), "user:42");
        assert_eq!(refused(channel_of_user("user=42", &Access::Open))["field"], "userId");
        assert_eq!(refused(channel_of_user("userId=", &Access::Open))["field"], "userId");
        assert_eq!(refused(channel_of_user("userId=1&userId=2", &Access::Open))["field"], "userId");
        assert_eq!(refused(channel_of_user("userId=%C7%D1", &Access::Open))["field"], "userId");
        assert_eq!(request("channel=a", &LIMITS).unwrap(), Request::default());
        assert_eq!(request("format=json", &LIMITS).unwrap().format, Format::Json);
        assert_eq!(refused(request("format=xml", &LIMITS))["field"], "format");
    }

    #[test]
    fn where_it_begins() {
        let begins = |query| request(query, &LIMITS).unwrap().resume;
        let cursor = Resume::After("5-1_abcde".parse().unwrap());
        for query in ["last_event_id=5-1_abcde", "lastEventId=5-1_abcde", "x=y&lastEvent=5-1_abcde&replay=3"] {
            assert_eq!(begins(query), cursor, "{query}");
        }
        assert_eq!(begins("lastEvent=x&last_event_id=5-1_abcde"), cursor);
        assert_eq!(begins("last_event_id=&lastEventId=5-1_abcde"), cursor);
        assert_eq!(begins("last_event_id=earliest"), Resume::Earliest);
        for unknown in ["last_event_id=Earliest", "last_event_id=%FF", "lastEventId=5-1", "lastEvent=%20"] {
            assert_eq!(begins(unknown), Resume::Unknown, "{unknown}");
        }
        assert_eq!(begins("last_event_id="), Resume::Now);
        assert_eq!(begins("replay=7"), Resume::Newest(7));
        assert_eq!((begins("replay=0"), begins("replay="), begins("replay")), (Resume::Now, Resume::Now, Resume::Now));
        for wrong in ["replay=-1", "replay=x", "replay=1001", "replay=+5", "replay=99999999999999999999"] {
            let problem = refused(request(wrong, &LIMITS));
            assert_eq!((&problem["field"], &problem["limit"]), (&"replay".into(), &1_000.into()), "{wrong}");
        }
    }
}
