//! Durations as people write them, for `#[serde(with = "shared::config::duration")]` on a [`Duration`].
//!
//! `"20s"`, `"500ms"`, `"1m 30s"`, `"1.5h"`; months and years are 30.44 and 365.25 days. A number without a unit is
//! refused, zero too. Each number of it has at most 9 digits, the whole at most 64 bytes: about a thousand million years.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

const EXPECTED: &str = "a duration such as \"20s\"";
const MAX_BYTES: usize = 64;
const MAX_DIGITS: usize = 9;

/// Writes the form that [`deserialize`] reads: `90s` becomes `"1m 30s"`.
///
/// # Errors
///
/// Only those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration with its unit.
///
/// # Errors
///
/// Anything else: `expected a duration such as "20s"`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Words)
}

struct Words;

impl Visitor<'_> for Words {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

fn parse(text: &str) -> Option<Duration> {
    // "0" is a duration to humantime; here every duration has a unit.
    if text.len() > MAX_BYTES || !text.contains(char::is_alphabetic) {
        return None;
    }
    // humantime adds up without a check in one place and panics near u64::MAX seconds; stay far below.
    let mut digits = 0;
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > MAX_DIGITS {
            return None;
        }
    }
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wait(#[serde(with = "super")] Duration);

    #[test]
    fn reads_units() {
        let cases = [("20s", 20_000), ("500ms", 500), ("2m", 120_000), ("1m 30s", 90_000), ("1.5s", 1_500), ("0s", 0)];
        for (text, ms) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        let long = "1s ".repeat(30);
        let overflow = "18446744073709551615s 1000ms";
        for text in ["", " ", "0", "20", "-1s", "20x", "s", "1h30", "9999999999s", "1 234 567 890s", overflow, &long] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_integer_is_refused_with_an_example() {
        let error = serde_json::from_str::<Wait>("20").unwrap_err().to_string();
        assert!(error.starts_with("invalid type: integer `20`, expected a duration such as \"20s\""), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0..31_557_600_000_000_000_u64, nanos in 0..1_000_000_000_u32) {
            let wait = Wait(Duration::new(seconds, nanos));
            let text = serde_json::to_string(&wait).unwrap();
            prop_assert_eq!(serde_json::from_str::<Wait>(&text).unwrap(), wait);
        }

        #[test]
        fn no_text_panics(text in "[0-9 .smhdyMuµn-]{0,70}") {
            let _ = parse(&text);
        }
    }
}
