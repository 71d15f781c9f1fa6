//! Processes of the program, each in a folder of its own, and what Redis holds.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{PATIENCE, RedisServer, eventually, soon};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// How to start the program.
pub(crate) struct Program {
    command: Command,
    folder: TempDir,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) output: String,
    /// Standard error.
    pub(crate) errors: String,
}

impl Exit {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("killed: {self:?}"))
    }

    /// Fails unless it ended so, with nothing on standard output and just these lines on standard error.
    pub(crate) fn assert_fails(&self, code: i32, lines: &[&str]) {
        assert_eq!(self.code(), code, "{self:?}");
        assert_eq!(self.errors.lines().collect::<Vec<_>>(), lines, "{self:?}");
        assert_eq!(self.output, "", "what is wrong goes to standard error");
    }

    /// Standard output, a JSON value a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"))).collect()
    }
}

/// `sse-publisher` with these arguments; no Redis is named.
pub(crate) fn program(args: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-publisher"));
    command.args(args).current_dir(folder.path()).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program { command, folder }
}

impl Program {
    /// With this Redis, by its variable.
    pub(crate) fn redis(self, server: &RedisServer) -> Self {
        self.env("SSE_PUBLISHER__REDIS__URL", &server.url())
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// The text of `config/publisher.toml` in its folder.
    pub(crate) fn config(self, text: &str) -> Self {
        let folder = self.folder.path().join("config");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("publisher.toml"), text).unwrap();
        self
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Exit {
        self.spawn().exit().await
    }

    /// Runs it to its end with this standard input.
    pub(crate) async fn run_with(self, input: &[u8]) -> Exit {
        let mut running = self.spawn_piped();
        // It may end before it has read all.
        let _ = running.write(input).await;
        running.end_of_file();
        running.exit().await
    }

    /// Starts it without standard input.
    pub(crate) fn spawn(mut self) -> Running {
        Running { child: self.command.spawn().unwrap(), folder: self.folder }
    }

    /// Starts it with standard input from the test.
    pub(crate) fn spawn_piped(mut self) -> Running {
        self.command.stdin(Stdio::piped());
        self.spawn()
    }
}

/// A process that runs. Dropping it kills it.
pub(crate) struct Running {
    pub(crate) child: Child,
    folder: TempDir,
}

impl Running {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let stdin: &mut ChildStdin = self.child.stdin.as_mut().unwrap();
        soon("the program taking its input", stdin.write_all(bytes)).await
    }

    pub(crate) fn end_of_file(&mut self) {
        self.child.stdin = None;
    }

    pub(crate) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// Its standard output, line by line.
    pub(crate) fn stdout(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.child.stdout.take().unwrap()).lines()
    }

    /// Waits for the end.
    pub(crate) async fn exit(self) -> Exit {
        self.exit_within(PATIENCE * 2).await
    }

    /// The same, of what takes its time by design.
    pub(crate) async fn exit_within(self, patience: Duration) -> Exit {
        let ended = tokio::time::timeout(patience, self.child.wait_with_output()).await;
        let ended = ended.expect("the program did not end").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Exit { status: ended.status, output: text(ended.stdout), errors: text(ended.stderr) }
    }
}

async fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("it has ended").to_string();
    let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap();
    assert!(status.success());
}

/// `serve`, with ports that the system chooses; given logs at `info`.
pub(crate) fn serve(server: &RedisServer) -> Program {
    let program = program(&["serve"]).redis(server).env("SSE_PUBLISHER__LISTEN", "127.0.0.1:0");
    program.env("SSE_PUBLISHER__ADMIN_LISTEN", "127.0.0.1:0").env("SSE_PUBLISHER__TELEMETRY__FORMAT", "text")
}

/// A running service. Dropping it kills it.
pub(crate) struct Service {
    running: Running,
    stdout: Lines<BufReader<ChildStdout>>,
    /// `host:port` of the publish routes.
    pub(crate) public: String,
    /// `host:port` of the operator port.
    pub(crate) admin: String,
    pub(crate) client: Client,
}

impl Service {
    /// Starts it and waits until it says where it listens, and is ready.
    pub(crate) async fn start(program: Program) -> Self {
        let mut running = program.spawn();
        let mut stdout = running.stdout();
        let (mut public, mut admin) = (None, None);
        while admin.is_none() {
            let line = soon("the greeting", stdout.next_line()).await.unwrap();
            let Some(line) = line else { panic!("it ended before its greeting: {:?}", running.exit().await) };
            public = address(&line, "publish").or(public);
            admin = address(&line, "operate");
        }
        // The test's own environment may name a proxy.
        let client = Client::builder().no_proxy().build().unwrap();
        let service = Self { running, stdout, public: public.unwrap(), admin: admin.unwrap(), client };
        service.readiness_becomes(200, r#"{"ready":true}"#).await;
        service
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    /// Publishes by `POST /publish`.
    pub(crate) async fn publish(&self, body: &Value) -> Response {
        soon("an answer", self.client.post(self.url("/publish")).json(body).send()).await.unwrap()
    }

    /// Asks the operator port. Returns status and body.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let response = soon("the operator port", self.client.get(format!("http://{}{path}", self.admin)).send()).await;
        let response = response.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn readiness_becomes(&self, status: u16, body: &str) {
        let wanted = (status, body.to_owned());
        eventually(body, async || (self.admin("/readyz").await == wanted).then_some(())).await;
    }

    /// Whether `/metrics` has this line now.
    pub(crate) async fn has_metric(&self, line: &str) -> bool {
        self.admin("/metrics").await.1.lines().any(|have| have == line)
    }

    pub(crate) async fn signal(&self, name: &str) {
        self.running.signal(name).await;
    }

    /// Its standard error, line by line, once.
    pub(crate) fn log(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.running.child.stderr.take().unwrap()).lines()
    }

    /// The configuration file in its folder, where it was given one.
    pub(crate) fn config_file(&self) -> std::path::PathBuf {
        self.running.folder.path().join("config").join("publisher.toml")
    }

    /// Waits for the end.
    pub(crate) async fn exit(self) -> Exit {
        // Open to the end, as in real life.
        let Self { running, stdout: _stdout, .. } = self;
        running.exit().await
    }
}

/// `host:port` of the URL in the greeting's line that begins with `word`.
fn address(line: &str, word: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(word)?;
    let (_, url) = rest.split_once("://")?;
    url.split('/').next().map(str::to_owned)
}

/// The payloads in a channel's history, in order.
pub(crate) async fn history(server: &RedisServer, channel: &str) -> Vec<String> {
    let text = server.cli(&["XRANGE", &format!("sse:{channel}"), "-", "+"]).await;
    let lines: Vec<&str> = text.lines().collect();
    // A position, then `p` and `d` with their values.
    lines.chunks(5).filter_map(|entry| entry.get(4)).map(ToString::to_string).collect()
}

/// Waits until a channel's history has so many entries.
pub(crate) async fn history_has(server: &RedisServer, channel: &str, entries: usize) {
    let key = format!("sse:{channel}");
    let entries = entries.to_string();
    eventually(&format!("{entries} entries"), async || (server.cli(&["XLEN", &key]).await == entries).then_some(()))
        .await;
}

/// Whether a channel is closed.
pub(crate) async fn is_ended(server: &RedisServer, channel: &str) -> bool {
    server.cli(&["GET", &format!("sse.last:{channel}")]).await.ends_with(" end")
}
