//! Property: a configuration written to TOML, to the environment or to flags loads as what it was, and so does one whose
//! keys are spread over the layers, with other values below them. And whatever is said, the loader answers.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::super::{ConfigError, Sources, load_with};
use crate::telemetry::LogFormat;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tree {
    text: String,
    count: u16,
    offset: i64,
    ratio: f64,
    on: bool,
    #[serde(with = "crate::config::duration")]
    wait: Duration,
    log: LogFormat,
    maybe_text: Option<String>,
    maybe_count: Option<u16>,
    inner: Inner,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Inner {
    words: Vec<String>,
    counts: Vec<u16>,
    deep: Deep,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Deep {
    very_deep: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rule {
    prefix: String,
    limit: Option<u32>,
}

/// Every key that text can set.
const KEYS: [&str; 12] = [
    "text",
    "count",
    "offset",
    "ratio",
    "on",
    "wait",
    "log",
    "maybe_text",
    "maybe_count",
    "inner.words",
    "inner.counts",
    "inner.deep.very_deep",
];

/// No NUL, which no environment variable can hold.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[^\0]{0,12}", "[0-9]{1,3}", Just("true".to_owned()), Just("a__b=c".to_owned())]
}

fn any_log() -> impl Strategy<Value = LogFormat> {
    prop_oneof![Just(LogFormat::Text), Just(LogFormat::Json), Just(LogFormat::Auto)]
}

fn any_wait() -> impl Strategy<Value = Duration> {
    (0..40_000_000_000_u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn any_inner() -> impl Strategy<Value = Inner> {
    // A list in one line holds words without commas, and without blanks around them.
    let word = "[a-z0-9:/*é]([a-z =\"'\\\\]{0,5}[a-z0-9])?";
    let deep = any_text().prop_map(|very_deep| Deep { very_deep });
    (vec(word, 0..4), vec(any::<u16>(), 0..4), deep).prop_map(|(words, counts, deep)| Inner { words, counts, deep })
}

prop_compose! {
    fn any_tree()(
        (text, count, offset, on) in (any_text(), any::<u16>(), any::<i64>(), any::<bool>()),
        (ratio, wait, log) in (-1e300..1e300, any_wait(), any_log()),
        // Empty text says none, so text cannot say Some("").
        maybe_text in option::of(any_text().prop_filter("not empty", |text| !text.is_empty())),
        maybe_count in option::of(any::<u16>()),
        inner in any_inner(),
        rules in vec((any_text(), option::of(any::<u32>())).prop_map(|(prefix, limit)| Rule { prefix, limit }), 0..3),
    ) -> Tree {
        Tree { text, count, offset, ratio, on, wait, log, maybe_text, maybe_count, inner, rules }
    }
}

/// A JSON value is a TOML value, but for `null` and the name of DEL.
fn toml_value(value: &Json) -> String {
    match value {
        Json::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<String> = fields.map(|(key, value)| format!("{key} = {}", toml_value(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        other => other.to_string().replace('\u{7f}', "\\u007f"),
    }
}

fn toml(tree: &Json) -> String {
    let fields = tree.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    fields.map(|(key, value)| format!("{key} = {}\n", toml_value(value))).collect()
}

fn one_line(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(one_line).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn at<'t>(tree: &'t Json, key: &str) -> &'t Json {
    key.split('.').fold(tree, |at, name| &at[name])
}

fn variable(key: &str) -> String {
    format!("T__{}", key.to_uppercase().replace('.', "__"))
}

fn load(sources: &Sources) -> Result<Tree, ConfigError> {
    load_with(sources, &[("rules", json!({"prefix": "", "limit": null}))])
}

fn loaded(sources: &Sources) -> Tree {
    load(sources).unwrap()
}

/// Names that are known, at this level or another, and some that are not.
fn any_name() -> impl Strategy<Value = String> {
    let known =
        proptest::sample::select(&["text", "count", "wait", "maybe_count", "inner", "counts", "rules", "prefix"]);
    prop_oneof![5 => known.prop_map(str::to_owned), 1 => "[a-z_]{1,6}"]
}

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any_text().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u16>().prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        (-9e9..9e9).prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let table = vec((any_name(), inner.clone()), 0..6).prop_map(|fields| fields.into_iter().collect());
        prop_oneof![vec(inner, 0..4).prop_map(Json::Array), table.prop_map(Json::Object)]
    })
}

fn any_file() -> impl Strategy<Value = Json> {
    vec((any_name(), any_value()), 0..8).prop_map(|fields| Json::Object(fields.into_iter().collect()))
}

proptest! {
    #[test]
    fn each_layer_alone(tree in any_tree()) {
        let json = serde_json::to_value(&tree).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tree.toml");
        std::fs::write(&path, toml(&json)).unwrap();
        prop_assert_eq!(&loaded(&Sources::new("T").file(&path)), &tree);

        let without_rules = Tree { rules: Vec::new(), ..tree };
        let env = Sources::new("T").env(KEYS.map(|key| (variable(key), one_line(at(&json, key)))));
        prop_assert_eq!(&loaded(&env), &without_rules);

        let flags = KEYS.iter().fold(Sources::new("T"), |sources, key| sources.flag(key, "--x", Some(one_line(at(&json, key)))));
        prop_assert_eq!(&loaded(&flags), &without_rules);
    }

    #[test]
    fn the_highest_layer_that_speaks_wins(low in any_tree(), high in any_tree(), layer in vec(0..3_u8, KEYS.len())) {
        let (low, high) = (serde_json::to_value(&low).unwrap(), serde_json::to_value(&high).unwrap());
        let folder = TempDir::new().unwrap();
        let (one, two) = (folder.path().join("one.toml"), folder.path().join("two.toml"));
        std::fs::write(&one, toml(&low)).unwrap();
        // Each key gets its final value from the second file, the environment or a flag, over another one below.
        let mut sources = Sources::new("T").file(&one).file(&two);
        let mut expected = low.clone();
        let mut lines = String::new();
        for (key, layer) in KEYS.iter().zip(layer) {
            let (below, value) = (at(&low, key), at(&high, key));
            let slot = key.split('.').fold(&mut expected, |at, name| &mut at[name]);
            match layer {
                // A file cannot say none.
                0 if value.is_null() => continue,
                0 => lines.push_str(&format!("{key} = {}\n", toml_value(value))),
                1 => sources = sources.env([(variable(key), one_line(value))]),
                _ => {
                    sources = sources.env([(variable(key), one_line(below))]);
                    sources = sources.flag(key, "--x", Some(one_line(value)));
                }
            }
            *slot = value.clone();
        }
        std::fs::write(&two, lines).unwrap();
        prop_assert_eq!(loaded(&sources), serde_json::from_value::<Tree>(expected).unwrap());
    }

    #[test]
    fn whatever_is_said_is_answered(one in any_file(), two in any_file(), vars in vec((any_name(), any_text()), 0..4)) {
        let folder = TempDir::new().unwrap();
        let (first, second) = (folder.path().join("one.toml"), folder.path().join("two.toml"));
        std::fs::write(&first, toml(&one)).unwrap();
        std::fs::write(&second, toml(&two)).unwrap();
        let vars = vars.into_iter().map(|(name, value)| (variable(&name), value));
        let sources = Sources::new("T").file(&first).file(&second).env(vars);
        let (once, again) = (load(&sources), load(&sources));
        prop_assert_eq!(&once, &again);
        // Every problem has a place, and no syntax error came of what is TOML.
        if let Err(error) = once {
            for line in error.to_string().lines() {
                prop_assert!(line.starts_with("T__") || line.contains("e.toml: ") || line.contains("o.toml: "), "{line}");
                prop_assert!(!line.contains("TOML"), "{line}");
            }
        }
    }
}
