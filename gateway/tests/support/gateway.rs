//! The real binary in a folder of its own, on ports that the system chose.

use std::process::{ExitStatus, Stdio};

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{Stream, eventually, soon};

/// How to start a gateway.
pub struct Builder {
    command: Command,
    folder: TempDir,
}

impl Builder {
    /// A line of its configuration file, such as `retry = "1s"`. Sections come last, as TOML wants it.
    pub fn config(self, text: &str) -> Self {
        use std::io::Write as _;
        let path = self.folder.path().join("config").join("gateway.toml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{text}").unwrap();
        self
    }

    /// An environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// More flags; they win over the ports that the system chooses.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Starts it and waits until it says where it listens.
    pub async fn start(self) -> Gateway {
        let mut command = self.command;
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut public, mut admin) = (None, None);
        while admin.is_none() {
            let line = soon("the gateway's greeting", lines.next_line()).await.unwrap();
            let line = line.expect("the gateway ended before its greeting");
            public = address(&line, "listen").or(public);
            admin = address(&line, "operate");
        }
        let gateway = Gateway {
            child,
            _stdout: lines,
            _folder: self.folder,
            public: public.unwrap(),
            admin: admin.unwrap(),
            client: Client::new(),
        };
        eventually("ready", async || gateway.admin("/readyz").await.status().is_success().then_some(())).await;
        gateway
    }

    /// Runs it to its end, for starts that are to fail. Ports as given by [`args`](Self::args).
    pub async fn fail(mut self) -> Exit {
        let mut child = self.command.stderr(Stdio::piped()).spawn().unwrap();
        let status = soon("the end of a gateway that cannot start", child.wait()).await.unwrap();
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
        Exit { status, errors }
    }
}

/// How a gateway ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    /// What it wrote to standard error; empty where that was inherited.
    pub errors: String,
}

/// A running gateway. Dropping it kills it.
pub struct Gateway {
    child: Child,
    /// Kept open: a gateway whose standard output is closed should not notice, but that is a test of its own.
    _stdout: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
    /// `host:port` of the public port.
    pub public: String,
    /// `host:port` of the operator port.
    pub admin: String,
    pub client: Client,
}

impl Gateway {
    pub fn builder() -> Builder {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-gateway"));
        command.current_dir(folder.path()).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        Builder { command, folder }
    }

    /// With the defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A URL on the public port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    /// Asks the operator port.
    pub async fn admin(&self, path: &str) -> Response {
        self.client.get(format!("http://{}{path}", self.admin)).send().await.unwrap()
    }

    /// The value of a metric, by its whole name with labels; 0 where it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        eventually(&format!("{name} {value}"), async || (self.metric(name).await == value).then_some(())).await;
    }

    /// Opens an event stream by HTTP/1.1.
    pub async fn stream(&self, path: &str) -> Stream {
        Stream::open(self.client.get(self.url(path))).await
    }

    /// Publishes by `POST /publish`. Returns the answer.
    pub async fn publish(&self, body: Value) -> Value {
        let response = self.client.post(self.url("/publish")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
        response.json().await.unwrap()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal by name, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits for the end.
    pub async fn exit(&mut self) -> Exit {
        let status = tokio::time::timeout(super::PATIENCE * 4, self.child.wait())
            .await
            .expect("the process did not end")
            .unwrap();
        Exit { status, errors: String::new() }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> Exit {
        self.signal("TERM").await;
        self.exit().await
    }
}

/// `host:port` of the URL in the greeting's line that begins with `word`.
fn address(line: &str, word: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(word)?;
    let (_, url) = rest.split_once("http://")?;
    url.split('/').next().map(str::to_owned)
}
