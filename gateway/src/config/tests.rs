//! Ranges and rules of the settings, in the words people read; and that the files which describe them tell the truth.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

mod broker;
mod manual;
mod texts;

/// A key, its range as text, values just outside, and variables without which the range's ends break another rule.
type Range = (&'static str, [&'static str; 2], [Option<&'static str>; 2], &'static [(&'static str, &'static str)]);

const RANGES: [Range; 47] = [
    ("retry", ["100ms", "1h"], [Some("99ms"), Some("1h 1ms")], &[]),
    ("keep_alive", ["1s", "1h"], [Some("999ms"), Some("1h 1ms")], &[]),
    ("limits.write_timeout", ["1s", "10m"], [Some("999ms"), Some("10m 1ms")], &[("log.age", "11m")]),
    ("limits.request_timeout", ["1s", "10m"], [Some("999ms"), Some("10m 1ms")], &[("limits.open_timeout", "500ms")]),
    ("limits.open_timeout", ["100ms", "1m"], [Some("99ms"), Some("1m 1ms")], &[("limits.request_timeout", "2m")]),
    ("limits.max_lifetime", ["0s", "30days"], [None, Some("30days 1ms")], &[]),
    ("limits.max_connections", ["1", "10000000"], [Some("0"), Some("10000001")], &[]),
    ("limits.max_connections_per_address", ["0", "10000000"], [None, Some("10000001")], &[]),
    ("limits.max_connections_per_user", ["0", "1000"], [None, Some("1001")], &[]),
    ("limits.user_lease", ["1s", "1h"], [Some("999ms"), Some("1h 1ms")], &[]),
    ("limits.connects_per_second", ["0", "1000000"], [None, Some("1000001")], &[]),
    ("limits.max_head", ["8192", "262144"], [Some("8191"), Some("262145")], &[]),
    ("limits.head_timeout", ["1s", "10m"], [Some("999ms"), Some("10m 1ms")], &[]),
    ("limits.publish_rate", ["0", "1000000"], [None, Some("1000001")], &[]),
    ("limits.publish_burst", ["1", "1000000"], [Some("0"), Some("1000001")], &[]),
    ("limits.max_channels", ["1", "1024"], [Some("0"), Some("1025")], &[]),
    ("limits.max_url", ["256", "32768"], [Some("255"), Some("32769")], &[]),
    ("limits.max_data", ["1", "16777216"], [Some("0"), Some("16777217")], &[]),
    ("limits.max_event_name", ["1", "4096"], [Some("0"), Some("4097")], &[]),
    ("limits.max_batch", ["1", "100000"], [Some("0"), Some("100001")], &[]),
    ("presence.offline_after", ["1s", "1h"], [Some("999ms"), Some("1h 1ms")], &[]),
    ("lanes.loops", ["1", "64"], [Some("0"), Some("65")], &[]),
    ("lanes.rest", ["0s", "100ms"], [None, Some("101ms")], &[]),
    ("log.events", ["1", "1048576"], [Some("0"), Some("1048577")], &[]),
    ("log.bytes", ["1024", "1073741824"], [Some("1023"), Some("1073741825")], &[]),
    ("log.age", ["45s", "1h"], [Some("44s 999ms"), Some("1h 1ms")], &[("limits.write_timeout", "45s")]),
    ("log.linger", ["0s", "1m"], [None, Some("1m 1ms")], &[]),
    ("log.check_interval", ["1s", "1h"], [Some("999ms"), Some("1h 1ms")], &[]),
    ("drain.deadline", ["100ms", "1h"], [Some("99ms"), Some("1h 1ms")], &[("drain.grace", "50ms")]),
    ("drain.grace", ["0s", "10s"], [None, Some("10s 1ms")], &[("drain.deadline", "10s")]),
    ("drain.window", ["0s", "1h"], [None, Some("1h 1ms")], &[]),
    ("replay.events", ["1", "100000"], [Some("0"), Some("100001")], &[]),
    ("replay.bytes", ["1024", "1073741824"], [Some("1023"), Some("1073741825")], &[("replay.max_bytes", "1073741825")]),
    (
        "replay.max_bytes",
        ["5000000", "1099511627776"],
        [Some("4999999"), Some("1099511627777")],
        &[("replay.bytes", "5000000")],
    ),
    ("redis.wait", ["0s", "1h"], [None, Some("1h 1ms")], &[]),
    ("redis.connect_timeout", ["100ms", "1m"], [Some("99ms"), Some("1m 1ms")], &[]),
    ("redis.command_timeout", ["100ms", "1m"], [Some("99ms"), Some("1m 1ms")], &[]),
    ("redis.partitions", ["1", "16384"], [None, None], &[]),
    ("redis.unready_after", ["0s", "1h"], [None, Some("1h 1ms")], &[]),
    ("embedded.max_bytes", ["65536", "1099511627776"], [Some("65535"), Some("1099511627777")], &[]),
    ("embedded.max_keys", ["1", "100000000"], [Some("0"), Some("100000001")], &[]),
    ("auth.leeway", ["0s", "5m"], [None, Some("5m 1ms")], &[]),
    ("chat.batch", ["10ms", "1s"], [Some("9ms"), Some("1s 1ms")], &[]),
    ("chat.stall", ["1s", "5m"], [Some("999ms"), Some("5m 1ms")], &[]),
    ("chat.max_time", ["1s", "20m"], [Some("999ms"), Some("20m 1ms")], &[]),
    ("chat.max_bytes", ["1024", "3145728"], [Some("1023"), Some("3145729")], &[]),
    ("chat.max_answers", ["1", "10000"], [Some("0"), Some("10001")], &[]),
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

#[test]
fn the_defaults_are_sound() {
    assert_eq!(by_env(&[]), Ok(Config::default()));
}

#[test]
fn a_stream_is_never_cut_while_it_waits_for_its_channels() {
    let expected = "SSE_GATEWAY__LIMITS__OPEN_TIMEOUT: invalid value for \"limits.open_timeout\": \
                    10s is not below limits.request_timeout, 10s";
    let settings = [("limits.open_timeout", "10s"), ("limits.request_timeout", "10s")];
    assert_eq!(by_env(&settings), Err(expected.to_owned()));
}

/// On Redis it may wait for more than its channels.
#[test]
fn nor_while_it_waits_for_redis() {
    let open = [("limits.open_timeout", "10s"), ("redis.command_timeout", "3s")];
    let with = |request, others: &[_]| by_env(&[&open[..], &[("limits.request_timeout", request)], others].concat());
    let [redis, auth, users] = [
        ("redis.url", "redis://127.0.0.1"),
        ("auth.secret", "a secret of the tests, long enough for HS256"),
        ("limits.max_connections_per_user", "3"),
    ];
    let ticket = ", and twice redis.command_timeout, 3s, for a ticket";
    let lease = ", and 500ms for a user's lease";
    for (least, below, others, said) in [
        ("10s 1ms", "10s", &[auth, users][..], String::new()),
        ("10s 1ms", "10s", &[redis], String::new()),
        ("16s 1ms", "16s", &[redis, auth], ticket.to_owned()),
        ("10s 501ms", "10s 500ms", &[redis, users], lease.to_owned()),
        ("16s 501ms", "16s 500ms", &[redis, auth, users], format!("{ticket}{lease}")),
    ] {
        assert_eq!(with(least, others).map(drop), Ok(()), "{least} {others:?}");
        let expected = format!(
            "SSE_GATEWAY__LIMITS__OPEN_TIMEOUT: invalid value for \"limits.open_timeout\": \
             10s{said} is not below limits.request_timeout, {below}"
        );
        assert_eq!(with(below, others), Err(expected));
    }
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
fn a_lifetime_is_long_or_has_no_end() {
    assert_eq!(reason("limits.max_lifetime", "999ms"), "999ms is below 1s, and is not 0s");
    assert_eq!(by_env(&[("limits.max_lifetime", "1s")]).unwrap().max_lifetime(), Some(Duration::from_secs(1)));
    assert_eq!(Config::default().max_lifetime(), None);
}

#[test]
fn there_is_an_event_loop_for_each_core() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(by_env(&[]).unwrap().loops(), cores.min(64));
    assert_eq!(by_env(&[("lanes.loops", "7")]).unwrap().loops(), 7);
}

#[test]
fn the_drain_window_leaves_room_before_the_deadline() {
    let window = |settings: &[(&str, &str)]| by_env(settings).unwrap().drain_window();
    let redis = ("redis.url", "redis://127.0.0.1");
    assert_eq!(window(&[]), Duration::ZERO, "there is nowhere else to go");
    assert_eq!(window(&[redis]), Duration::from_secs(20));
    assert_eq!(window(&[redis, ("drain.deadline", "12s")]), Duration::from_secs(9));
    assert_eq!(window(&[redis, ("drain.window", "0s")]), Duration::ZERO);
}

#[test]
fn every_number_and_duration_has_a_range() {
    let defaults = leaves(&Config::default());
    let is_number =
        |value: &Value| value.is_number() || value.as_str().is_some_and(|text| text.ends_with(['s', 'm', 'h']));
    let numbers = defaults.iter().filter(|(_, value)| is_number(value)).map(|(key, _)| &**key);
    // Not set, nothing shows that it is a number.
    let numbers: BTreeSet<_> = numbers.chain(["lanes.loops", "limits.max_connections_per_address"]).collect();
    assert_eq!(numbers, RANGES.iter().map(|(key, ..)| *key).collect());
}

#[test]
fn a_port_beyond_loopback_has_to_be_meant() {
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"] {
        let expected = format!(
            "SSE_GATEWAY__LISTEN: invalid value for \"listen\": {listen} lets everybody who reaches it read and publish, since there \
             is no authentication; set auth.jwks_file or another key of [auth], keep to 127.0.0.1, or say --insecure (SSE_GATEWAY__INSECURE=true)"
        );
        assert_eq!(by_env(&[("listen", listen)]), Err(expected));
        assert!(by_env(&[("listen", listen), ("insecure", "true")]).is_ok_and(|config| !config.is_loopback()));
    }
    for listen in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:8080", "localhost:8080"] {
        assert!(by_env(&[("listen", listen)]).is_ok_and(|config| config.is_loopback()), "{listen}");
    }
}

#[test]
fn addresses_that_are_none() {
    for key in ["listen", "admin_listen"] {
        for (value, why) in [
            ("8080", "invalid socket address"),
            ("", "invalid socket address"),
            ("127.0.0.1", "invalid socket address"),
            ("127.0.0.1:70000", "invalid port value"),
            ("127.0.0.1:", "invalid port value"),
        ] {
            // One problem: that it is not loopback either would only confuse.
            assert_eq!(reason(key, value), format!("\"{value}\" is no address such as 127.0.0.1:8080: {why}"), "{key}");
        }
    }
}

#[test]
fn rules_between_keys_name_the_key_that_breaks_them() {
    // 1m is the default of log.age, which nobody said: so no place.
    assert_eq!(
        by_env(&[("limits.write_timeout", "2m")]),
        Err("invalid value for \"log.age\": 1m is not within 2m and 1h".to_owned())
    );
    assert_eq!(
        by_env(&[("drain.deadline", "1s")]),
        Err("invalid value for \"drain.grace\": 2s is not within 0s and 1s".to_owned())
    );
    assert!(by_env(&[("drain.deadline", "1s"), ("drain.grace", "1s")]).is_ok(), "as long as is allowed");
}

#[test]
fn wrong_types_and_words() {
    for (key, value, expected) in [
        ("limits.max_data", "-1", "expected an integer from 0 to 18446744073709551615, got -1"),
        ("limits.max_data", "64k", "expected an integer from 0 to 18446744073709551615, got \"64k\""),
        ("keep_alive", "20", "expected a duration such as \"20s\", got \"20\""),
        ("insecure", "yes", "expected true or false, got \"yes\""),
        ("demo", "yes", "expected true or false, got \"yes\""),
        ("telemetry.format", "xml", "expected one of \"text\", \"json\", \"auto\", got \"xml\""),
    ] {
        assert_eq!(reason(key, value), expected);
    }
}

#[test]
fn layers_and_every_problem_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let sources = |file| Sources::new(ENV_PREFIX).file(file);

    let first = file("first.toml", "retry = '1s'\nkeep_alive = '5s'\n[limits]\nmax_data = 10\nmax_batch = 20\n");
    let second = file("second.toml", "keep_alive = '6s'\n[limits]\nmax_data = 11\n");
    let env = |key: &str, value: &str| [(variable(key), value.to_owned())];
    let layered = sources(first).file(second).env(env("limits.max_data", "12")).flag("retry", "--retry", None);
    let config = load(&layered.flag("listen", "--listen", Some("127.0.0.1:9000".to_owned()))).unwrap();
    let limits = Limits { max_data: 12, max_batch: 20, ..Limits::default() };
    let [retry, keep_alive] = [1, 6].map(Duration::from_secs);
    assert_eq!(config, Config { listen: "127.0.0.1:9000".to_owned(), retry, keep_alive, limits, ..Config::default() });

    let wrong = file("wrong.toml", "[limits]\nmax_data = 0\n[log]\nage = '10s'\n");
    let path = wrong.display().to_string();
    let expected = format!(
        "{path}: invalid value for \"limits.max_data\": 0 is not within 1 and 16777216\n\
         {path}: invalid value for \"log.age\": 10s is not within 30s and 1h\n\
         SSE_GATEWAY__DRAIN__GRACE: invalid value for \"drain.grace\": 31s is not within 0s and 30s"
    );
    assert_eq!(load(&sources(wrong).env(env("drain.grace", "31s"))), Err(expected));

    let unknown = file("unknown.toml", "[limits]\nmax_dat = 1\n");
    let expected = format!("{}: unknown key \"limits.max_dat\"; did you mean \"limits.max_data\"?", unknown.display());
    assert_eq!(load(&sources(unknown)), Err(expected));
}

/// An array of tables has no default to stand in the file.
const TABLE_SHOWN: &str = "# [[channels]]";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/gateway.toml");

/// Every key that holds a value, with its default; those in an array of tables under `channels[]`, as nothing.
fn leaves(config: &Config) -> Vec<(String, Value)> {
    fn list(value: Value, path: &str, into: &mut Vec<(String, Value)>) {
        let Value::Object(fields) = value else { return into.push((path.to_owned(), value)) };
        for (name, inner) in fields {
            list(inner, &if path.is_empty() { name } else { format!("{path}.{name}") }, into);
        }
    }
    let mut found = Vec::new();
    list(serde_json::to_value(config).unwrap(), "", &mut found);
    let (array, Value::Object(example)) = ChannelSettings::taught() else { panic!("no example of a table") };
    found.retain(|(key, _)| key != array);
    found.extend(example.into_iter().map(|(key, _)| (format!("{array}[].{key}"), Value::Null)));
    found
}

/// Keys that begin a line of the file with `marker` before them, each with its section.
fn keys_of_file(text: &str, marker: &str) -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in text.lines() {
        if line == TABLE_SHOWN {
            section = "channels[]";
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((key, _)) = line.strip_prefix(marker).and_then(|rest| rest.split_once(" = ")) else { continue };
        // Prose has white space or back quotes before its equal sign.
        if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            keys.push(if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") });
        }
    }
    keys.sort_unstable();
    keys
}

#[test]
fn the_file_holds_every_default() {
    assert_eq!(load(&Sources::new(ENV_PREFIX).file(FILE)), Ok(Config::default()));
    let text = std::fs::read_to_string(FILE).unwrap();
    let (optional, plain): (Vec<_>, Vec<_>) =
        leaves(&Config::default()).into_iter().partition(|(_, value)| value.is_null());
    let names = |leaves: Vec<(String, Value)>| {
        let mut names: Vec<_> = leaves.into_iter().map(|(key, _)| key).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(keys_of_file(&text, ""), names(plain));
    assert_eq!(keys_of_file(&text, "# "), names(optional), "keys without a default stand behind a # and a space");
}

#[test]
fn what_the_file_shows_behind_a_comment_sign_works() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let keys: Vec<_> = keys_of_file(&text, "# ");
    let shown = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key);
        line == TABLE_SHOWN || key.is_some_and(|key| keys.iter().any(|known| known.rsplit('.').next() == Some(key)))
    };
    let uncommented: String =
        text.lines().map(|line| format!("{}\n", if shown(line) { &line[2..] } else { line })).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shown.toml");
    // Certificates are for TLS, and who asks Sentinels for those.
    let uncommented = uncommented.replace("\"redis://127.0.0.1:6379\"", "\"rediss+sentinel://127.0.0.1/main\"");
    // An upstream is for the embedded broker.
    let (upstream, others): (Vec<_>, Vec<_>) = uncommented.lines().partition(|line| line.starts_with("upstream = "));
    std::fs::write(&path, others.join("\n")).unwrap();
    let config = load(&Sources::new(ENV_PREFIX).file(path)).unwrap();
    let unset: Vec<_> =
        leaves(&config).into_iter().filter(|(key, value)| value.is_null() && !key.contains("[]")).collect();
    assert_eq!(unset, [("chat.upstream".to_owned(), Value::Null)]);
    let [upstream] = upstream[..] else { panic!("{upstream:?}") };
    assert!(broker::by_file(&format!("[chat]\n{upstream}")).unwrap().chat.upstream.is_some());
    let both = broker::by_file(&format!("[redis]\nurl = 'redis://h'\n[chat]\n{upstream}")).unwrap_err();
    assert!(both.contains("\"chat.upstream\"") && both.contains("the publisher that answers"), "{both}");
    assert_eq!(config.channels.0.len(), 1);
}
