//! Ranges and rules of the settings, in the words people read; and that the files which describe them tell the truth.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use testkit::manual::{self, Row, hold, with_rows, with_values};

use super::*;

/// A key, its range as text, values just outside, and variables without which the range's ends break another rule.
type Range = (&'static str, [&'static str; 2], [Option<&'static str>; 2], &'static [(&'static str, &'static str)]);

const RANGES: [Range; 23] = [
    ("wait_replicas", ["0", "16"], [None, Some("17")], &[]),
    ("redis.wait", ["0s", "1h"], [None, Some("1h 1ms")], &[]),
    ("redis.connect_timeout", ["100ms", "1m"], [Some("99ms"), Some("1m 1ms")], &[]),
    ("redis.command_timeout", ["100ms", "1m"], [Some("99ms"), Some("1m 1ms")], &[("limits.request_timeout", "2m")]),
    ("redis.partitions", ["1", "16384"], [None, None], &[]),
    ("redis.unready_after", ["0s", "1h"], [None, Some("1h 1ms")], &[]),
    ("auth.leeway", ["0s", "5m"], [None, Some("5m 1ms")], &[]),
    ("chat.batch", ["10ms", "1s"], [Some("9ms"), Some("1s 1ms")], &[]),
    ("chat.stall", ["1s", "5m"], [Some("999ms"), Some("5m 1ms")], &[]),
    ("chat.max_time", ["1s", "20m"], [Some("999ms"), Some("20m 1ms")], &[]),
    ("chat.max_bytes", ["1024", "3145728"], [Some("1023"), Some("3145729")], &[]),
    ("chat.max_answers", ["1", "10000"], [Some("0"), Some("10001")], &[]),
    ("limits.max_channels", ["1", "1024"], [Some("0"), Some("1025")], &[]),
    ("limits.max_url", ["256", "32768"], [Some("255"), Some("32769")], &[]),
    ("limits.max_data", ["1", "16777216"], [Some("0"), Some("16777217")], &[]),
    ("limits.max_event_name", ["1", "4096"], [Some("0"), Some("4097")], &[]),
    ("limits.max_batch", ["1", "100000"], [Some("0"), Some("100001")], &[]),
    ("limits.publish_rate", ["0", "1000000"], [None, Some("1000001")], &[]),
    ("limits.publish_burst", ["1", "1000000"], [Some("0"), Some("1000001")], &[]),
    ("limits.write_timeout", ["1s", "10m"], [Some("999ms"), Some("10m 1ms")], &[]),
    ("limits.request_timeout", ["1s", "10m"], [Some("999ms"), Some("10m 1ms")], &[("redis.command_timeout", "500ms")]),
    ("drain.deadline", ["100ms", "1h"], [Some("99ms"), Some("1h 1ms")], &[("drain.grace", "50ms")]),
    ("drain.grace", ["0s", "10s"], [None, Some("10s 1ms")], &[("drain.deadline", "10s")]),
];

fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}__{}", key.to_uppercase().replace('.', "__"))
}

fn load(sources: &Sources) -> Result<Config, String> {
    Config::load(sources).map_err(|error| error.to_string())
}

fn by_env(settings: &[(&str, &str)]) -> Result<Config, String> {
    let variables = settings.iter().map(|(key, value)| (variable(key), (*value).to_owned()));
    load(&Sources::new(ENV_PREFIX).env(variables))
}

/// The words of what is wrong, after the place and the key.
fn reason(key: &str, value: &str) -> String {
    let error = by_env(&[(key, value)]).unwrap_err();
    let start = format!("{}: invalid value for \"{key}\": ", variable(key));
    error.strip_prefix(&start).unwrap_or_else(|| panic!("{error:?} begins otherwise than {start:?}")).to_owned()
}

/// Loads a file with this text.
fn by_file(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, text).unwrap();
    load(&Sources::new(ENV_PREFIX).file(&path)).map_err(|error| error.replace(&path.display().to_string(), "x.toml"))
}

#[test]
fn the_defaults_are_sound() {
    assert_eq!(by_env(&[]), Ok(Config::default()));
    assert_eq!(Config::default().redis.url.as_deref(), Some("redis://127.0.0.1:6379"));
    assert_eq!(Config::default().limits.of_routes(), http::Limits::default());
}

#[test]
fn every_range_takes_its_ends_and_refuses_what_lies_beyond() {
    for (key, [least, most], beyond, others) in RANGES {
        let with = |value| [&[(key, value)], others].concat();
        for value in [least, most] {
            let config = by_env(&with(value)).unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
            let set = serde_json::to_value(&config).unwrap();
            let set = key.split('.').fold(&set, |at, name| &at[name]);
            assert_eq!(set.to_string().trim_matches('"'), value, "{key}");
        }
        for value in beyond.into_iter().flatten() {
            let expected =
                format!("{}: invalid value for {key:?}: {value} is not within {least} and {most}", variable(key));
            assert_eq!(by_env(&with(value)), Err(expected));
        }
    }
}

#[test]
fn every_number_and_duration_has_a_range() {
    let defaults = leaves(&Config::default());
    let is_number = |value: &Value| {
        let duration = |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(['s', 'm', 'h']);
        value.is_number() || value.as_str().is_some_and(duration)
    };
    let numbers: BTreeSet<_> = defaults.iter().filter(|(_, value)| is_number(value)).map(|(key, _)| &**key).collect();
    assert_eq!(numbers, RANGES.iter().map(|(key, ..)| *key).collect());
}

#[test]
fn rules_between_keys_name_the_key_that_breaks_them() {
    // 2s is the default of drain.grace, which nobody said: so no place.
    assert_eq!(
        by_env(&[("drain.deadline", "1s")]),
        Err("invalid value for \"drain.grace\": 2s is not within 0s and 1s".to_owned())
    );
    let expected = "SSE_PUBLISHER__LIMITS__REQUEST_TIMEOUT: invalid value for \"limits.request_timeout\": \
                    5s is not above redis.command_timeout, 5s";
    let equal = [("limits.request_timeout", "5s"), ("redis.command_timeout", "5s")];
    assert_eq!(by_env(&equal), Err(expected.to_owned()));
}

#[test]
fn a_port_beyond_loopback_has_to_be_meant() {
    for listen in ["0.0.0.0:8090", "[::]:8090", "192.0.2.1:80"] {
        let expected = format!(
            "SSE_PUBLISHER__LISTEN: invalid value for \"listen\": {listen} lets everybody who reaches it publish, since there is no \
             authentication; set auth.jwks_file or another key of [auth], keep to 127.0.0.1, or say --insecure (SSE_PUBLISHER__INSECURE=true)"
        );
        assert_eq!(by_env(&[("listen", listen)]), Err(expected));
        assert!(by_env(&[("listen", listen), ("insecure", "true")]).is_ok());
        assert!(by_env(&[("listen", listen), ("auth.jwks_file", "x")]).is_ok());
    }
    for listen in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:8090", "localhost:8090"] {
        assert!(by_env(&[("listen", listen)]).is_ok(), "{listen}");
    }
}

#[test]
fn addresses_that_are_none() {
    for key in ["listen", "admin_listen"] {
        for (value, why) in [
            ("8090", "invalid socket address"),
            ("", "invalid socket address"),
            ("127.0.0.1:70000", "invalid port value"),
        ] {
            // One problem: that it is not loopback either would only confuse.
            assert_eq!(reason(key, value), format!("\"{value}\" is no address such as 127.0.0.1:8090: {why}"), "{key}");
        }
    }
}

#[test]
fn wrong_types_words_and_keys() {
    for (key, value, expected) in [
        ("limits.max_data", "-1", "expected an integer from 0 to 18446744073709551615, got -1"),
        ("redis.wait", "20", "expected a duration such as \"20s\", got \"20\""),
        ("insecure", "yes", "expected true or false, got \"yes\""),
        ("telemetry.format", "xml", "expected one of \"text\", \"json\", \"auto\", got \"xml\""),
    ] {
        assert_eq!(reason(key, value), expected);
    }
    assert_eq!(
        by_file("[redis]\nurll = 'x'"),
        Err("x.toml: unknown key \"redis.urll\"; did you mean \"redis.url\"?".to_owned())
    );
    assert_eq!(
        by_file("[[channels]]\nprefix = 'a'\nhistry = 5"),
        Err("x.toml: unknown key \"channels[0].histry\"; did you mean \"channels[0].history\"?".to_owned())
    );
    assert_eq!(
        by_env(&[("channels", "a")]),
        Err("SSE_PUBLISHER__CHANNELS: \"channels\" is an array of tables, which can be set in a file only".to_owned())
    );
}

#[test]
fn redis_channels_and_chat_are_checked_too() {
    let error = by_file("[redis]\nprefix = 'a:b'\n[[channels]]\nprefix = 'sse.x'\n[chat]\nupstream = 'h'").unwrap_err();
    let keys: Vec<_> = error.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(keys, ["redis.prefix", "channels[0].prefix", "chat.upstream"], "{error}");
}

#[test]
fn no_password_is_shown() {
    for (key, value) in [
        ("redis.url", "http://me:hunter2@h"),
        ("redis.url", "redis://me:hunter2@h:99999"),
        ("redis.url", "redis://me:hunter2@h/x?hunter2"),
        ("chat.upstream", "https://me:hunter2@h/"),
        ("chat.upstream", "h/v1?key=hunter2"),
        ("chat.key", "hunter2\n"),
    ] {
        let error = by_env(&[(key, value)]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = by_file("[redis]\npassword = ['s3cret']\nurl = ['redis://me:hunter2@h']").unwrap_err();
    assert!(!error.contains("hunter2") && !error.contains("s3cret"), "{error}");
    let chat = [("chat.upstream", "http://h/?key=hunter2"), ("chat.key", "s3cret")];
    let redis = [("redis.url", "redis://me:hunter2@h"), ("redis.password", "s3cret")];
    let config = by_env(&[chat, redis].concat()).unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains("hunter2") && !text.contains("s3cret"), "{text}");
}

#[test]
fn part_of_a_section_leaves_the_rest_as_it_was() {
    let config = by_file("[redis]\nprefix = 'x'\n[limits]\nmax_data = 7").unwrap();
    let redis = Settings { prefix: "x".to_owned(), ..Settings::new(DEFAULT_REDIS_URL) };
    assert_eq!(config, Config { redis, limits: Limits { max_data: 7, ..Limits::default() }, ..Config::default() });
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/publisher.toml");

/// Every key that holds a value, with its default.
fn leaves(config: &Config) -> Vec<(String, Value)> {
    fn list(value: Value, path: &str, into: &mut Vec<(String, Value)>) {
        let Value::Object(fields) = value else { return into.push((path.to_owned(), value)) };
        for (name, inner) in fields {
            list(inner, &if path.is_empty() { name } else { format!("{path}.{name}") }, into);
        }
    }
    let mut found = Vec::new();
    list(serde_json::to_value(config).unwrap(), "", &mut found);
    found
}

/// Keys that begin a line of the file with `marker` before them, each with its section.
fn keys_of_file(text: &str, marker: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let line = line.strip_prefix("# [[").map_or(line, |rest| &line[line.len() - rest.len() - 2..]);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((key, _)) = line.strip_prefix(marker).and_then(|rest| rest.split_once(" = ")) else { continue };
        // Prose has white space or back quotes before its equal sign.
        if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            keys.insert(if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") });
        }
    }
    keys
}

#[test]
fn the_file_holds_every_default() {
    assert_eq!(load(&Sources::new(ENV_PREFIX).file(FILE)), Ok(Config::default()));
    let text = std::fs::read_to_string(FILE).unwrap();
    let (optional, mut plain): (Vec<_>, Vec<_>) =
        leaves(&Config::default()).into_iter().partition(|(_, value)| value.is_null());
    plain.retain(|(key, _)| key != "channels");
    let names = |leaves: Vec<(String, Value)>| leaves.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
    assert_eq!(keys_of_file(&text, ""), names(plain));
    let mut optional = names(optional);
    optional.extend(rule_keys().into_iter().map(|key| format!("[channels].{key}")));
    assert_eq!(keys_of_file(&text, "# "), optional, "keys without a default stand behind a # and a space");
}

/// The keys of a rule for channels.
fn rule_keys() -> Vec<String> {
    let (_, example) = ChannelSettings::taught();
    example.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn what_the_file_shows_behind_a_comment_sign_works() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let from = text.find("# [[channels]]").unwrap();
    let rules: String =
        text[from..].lines().take_while(|line| line.starts_with('#')).map(|line| format!("{}\n", &line[1..])).collect();
    let config = by_file(&rules).unwrap();
    assert_eq!(config.channels.0.len(), 2, "{rules}");
    assert!(config.channels.0[0].history.is_some() && config.channels.0[1].ephemeral, "{rules}");

    let keys = ["# password = ", "# sentinel_user = ", "# sentinel_password = ", "# ca_file = "];
    let shown = |line: &&str| keys.iter().any(|key| line.starts_with(key));
    let lines: String = text.lines().filter(shown).map(|line| format!("{}\n", &line[2..])).collect();
    let config = by_file(&format!("[redis]\nurl = 'rediss+sentinel://h/main'\n{lines}")).unwrap();
    assert!(config.redis.password.is_some() && config.redis.ca_file.is_some(), "{lines}");
    assert!(config.redis.sentinel_user.is_some() && config.redis.sentinel_password.is_some(), "{lines}");

    let shown = |line: &&str| {
        ["# upstream = ", "# model = ", "# key = ", "# system = "].iter().any(|key| line.starts_with(key))
    };
    let section = text.lines().skip_while(|line| *line != "[chat]");
    let lines: String = section.filter(shown).map(|line| format!("{}\n", &line[2..])).collect();
    let chat = by_file(&format!("[chat]\n{lines}")).unwrap().chat;
    assert!(chat.upstream.is_some() && chat.model.is_some() && chat.key.is_some() && chat.system.is_some(), "{lines}");
}

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
const HOW: &str = "cargo test -p publisher --lib config";

/// Every setting that is not in an array of tables.
fn rows() -> Vec<Row> {
    let file = std::fs::read_to_string(FILE).unwrap();
    let range = |key: &str| {
        let (_, [least, most], ..) = RANGES.iter().find(|(ranged, ..)| *ranged == key)?;
        // The end that is another key is named so.
        Some(format!("{least} to {}", if key == "drain.grace" { "drain.deadline" } else { most }))
    };
    let row = |(key, default): (String, Value)| {
        let default = (!default.is_null()).then(|| default.to_string());
        Row { variable: variable(&key), meaning: manual::meaning(&file, &key), range: range(&key), key, default }
    };
    leaves(&Config::default()).into_iter().filter(|(key, _)| key != "channels").map(row).collect()
}

#[test]
fn the_manual_has_a_row_for_every_key() {
    let text = std::fs::read_to_string(MANUAL).unwrap();
    hold(Path::new(MANUAL), &with_rows(&text, &format!("{ENV_PREFIX}__"), &rows()), HOW);
    for key in rule_keys() {
        let begin = format!("| `channels[].{key}` | ");
        assert!(text.lines().any(|line| line.starts_with(&begin)), "no row {begin}");
    }
}

#[test]
fn the_file_has_the_values_of_the_code() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let values: Vec<_> = rows().into_iter().filter_map(|row| Some((row.key, row.default?))).collect();
    hold(Path::new(FILE), &with_values(&text, &values), HOW);
}
