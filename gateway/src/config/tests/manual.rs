//! What the documents say of settings is what the code says.

use std::path::Path;

use testkit::manual::{self, Row, hold, with_rows, with_values};

use super::*;

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
const HOW: &str = "cargo test -p gateway --lib config";

/// Every setting that is not in an array of tables.
fn rows() -> Vec<Row> {
    let file = std::fs::read_to_string(FILE).unwrap();
    let row = |(key, default): (String, Value)| {
        let range = RANGES.iter().find(|(ranged, ..)| *ranged == key).map(|(_, ends, ..)| range(&key, *ends));
        let default = (!default.is_null()).then(|| default.to_string());
        Row { variable: variable(&key), meaning: manual::meaning(&file, &key), key, default, range }
    };
    leaves(&Config::default()).into_iter().filter(|(key, _)| !key.contains("[]")).map(row).collect()
}

/// Ends that are other keys are named so.
fn range(key: &str, [least, most]: [&str; 2]) -> String {
    let [least, most] = match key {
        "log.age" => ["limits.write_timeout", most],
        "drain.grace" => [least, "drain.deadline"],
        "replay.max_bytes" => ["replay.bytes", most],
        _ => [least, most],
    };
    format!("{least} to {most}")
}

#[test]
fn the_manual_has_a_row_for_every_key() {
    let text = std::fs::read_to_string(MANUAL).unwrap();
    hold(Path::new(MANUAL), &with_rows(&text, &format!("{ENV_PREFIX}__"), &rows()), HOW);
    for (key, _) in leaves(&Config::default()).iter().filter(|(key, _)| key.contains("[]")) {
        let begin = format!("| `{key}` | in files only | ");
        assert!(text.lines().any(|line| line.starts_with(&begin)), "no row {begin}");
    }
}

#[test]
fn the_file_has_the_values_of_the_code() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let values: Vec<_> = rows().into_iter().filter_map(|row| Some((row.key, row.default?))).collect();
    hold(Path::new(FILE), &with_values(&text, &values), HOW);
}
