//! The real binary in a folder of its own, on ports that the system chose.

use std::process::{ExitStatus, Stdio};

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;
use testkit::RedisServer;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{Stream, eventually, soon};

/// How to start a gateway.
pub struct Builder {
    command: Command,
    folder: TempDir,
    lane: Lane,
}

/// How an event stream by plain HTTP/1.1 reaches its client. All others take the hyper lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// As by default.
    Direct,
    /// With `lanes.direct = false`.
    Hyper,
}

impl Lane {
    /// Which lane all tests are about that do not say it themselves: what the test run's own environment says, so that
    /// all of them can be had over either.
    fn of_this_run() -> Self {
        match std::env::var(LANES_DIRECT).as_deref() {
            Ok("false") => Self::Hyper,
            Ok("true") | Err(_) => Self::Direct,
            Ok(other) => panic!("{LANES_DIRECT} is true or false, not {other:?}"),
        }
    }

    /// As metrics name it.
    fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hyper => "hyper",
        }
    }
}

const LANES_DIRECT: &str = "SSE_GATEWAY__LANES__DIRECT";

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

    /// An environment variable; it wins over the configuration file, and over what is set for every test.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// The lane of its event streams, whichever the others of this run take.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self.env(LANES_DIRECT, if lane == Lane::Direct { "true" } else { "false" })
    }

    /// Flags; they win over everything.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Where its log goes; to the test's own standard error where nothing is said.
    pub fn log_to(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Its log, for [`Gateway::take_log`]. Whoever asks for it reads it.
    pub fn log_piped(mut self) -> Self {
        self.command.stderr(Stdio::piped()).env("SSE_GATEWAY__TELEMETRY__FILTER", "info");
        self
    }

    /// The same, with the filter of the configuration file.
    pub fn log_piped_as_configured(mut self) -> Self {
        self.command.stderr(Stdio::piped()).env_remove("SSE_GATEWAY__TELEMETRY__FILTER");
        self
    }

    /// By TLS, with the certificate of this folder. All its streams take the hyper lane.
    pub fn tls(self, certificates: &testkit::Certificates) -> Self {
        let [certificate, key] = [&certificates.certificate, &certificates.key].map(|path| path.display().to_string());
        let config = format!("[tls]\ncertificate = '{certificate}'\nkey = '{key}'");
        self.lane(Lane::Hyper).config(&config)
    }

    /// Starts it and waits until it says where it listens.
    pub async fn start(self) -> Gateway {
        let mut command = self.command;
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
            folder: self.folder,
            lane: self.lane,
            public: public.unwrap(),
            admin: admin.unwrap(),
            // The test's own environment may name a proxy.
            client: Client::builder().no_proxy().build().unwrap(),
            streams: Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap(),
        };
        eventually("ready", async || gateway.admin("/readyz").await.status().is_success().then_some(())).await;
        gateway
    }

    /// Starts it with another standard output, which nobody reads here, and waits for nothing.
    pub fn start_unseen(mut self, stdout: impl Into<Stdio>) -> (Child, TempDir) {
        (self.command.stdout(stdout).stderr(Stdio::inherit()).spawn().unwrap(), self.folder)
    }

    /// Starts it and waits for nothing; its log goes where [`log_to`](Self::log_to) said.
    pub fn start_piped(mut self) -> (Child, TempDir) {
        (self.command.spawn().unwrap(), self.folder)
    }

    /// Runs it to its end, for starts that are to fail.
    pub async fn fail(mut self) -> Exit {
        let child = self.command.stderr(Stdio::piped()).spawn().unwrap();
        let ended = soon("the end of a gateway that cannot start", child.wait_with_output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Exit { status: ended.status, output: text(ended.stdout), errors: text(ended.stderr) }
    }
}

/// How a gateway ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    /// What it wrote to standard output, where it was run to its end.
    pub output: String,
    /// What it wrote to standard error; empty where that was inherited.
    pub errors: String,
}

/// A running gateway. Dropping it kills it.
pub struct Gateway {
    child: Child,
    /// Kept open: a gateway whose standard output is closed should not notice, but that is a test of its own.
    _stdout: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
    lane: Lane,
    /// `host:port` of the public port.
    pub public: String,
    /// `host:port` of the operator port.
    pub admin: String,
    pub client: Client,
    /// Opens a connection for each event stream: one that had another request before may have another lane.
    streams: Client,
}

impl Gateway {
    pub fn builder() -> Builder {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse-gateway"));
        command.current_dir(folder.path()).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        // Unless a test says otherwise: ports that the system chooses, no word of what goes as it should, and streams that
        // end at once when the node stops.
        command.env("SSE_GATEWAY__LISTEN", "127.0.0.1:0").env("SSE_GATEWAY__ADMIN_LISTEN", "127.0.0.1:0");
        command.env("SSE_GATEWAY__TELEMETRY__FILTER", "warn").env("SSE_GATEWAY__DRAIN__WINDOW", "0s");
        let lane = Lane::of_this_run();
        Builder { command, folder, lane }.lane(lane)
    }

    /// On this server.
    pub fn on(redis: &RedisServer) -> Builder {
        Self::builder().args(&["--redis-url", &redis.url()])
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

    /// The name of the metric that counts open event streams by plain HTTP/1.1.
    pub fn open(&self) -> String {
        open_on(self.lane)
    }

    /// The name of the metric that counts how many of them were opened.
    pub fn ever_open(&self) -> String {
        format!("sse_gateway_connections_opened_total{{lane=\"{}\"}}", self.lane.label())
    }

    /// Publishes events as one batch by `POST /publish`. Returns the answers.
    pub async fn publish_batch(&self, events: &[Value]) -> Vec<Value> {
        let body: Vec<String> = events.iter().map(Value::to_string).collect();
        let request = self.client.post(self.url("/publish")).header("content-type", "application/x-ndjson");
        let response = request.body(body.join("\n")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        eventually(&format!("{name} {value}"), async || (self.metric(name).await == value).then_some(())).await;
    }

    /// Opens an event stream by HTTP/1.1, on a connection of its own.
    pub async fn stream(&self, path: &str) -> Stream {
        Stream::open(self.streams.get(self.url(path))).await
    }

    /// A client with a connection of its own for each event stream, for requests with headers.
    pub fn fresh(&self) -> &Client {
        &self.streams
    }

    /// Publishes by `POST /publish`. Returns the answer.
    pub async fn publish(&self, body: Value) -> Value {
        let response = self.client.post(self.url("/publish")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
        response.json().await.unwrap()
    }

    /// Its standard error, once; see [`Builder::log_piped`].
    pub fn take_log(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Its configuration file, where it was given one.
    pub fn config_file(&self) -> std::path::PathBuf {
        self.folder.path().join("config").join("gateway.toml")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// How many files and sockets it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The same while nobody is there but this test's own client, which keeps a connection to each port.
    pub async fn descriptors_at_rest(&self) -> usize {
        for port in [&self.public, &self.admin] {
            self.client.get(format!("http://{port}/nothing")).send().await.unwrap().bytes().await.unwrap();
        }
        self.descriptors()
    }

    /// Waits until it has no more files and sockets open than `before`, and no event stream.
    pub async fn is_at_rest(&self, before: usize, what: &str) {
        for lane in [Lane::Direct, Lane::Hyper] {
            self.metric_becomes(&open_on(lane), 0.0).await;
        }
        let descriptors = async || (self.descriptors() <= before).then_some(());
        eventually(&format!("{before} descriptors after {what}"), descriptors).await;
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
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
        Exit { status, output: String::new(), errors: String::new() }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> Exit {
        self.signal("TERM").await;
        self.exit().await
    }
}

/// The metric that counts what is open on a lane.
fn open_on(lane: Lane) -> String {
    format!("sse_gateway_connections{{lane=\"{}\"}}", lane.label())
}

/// `host:port` of the URL in the greeting's line that begins with `word`.
fn address(line: &str, word: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(word)?;
    let (_, url) = rest.split_once("://")?;
    url.split('/').next().map(str::to_owned)
}
