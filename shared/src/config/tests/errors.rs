//! The words of every error, byte for byte.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{ConfigError, load, load_checked, load_with};
use super::{Files, Gateway, env, env_error, read, sources, toml};

#[test]
fn unknown_keys_name_the_nearest() {
    assert_eq!(
        toml("[limts]\nmax_channels = 1\n").unwrap_err(),
        r#"DIR/a.toml: unknown key "limts.max_channels"; did you mean "limits.max_channels"?"#
    );
    assert_eq!(
        toml("url = 'x'\nzzzz = 1\nredsi = 1").unwrap_err(),
        "DIR/a.toml: unknown key \"redsi\"; did you mean \"redis\"?\n\
         DIR/a.toml: unknown key \"url\"; did you mean \"redis.url\"?\n\
         DIR/a.toml: unknown key \"zzzz\""
    );
    assert_eq!(
        toml("[[channels]]\nprefix = 'a'\n[[channels]]\nprefix = 'b'\nprefx = 'c'").unwrap_err(),
        r#"DIR/a.toml: unknown key "channels[1].prefx"; did you mean "channels[1].prefix"?"#
    );
    assert_eq!(
        env_error("SSE_GATEWAY__LISTN", "x"),
        r#"SSE_GATEWAY__LISTN: unknown key "listn"; did you mean "listen"?"#
    );
    assert_eq!(
        env_error("SSE_GATEWAY__REDIS_URL", "x"),
        r#"SSE_GATEWAY__REDIS_URL: unknown key "redis_url"; did you mean "redis.url"?"#
    );
    assert_eq!(env_error("SSE_GATEWAY__", "x"), r#"SSE_GATEWAY__: unknown key """#);
    let flag = sources().flag("redis.uri", "--redis-url", Some("x".to_owned()));
    assert_eq!(
        read(&flag).unwrap_err().to_string(),
        r#"--redis-url: unknown key "redis.uri"; did you mean "redis.url"?"#
    );
}

#[test]
fn a_key_in_quotes_is_one_key() {
    assert_eq!(
        toml("'redis.url' = 'x'").unwrap_err(),
        r#"DIR/a.toml: unknown key "redis.url"; did you mean "redis.url"?"#
    );
    assert_eq!(toml("\"a\\nb\" = 1").unwrap_err(), r#"DIR/a.toml: unknown key "a\nb""#);
}

#[test]
fn one_underscore_short_is_noticed() {
    assert_eq!(
        env_error("SSE_GATEWAY_LISTEN", "x"),
        "SSE_GATEWAY_LISTEN: unknown variable; did you mean SSE_GATEWAY__LISTEN?"
    );
    for name in ["SSE_GATEWAY_REDIS_URL", "SSE_GATEWAY_redis__url"] {
        assert_eq!(env_error(name, "x"), format!("{name}: unknown variable; did you mean SSE_GATEWAY__REDIS__URL?"));
    }
    assert_eq!(
        env_error("SSE_GATEWAY_PORT", "80"),
        "SSE_GATEWAY_PORT: unknown variable; did you mean SSE_GATEWAY__PORT?"
    );
}

#[test]
fn wrong_types_in_a_file() {
    let cases = [
        ("keep_alive = 20", r#"invalid value for "keep_alive": expected a duration such as "20s", got 20"#),
        ("keep_alive = '20x'", r#"invalid value for "keep_alive": expected a duration such as "20s", got "20x""#),
        ("node = 42", r#"invalid value for "node": expected a string, got 42"#),
        ("insecure = 'true'", r#"invalid value for "insecure": expected true or false, got "true""#),
        ("insecure = 1", r#"invalid value for "insecure": expected true or false, got 1"#),
        ("ratio = 'x'", r#"invalid value for "ratio": expected a number, got "x""#),
        ("ratio = nan", r#"invalid value for "ratio": expected a finite number, got NaN"#),
        ("log = 'xml'", r#"invalid value for "log": expected one of "text", "json", "auto", got "xml""#),
        ("log = 1", r#"invalid value for "log": expected one of "text", "json", "auto", got 1"#),
        ("port = {}", r#"invalid value for "port": expected an integer from 0 to 65535, got a table"#),
        ("port = '80'", r#"invalid value for "port": expected an integer from 0 to 65535, got "80""#),
        ("redis.database = 256", r#"invalid value for "redis.database": expected an integer from 0 to 255, got 256"#),
        ("redis.database = 2.0", r#"invalid value for "redis.database": expected an integer from 0 to 255, got 2.0"#),
        ("redis = 'x'", r#"invalid value for "redis": expected a table, got "x""#),
        ("node.x = 1", r#"invalid value for "node": expected a string, got a table"#),
        ("cors.ports = 1", r#"invalid value for "cors.ports": expected an array, got 1"#),
        ("cors.ports = [1, -1]", r#"invalid value for "cors.ports[1]": expected an integer from 0 to 65535, got -1"#),
        ("channels = [1]", r#"invalid value for "channels[0]": expected a table, got 1"#),
        ("listen = 'x'", r#"invalid value "x" for "listen": invalid socket address syntax"#),
        ("[[channels]]\nhistory = 1", r#"missing key "channels[0].prefix""#),
        ("auth.issuer = 'x'", r#"missing key "auth.audience""#),
        ("labels.a = 1", r#"invalid value for "labels.a": expected a string, got 1"#),
    ];
    for (text, error) in cases {
        assert_eq!(toml(text).unwrap_err(), format!("DIR/a.toml: {error}"), "{text}");
    }
}

#[test]
fn wrong_text_in_environment_and_flags() {
    let cases = [
        ("KEEP_ALIVE", "20", r#"invalid value for "keep_alive": expected a duration such as "20s", got "20""#),
        ("INSECURE", "yes", r#"invalid value for "insecure": expected true or false, got "yes""#),
        ("RATIO", "inf", r#"invalid value for "ratio": expected a number, got "inf""#),
        ("PORT", "http", r#"invalid value for "port": expected an integer from 0 to 65535, got "http""#),
        ("CORS__PORTS", "1,x", r#"invalid value for "cors.ports[1]": expected an integer from 0 to 65535, got "x""#),
        (
            "LIMITS__MAX_CHANNELS",
            "",
            r#"invalid value for "limits.max_channels": expected an integer from 0 to 4294967295, got """#,
        ),
        ("REDIS", "x", r#""redis" is a section; set one of its keys, such as "redis.database""#),
        ("CHANNELS", "x", r#""channels" is an array of tables, which can be set in a file only"#),
    ];
    for (name, text, error) in cases {
        let name = format!("SSE_GATEWAY__{name}");
        assert_eq!(env_error(&name, text), format!("{name}: {error}"));
    }
    let flag = sources().flag("listen", "--listen", Some("x".to_owned()));
    assert_eq!(
        read(&flag).unwrap_err().to_string(),
        r#"--listen: invalid value "x" for "listen": invalid socket address syntax"#
    );
}

#[test]
fn secrets_are_not_shown_and_long_values_are_cut() {
    assert_eq!(
        toml("redis.database = 'redis://me:hidden@host'\nredis.password = ['hidden']\nlisten = 'http://u:p@h'")
            .unwrap_err(),
        "DIR/a.toml: invalid value for \"listen\": invalid socket address syntax\n\
         DIR/a.toml: invalid value for \"redis.database\": expected an integer from 0 to 255\n\
         DIR/a.toml: invalid value for \"redis.password\": expected a string, got an array"
    );
    let error = env_error("SSE_GATEWAY__LISTEN", &"x".repeat(1_000));
    assert!(error.contains(&format!("\"{}... for", "x".repeat(79))), "{error}");
}

#[test]
fn names_that_differ_in_case_only_are_refused() {
    let vars = [("SSE_GATEWAY__NODE", "a"), ("SSE_GATEWAY__node", "b")];
    assert_eq!(
        read(&env(&vars)).unwrap_err().to_string(),
        r#"SSE_GATEWAY__node: sets "node", which SSE_GATEWAY__NODE sets too"#
    );
}

#[test]
fn files_that_cannot_be_read() {
    let files = Files::new();
    let bad = files.write("bad.toml", "node = 'x'\n\n[redis]\nurl = \n");
    let twice = files.write("twice.toml", "node = 'x'\nnode = 'y'");
    let big = files.write("big.toml", "port = 99999999999999999999");
    let latin = files.write("latin.toml", b"node = 'caf\xe9'");
    let gone = files.0.path().join("gone.toml");
    let sources = sources().file(bad).file(twice).file(big).file(latin).file(gone);
    assert_eq!(
        files.error(&sources),
        "DIR/bad.toml: TOML error at line 4, column 7: string values must be quoted, expected literal string\n\
         DIR/twice.toml: TOML error at line 2, column 1: duplicate key\n\
         DIR/big.toml: TOML error: number too large to fit in target type\n\
         DIR/latin.toml: is not UTF-8\n\
         DIR/gone.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn all_problems_of_all_layers_at_once() {
    let files = Files::new();
    let one = files.write(
        "one.toml",
        "keep_alive = 20\nlistn = 1\nnode = 'fine'\n[[channels]]\nprefix = 1\nhistory = 'x'\n[[channels]]\nhistory = 1",
    );
    let two = files.write("two.toml", "keep_alive = 30\nredis.database = -1\n[auth]\nissuer = 1");
    let sources = env(&[
        ("SSE_GATEWAY__KEEP_ALIVE", "5s"),
        ("SSE_GATEWAY__PORT", "x"),
        ("SSE_GATEWAY_NODE", "x"),
        ("SSE_GATEWAY__REDIS__DATABASE", "x"),
    ])
    .file(one)
    .file(two)
    .flag("ratio", "--ratio", Some("x".to_owned()));
    assert_eq!(
        files.error(&sources),
        "DIR/one.toml: unknown key \"listn\"; did you mean \"listen\"?\n\
         DIR/one.toml: invalid value for \"channels[0].history\": expected an integer from 0 to 4294967295, got \"x\"\n\
         DIR/one.toml: invalid value for \"channels[0].prefix\": expected a string, got 1\n\
         DIR/one.toml: invalid value for \"keep_alive\": expected a duration such as \"20s\", got 20\n\
         DIR/two.toml: invalid value for \"auth.issuer\": expected a string, got 1\n\
         DIR/two.toml: invalid value for \"keep_alive\": expected a duration such as \"20s\", got 30\n\
         DIR/two.toml: invalid value for \"redis.database\": expected an integer from 0 to 255, got -1\n\
         SSE_GATEWAY_NODE: unknown variable; did you mean SSE_GATEWAY__NODE?\n\
         SSE_GATEWAY__PORT: invalid value for \"port\": expected an integer from 0 to 65535, got \"x\"\n\
         SSE_GATEWAY__REDIS__DATABASE: invalid value for \"redis.database\": expected an integer from 0 to 255, got \"x\"\n\
         --ratio: invalid value for \"ratio\": expected a number, got \"x\"\n\
         DIR/two.toml: missing key \"auth.audience\"\n\
         DIR/one.toml: missing key \"channels[1].prefix\""
    );
}

#[test]
fn checks_report_in_the_same_form() {
    let files = Files::new();
    let sources = env(&[("SSE_GATEWAY__PORT", "0")]).file(files.write("a.toml", "limits.max_channels = 0"));
    let check = |config: &Gateway| {
        assert_eq!(config.port, Some(0));
        vec![
            ConfigError::invalid("limits.max_channels", "must be 1 or more"),
            ConfigError::invalid("port", "must be 1 or more"),
            ConfigError::invalid("node", "must not be empty"),
        ]
    };
    let error = load_checked::<Gateway>(&sources, &[], check).unwrap_err();
    assert_eq!(
        files.shown(&error),
        "DIR/a.toml: invalid value for \"limits.max_channels\": must be 1 or more\n\
         SSE_GATEWAY__PORT: invalid value for \"port\": must be 1 or more\n\
         invalid value for \"node\": must not be empty"
    );
    assert!(load_checked::<Gateway>(&sources, &[], |_| Vec::new()).is_ok());
    assert_eq!(ConfigError::all([]), Ok(()));
}

#[test]
fn what_is_taught_must_fit_the_default() {
    for (key, error) in [
        ("chanels", r#"taught key "chanels" is not among the defaults"#),
        ("node", r#"taught key "node" is neither an array nor empty by default"#),
    ] {
        assert_eq!(load_with::<Gateway>(&sources(), &[(key, json!({}))]).unwrap_err().to_string(), error);
    }
}

#[test]
fn untaught_elements_are_checked_by_their_type() {
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Strict {
        rules: Vec<Rule>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        prefix: String,
        mode: Mode,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Open,
        Only { role: String },
    }
    let files = Files::new();
    let good = files
        .write("good.toml", "[[rules]]\nprefix = 'a'\nmode = 'open'\n[[rules]]\nprefix = 'b'\nmode.only.role = 'c'");
    let rules = load::<Strict>(&sources().file(good)).unwrap().rules;
    assert_eq!(rules[0].mode, Mode::Open);
    assert_eq!(rules[1].mode, Mode::Only { role: "c".to_owned() });

    let bad = files.write(
        "bad.toml",
        "[[rules]]\nprefx = 'a'\nprefix = 'a'\nmode = 'shut'\n[[rules]]\nprefix = 1\nmode.only.role = 1",
    );
    assert_eq!(
        files.shown(&load::<Strict>(&sources().file(bad)).unwrap_err()),
        "DIR/bad.toml: invalid value for \"rules[0].mode\": expected one of \"open\", \"only\", got \"shut\"\n\
         DIR/bad.toml: unknown key \"rules[0].prefx\"; did you mean \"rules[0].prefix\"?"
    );
}

#[test]
fn many_problems_end_somewhere() {
    let text: String = (0..5_000).map(|n| format!("[[channels]]\nprefix = {n}\n")).collect();
    assert_eq!(toml(&text).unwrap_err().lines().count(), 100);
}

#[test]
fn an_example_need_not_satisfy_the_type() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    struct Role(String);
    impl TryFrom<String> for Role {
        type Error = &'static str;
        fn try_from(text: String) -> Result<Self, Self::Error> {
            if text.is_empty() { Err("must not be empty") } else { Ok(Self(text)) }
        }
    }
    impl From<Role> for String {
        fn from(role: Role) -> Self {
            role.0
        }
    }
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Guarded {
        guard: Option<Guard>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Guard {
        role: Role,
        port: u16,
    }
    let read = |vars: &[(&str, &str)], text: &str| {
        let files = Files::new();
        let sources = env(vars).file(files.write("a.toml", text));
        let taught = [("guard", json!({"role": "", "port": 0}))];
        load_with::<Guarded>(&sources, &taught).map_err(|error| files.shown(&error))
    };
    let guard = Guard { role: Role("admin".to_owned()), port: 1 };
    let role = [("SSE_GATEWAY__GUARD__ROLE", "admin")];
    assert_eq!(read(&role, "guard.port = 1"), Ok(Guarded { guard: Some(guard) }));
    assert_eq!(read(&[], "guard.port = 1").unwrap_err(), r#"DIR/a.toml: missing key "guard.role""#);
    assert_eq!(
        read(&[("SSE_GATEWAY__GUARD__ROLE", "")], "guard.port = 'x'").unwrap_err(),
        "DIR/a.toml: invalid value for \"guard.port\": expected an integer from 0 to 65535, got \"x\"\n\
         SSE_GATEWAY__GUARD__ROLE: invalid value \"\" for \"guard.role\": must not be empty"
    );
}
