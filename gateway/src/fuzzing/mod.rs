//! What strangers' bytes may do: for each reader of such bytes a function that takes any, and panics where the reader breaks a
//! promise. `make fuzz` has libFuzzer look for bytes that do it; the tests here try the committed seeds and mutations of them.
//!
//! A target checks more than that nothing panics: what was read is written and read again, or another reader reads it too and
//! has to agree.

// A finding is a panic; there is no other way to tell libFuzzer.
#![allow(clippy::expect_used, clippy::panic)]

mod client;
mod other_reader;
mod publish;
mod requests;
mod stream;
mod token;
mod wire;

/// A target. Panics with what is wrong.
pub type Target = fn(&[u8]);

/// All of them, by the names of their seeds' folders.
pub const TARGETS: [(&str, Target); 10] = [
    ("head", requests::head),
    ("query", requests::query),
    ("client", client::client),
    ("publish", publish::publish),
    ("cursor", wire::cursor),
    ("envelope", wire::envelope),
    ("message", wire::message),
    ("order", wire::order),
    ("event_stream_decode", stream::decode),
    ("token", token::token),
];

/// The target of this name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    TARGETS.iter().find(|(known, _)| *known == name).expect("a target by this name").1
}

#[cfg(test)]
mod tests;
