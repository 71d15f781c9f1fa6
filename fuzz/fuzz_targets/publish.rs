//! The target `publish` of `gateway::fuzzing`, where it says what is checked.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::target("publish")(bytes));
