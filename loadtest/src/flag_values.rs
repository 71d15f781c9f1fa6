//! Values of single flags: each says what it takes, and refuses the rest with the limit.

use std::time::Duration;

/// Longest accepted phase.
const MAX_PHASE: Duration = Duration::from_secs(24 * 3_600);
/// Events per second over all channels.
const MAX_RATE: f64 = 1_000_000.0;
/// Longest template of what is published, in bytes.
const MAX_PAYLOAD: usize = 4_096;

/// A time of at most 24 hours.
pub(crate) fn phase(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error} (for example 500ms, 10s or 2m)"))?;
    if duration > MAX_PHASE {
        return Err("longer than the limit of 24h".to_owned());
    }
    Ok(duration)
}

/// Events per second, from 0.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number of events per second".to_owned())?;
    // Not a number is in no range either.
    if !(0.0..=MAX_RATE).contains(&rate) {
        return Err(format!("not within 0 to {MAX_RATE} events per second"));
    }
    Ok(rate)
}

/// From 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.0..=1.0).contains(&share) {
        return Err("not within 0 to 1".to_owned());
    }
    Ok(share)
}

/// What begins the names of channels.
pub(crate) fn channel_prefix(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 {
        return Err(format!("has {} bytes, not 1 to 64", text.len()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
        return Err("may hold letters, digits, '-', '.', '_' and ':' only".to_owned());
    }
    if text.starts_with("sse.") {
        return Err("must not begin with sse., which gateways keep for themselves".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a channel, as far as any server takes it.
pub(crate) fn channel_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 256 {
        return Err(format!("has {} bytes, not 1 to 256", text.len()));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not hold white space or control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A template of a name in Redis.
pub(crate) fn redis_key(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 256 {
        return Err(format!("has {} bytes, not 1 to 256", text.len()));
    }
    Ok(text.to_owned())
}

/// A template of what is published.
pub(crate) fn payload(text: &str) -> Result<String, String> {
    if !text.contains("{data}") && !text.contains("{json}") {
        return Err("must hold {data} or {json}: without it no event can be told from another".to_owned());
    }
    if text.len() > MAX_PAYLOAD {
        return Err(format!("has {} bytes, the limit is {MAX_PAYLOAD}", text.len()));
    }
    Ok(text.to_owned())
}

/// The value of a header.
pub(crate) fn content_type(text: &str) -> Result<String, String> {
    let value = http::HeaderValue::from_str(text);
    value.map(|_| text.to_owned()).map_err(|_| "is not the value of a header".to_owned())
}

/// `NAME=PID`.
pub(crate) fn watched(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("is not NAME=PID, for example redis=123")?;
    let pid: u32 = pid.parse().ok().filter(|pid| *pid > 0).ok_or("has a PID that is not a number above 0")?;
    if name.is_empty() {
        return Err("lacks the name, for example redis=123".to_owned());
    }
    Ok((name.to_owned(), pid))
}
