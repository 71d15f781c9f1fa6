//! A Redis, two gateways and nginx, each of which a test may break; and what the doctor says of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{PATIENCE, RedisServer, eventually, free_ports, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{Exit, program};

/// What a location of a stream has, in order.
pub(super) const SOUND: &str = "proxy_http_version 1.1; proxy_buffering off; gzip off; proxy_read_timeout 75s;";
/// Where pages come from.
pub(super) const APP: &str = "https://app.example.com";
/// Gateways that let these pages in, and say something each second.
pub(super) const GATEWAY: &str = "keep_alive = '1s'\n[cors]\nallowed_origins = ['https://app.example.com']";

/// A gateway that runs. Dropping it kills it.
pub(super) struct Gateway {
    child: Child,
    _stdout: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
    pub(super) public: String,
    pub(super) admin: String,
}

impl Gateway {
    /// On this Redis, with this configuration and these variables.
    pub(super) async fn start(redis: &RedisServer, name: &str, config: &str, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, format!("node = '{name}'\n{config}")).unwrap();
        let mut command = Command::new(testkit::binary("gateway", "sse-gateway"));
        command.current_dir(folder.path()).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command.arg("--config").arg(&path).args(["--redis-url", &redis.url()]);
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.env("SSE_GATEWAY__TELEMETRY__FILTER", "error").envs(env.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut public, mut admin) = (None, None);
        while admin.is_none() {
            let line = soon("the gateway's greeting", lines.next_line()).await.unwrap().expect("the gateway ended");
            public = address(&line, "listen").or(public);
            admin = address(&line, "operate");
        }
        let gateway = Self { child, _stdout: lines, _folder: folder, public: public.unwrap(), admin: admin.unwrap() };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/readyz", gateway.admin);
        eventually("a gateway", async || client.get(&url).send().await.ok()?.status().is_success().then_some(())).await;
        gateway
    }

    /// Sends a signal by name, such as `STOP`.
    pub(super) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
    }
}

/// `host:port` of the URL in the greeting's line that begins with `word`.
fn address(line: &str, word: &str) -> Option<String> {
    let (_, url) = line.trim_start().strip_prefix(word)?.split_once("://")?;
    url.split('/').next().map(str::to_owned)
}

/// nginx that runs, on a port of 127.0.0.1. Dropping it kills it.
pub(super) struct Nginx {
    _child: Child,
    _folder: TempDir,
    pub(super) port: u16,
}

/// How to start it.
#[derive(Default)]
pub(super) struct Config<'a> {
    /// Behind the port of `listen`.
    pub(super) listen: &'a str,
    /// Lines of the server block.
    pub(super) server: String,
    /// Lines of the stream's location.
    pub(super) location: &'a str,
}

impl Nginx {
    /// Before these servers, `host:port`, in turn.
    pub(super) async fn start(servers: &[&str], config: &Config<'_>) -> Self {
        for _ in 0..3 {
            if let Some(nginx) = Self::try_start(servers, config).await {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    /// `None`: its port was taken in between.
    async fn try_start(servers: &[&str], config: &Config<'_>) -> Option<Self> {
        let (folder, [port]) = (tempfile::tempdir().unwrap(), free_ports());
        let servers: String = servers.iter().map(|server| format!("server {server} max_fails=0; ")).collect();
        let Config { listen, server, location } = config;
        // One process: workers would outlive a master that is killed.
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit; user root;
             events {{ worker_connections 512; }}
             http {{
               access_log off;
               client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
               upstream gateways {{ {servers} }}
               server {{
                 listen 127.0.0.1:{port} {listen}; {server}
                 location = /events {{
                   proxy_pass http://gateways; proxy_set_header Connection ''; {location}
                 }}
               }}
             }}"
        );
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new(nginx());
        command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c", "nginx.conf"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let came = eventually("nginx", async || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).await.is_ok().then_some(true)
        });
        came.await.then_some(Self { _child: child, _folder: folder, port })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events?channel=user:42", self.port)
    }
}

/// Debian keeps it in sbin, which a plain user's PATH may lack.
fn nginx() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file()).expect("nginx: see scripts/setup-tests")
}

/// What the doctor said.
pub(super) struct Diagnosis {
    pub(super) code: i32,
    /// Verdict and figures by the check's name.
    checks: BTreeMap<String, (String, String)>,
    pub(super) whole: Value,
}

/// Runs it with `--json`, and takes its one line apart.
pub(super) async fn doctor(args: &[&str], env: &[(&str, &str)]) -> Diagnosis {
    let mut program = program(&["doctor", "--json"]).args(args);
    for (key, value) in env {
        program = program.env(key, value);
    }
    let exit = program.spawn().exit_within(PATIENCE * 9).await;
    let whole = object(&exit);
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = whole["checks"].as_array().unwrap().iter();
    let all: Vec<_> =
        checks.map(|check| (text(check, "check"), (text(check, "verdict"), text(check, "measured")))).collect();
    let checks: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(all.len(), checks.len(), "each check once: {all:?}");
    assert_eq!(checks.len(), 13, "all of them: {all:?}");
    Diagnosis { code: exit.code(), checks, whole }
}

fn object(exit: &Exit) -> Value {
    let lines = exit.lines();
    assert_eq!(lines.len(), 1, "{exit:?}");
    assert_eq!(exit.errors, "", "{exit:?}");
    lines[0].clone()
}

impl Diagnosis {
    /// Fails unless these checks are wrong, and no others.
    pub(super) fn is_wrong(&self, names: &[&str]) {
        assert_eq!(self.having("wrong"), names, "{:#}", self.whole);
        assert_eq!(self.code, i32::from(!names.is_empty()), "{:#}", self.whole);
        let verdict = self.whole["verdict"].as_str().unwrap();
        assert_eq!(verdict == "wrong", !names.is_empty(), "{:#}", self.whole);
    }

    /// Names of the checks with this verdict.
    pub(super) fn having(&self, verdict: &str) -> Vec<&str> {
        let having = self.checks.iter().filter(|(_, (have, _))| have == verdict);
        having.map(|(name, _)| &**name).collect()
    }

    /// What was measured.
    pub(super) fn of(&self, name: &str) -> &str {
        &self.checks[name].1
    }

    /// What to change, as `whose: setting`.
    pub(super) fn advice(&self, name: &str) -> Vec<String> {
        let checks = self.whole["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == name).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let changes = check["change"].as_array().unwrap().iter();
        changes.map(|change| format!("{}: {}", text(&change["at"]), text(&change["do"]))).collect()
    }
}
