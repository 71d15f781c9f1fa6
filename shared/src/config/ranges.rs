//! What a setting may be: both ends count. The error says the range, and leaves the key to the caller.

use std::time::Duration;

/// Whether a number is within its range.
///
/// # Errors
/// The value and the range, for people.
pub fn within(value: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{value} is not within {least} and {most}"))
}

/// The same for a duration.
///
/// # Errors
/// The value and the range, for people.
pub fn between(value: Duration, least: Duration, most: Duration) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let text = humantime::format_duration;
    Err(format!("{} is not within {} and {}", text(value), text(least), text(most)))
}
