//! Each rule of the loader: what is read from where here, the words of errors in [`errors`], any tree at all in
//! [`roundtrip`].

mod errors;
mod roundtrip;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::{ConfigError, Sources, load_with};
use crate::telemetry::LogFormat;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Gateway {
    listen: SocketAddr,
    node: String,
    insecure: bool,
    ratio: f64,
    #[serde(with = "super::duration")]
    keep_alive: Duration,
    log: LogFormat,
    admin_listen: Option<String>,
    port: Option<u16>,
    redis: Redis,
    limits: Limits,
    cors: Cors,
    channels: Vec<Channel>,
    auth: Option<Auth>,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Redis {
    url: Option<String>,
    password: String,
    database: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Limits {
    max_channels: u32,
    offset: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cors {
    allowed_origins: Vec<String>,
    ports: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Channel {
    prefix: String,
    #[serde(default)]
    history: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Auth {
    issuer: String,
    audience: String,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            node: String::new(),
            insecure: false,
            ratio: 0.5,
            keep_alive: Duration::from_secs(20),
            log: LogFormat::Auto,
            admin_listen: None,
            port: None,
            redis: Redis::default(),
            limits: Limits { max_channels: 64, offset: 0 },
            cors: Cors::default(),
            channels: Vec::new(),
            auth: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Files in a folder of their own; messages show it as `DIR`.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn error(&self, sources: &Sources) -> String {
        self.shown(&read(sources).unwrap_err())
    }

    fn shown(&self, error: &ConfigError) -> String {
        error.to_string().replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

fn read(sources: &Sources) -> Result<Gateway, ConfigError> {
    load_with(
        sources,
        &[("channels", json!({"prefix": "", "history": null})), ("auth", json!({"issuer": "", "audience": ""}))],
    )
}

fn sources() -> Sources {
    Sources::new("SSE_GATEWAY")
}

fn env(vars: &[(&str, &str)]) -> Sources {
    sources().env(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn toml(text: &str) -> Result<Gateway, String> {
    let files = Files::new();
    let sources = sources().file(files.write("a.toml", text));
    read(&sources).map_err(|error| files.shown(&error))
}

fn env_error(name: &str, value: &str) -> String {
    read(&env(&[(name, value)])).unwrap_err().to_string()
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(read(&sources()).unwrap(), Gateway::default());
    assert_eq!(toml("").unwrap(), Gateway::default());
}

#[test]
fn later_layers_win_whatever_the_order_they_are_added_in() {
    let files = Files::new();
    let one = files
        .write("one.toml", "node = 'one'\nlimits.offset = 1\nlimits.max_channels = 1\nport = 1\n[redis]\ndatabase = 1");
    let two = files.write("two.toml", "node = 'two'\nlimits.offset = 2\nport = 2");
    let config = read(
        &sources()
            .flag("node", "--node", Some("flag".to_owned()))
            .flag("port", "--port", None)
            .env([("SSE_GATEWAY__NODE".to_owned(), "env".to_owned()), ("SSE_GATEWAY__PORT".to_owned(), "3".to_owned())])
            .file(one)
            .file(two),
    )
    .unwrap();
    assert_eq!(config.node, "flag");
    assert_eq!(config.port, Some(3));
    assert_eq!(config.limits, Limits { max_channels: 1, offset: 2 });
    assert_eq!(config.redis.database, 1);
}

#[test]
fn sections_merge_and_arrays_are_replaced() {
    let files = Files::new();
    let one = files.write("one.toml", "cors.allowed_origins = ['a', 'b']\n[auth]\nissuer = 'i'\n[[channels]]\nprefix = 'a'\n[[channels]]\nprefix = 'b'");
    let two = files.write("two.toml", "cors.allowed_origins = ['c']\n[[channels]]\nprefix = 'c'\nhistory = 5");
    let config = read(&env(&[("SSE_GATEWAY__AUTH__AUDIENCE", "x")]).file(one).file(two)).unwrap();
    assert_eq!(config.cors.allowed_origins, ["c"]);
    assert_eq!(config.channels, [Channel { prefix: "c".to_owned(), history: Some(5) }]);
    assert_eq!(config.auth, Some(Auth { issuer: "i".to_owned(), audience: "x".to_owned() }));
}

#[test]
fn text_is_read_by_the_type_of_the_default() {
    let config = read(&env(&[
        ("SSE_GATEWAY__LISTEN", "0.0.0.0:1"),
        ("SSE_GATEWAY__Node", "42"),
        ("SSE_GATEWAY__insecure", "true"),
        ("SSE_GATEWAY__RATIO", "2"),
        ("SSE_GATEWAY__KEEP_ALIVE", "1m 30s"),
        ("SSE_GATEWAY__LOG", "json"),
        ("SSE_GATEWAY__ADMIN_LISTEN", "42"),
        ("SSE_GATEWAY__PORT", "443"),
        ("SSE_GATEWAY__LIMITS__OFFSET", "-5"),
        ("SSE_GATEWAY__CORS__ALLOWED_ORIGINS", "http://a, 42,,http://b"),
        ("SSE_GATEWAY__CORS__PORTS", "80,443"),
        ("SSE_GATEWAY__LABELS__ZONE", "b"),
    ]))
    .unwrap();
    let expected = Gateway {
        listen: ([0, 0, 0, 0], 1).into(),
        node: "42".to_owned(),
        insecure: true,
        ratio: 2.0,
        keep_alive: Duration::from_secs(90),
        log: LogFormat::Json,
        admin_listen: Some("42".to_owned()),
        port: Some(443),
        limits: Limits { max_channels: 64, offset: -5 },
        cors: Cors {
            allowed_origins: ["http://a", "42", "http://b"].map(str::to_owned).to_vec(),
            ports: vec![80, 443],
        },
        labels: BTreeMap::from([("zone".to_owned(), "b".to_owned())]),
        ..Gateway::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn the_later_of_two_flags_for_a_key_wins() {
    let said = |one: &str, two: &str| {
        let flags = sources().flag("port", "--port", Some(one.to_owned()));
        read(&flags.flag("port", "-p", Some(two.to_owned())))
            .map(|config| config.port)
            .map_err(|error| error.to_string())
    };
    assert_eq!(said("1", "2"), Ok(Some(2)));
    assert_eq!(said("x", "2"), Ok(Some(2)));
    assert_eq!(
        said("1", "x").unwrap_err(),
        r#"-p: invalid value for "port": expected an integer from 0 to 65535, got "x""#
    );
}

#[test]
fn empty_text_is_none_or_an_empty_list() {
    let files = Files::new();
    let file = files.write("a.toml", "port = 1\nadmin_listen = 'x'\ncors.allowed_origins = ['a']");
    let config = read(&env(&[("SSE_GATEWAY__PORT", ""), ("SSE_GATEWAY__CORS__ALLOWED_ORIGINS", "")]).file(file).flag(
        "admin_listen",
        "--admin-listen",
        Some(String::new()),
    ))
    .unwrap();
    assert_eq!(config, Gateway::default());
}

#[test]
fn variables_of_kubernetes_and_of_others_are_ignored() {
    let config = read(&env(&[
        ("SSE_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("SSE_GATEWAY_SERVICE_PORT", "80"),
        ("SSE_GATEWAY_SERVICE_PORT_HTTP", "80"),
        ("SSE_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("SSE_GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("SSE_GATEWAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("SSE_GATEWAYS__LISTEN", "x"),
        ("SSE_GATEWAY", "x"),
        ("sse_gateway__listen", "x"),
        ("LISTEN", "x"),
    ]));
    assert_eq!(config.unwrap(), Gateway::default());
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(toml("\u{feff}node = 'x'").unwrap().node, "x");
}
