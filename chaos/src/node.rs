//! One gateway: the real binary as a process, on ports that stay its own when it is down, with a link to Redis of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::link::Link;

/// The drain's settings: a node that is told to stop is gone within seconds.
const DRAIN: [(&str, &str); 3] = [
    ("SSE_GATEWAY__DRAIN__GRACE", "0s"),
    ("SSE_GATEWAY__DRAIN__WINDOW", "1s"),
    ("SSE_GATEWAY__DRAIN__DEADLINE", "10s"),
];
/// How long a node may take beyond its own deadline.
const STOPS_WITHIN: Duration = Duration::from_secs(13);

/// A gateway. Dropping it kills it.
pub struct Node {
    /// From 1.
    pub number: usize,
    /// Public port.
    pub public: u16,
    /// Operator port.
    pub admin: u16,
    /// Between it and Redis.
    pub link: Link,
    /// Held by whoever sets how the link works.
    pub spoil: Mutex<()>,
    program: PathBuf,
    /// It serves event streams by the direct lane.
    direct: bool,
    log: PathBuf,
    /// Held by whoever is about to change whether it runs.
    process: Mutex<Option<Child>>,
}

impl Node {
    /// One that does not run yet. Its log goes into `folder`. With `direct` it has the direct lane.
    #[must_use]
    pub fn new(number: usize, program: &Path, direct: bool, ports: [u16; 2], link: Link, folder: &Path) -> Self {
        let log = folder.join(format!("gateway-{number}.log"));
        let [public, admin] = ports;
        Self {
            number,
            public,
            admin,
            link,
            spoil: Mutex::default(),
            program: program.to_owned(),
            direct,
            log,
            process: Mutex::default(),
        }
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// Its log or its process cannot be made.
    pub async fn start(&self) -> Result<(), String> {
        let mut process = self.process.lock().await;
        *process = Some(self.spawn()?);
        Ok(())
    }

    /// SIGKILL, and starts it again after `pause`. Returns what was wrong, if it had ended by itself.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn kill(&self, pause: Duration) -> Result<Option<String>, String> {
        let mut process = self.process.lock().await;
        let mut wrong = None;
        if let Some(mut child) = process.take() {
            wrong = child.try_wait().ok().flatten().map(|status| self.ended_alone(status));
            child.kill().await.map_err(|error| self.complaint(&format!("cannot be killed: {error}")))?;
        }
        tokio::time::sleep(pause).await;
        *process = Some(self.spawn()?);
        Ok(wrong)
    }

    /// SIGTERM, waits for the end, and starts it again. Returns what was wrong with its end, if anything was.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn terminate(&self) -> Result<Option<String>, String> {
        let mut process = self.process.lock().await;
        let mut wrong = None;
        if let Some(mut child) = process.take() {
            if let Some(pid) = child.id() {
                let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
                sent.map_err(|error| format!("kill cannot be run: {error}"))?;
            }
            wrong = match timeout(STOPS_WITHIN, child.wait()).await {
                Ok(Ok(status)) if status.success() => None,
                Ok(Ok(status)) => Some(self.complaint(&format!("ended with {status} after SIGTERM"))),
                Ok(Err(error)) => Some(self.complaint(&format!("cannot be waited for: {error}"))),
                Err(_) => Some(self.complaint(&format!("did not end within {STOPS_WITHIN:?} of SIGTERM"))),
            };
        }
        *process = Some(self.spawn()?);
        Ok(wrong)
    }

    /// What is wrong, if it has ended by itself.
    pub async fn ended(&self) -> Option<String> {
        let mut process = self.process.lock().await;
        let status = process.as_mut()?.try_wait().ok().flatten()?;
        Some(self.ended_alone(status))
    }

    /// Ends it for good.
    pub async fn stop(&self) {
        if let Some(mut child) = self.process.lock().await.take() {
            // One that is gone already is as good.
            let _ = child.kill().await;
        }
    }

    /// Lines of its log that tell of a bug in it.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines = log.lines().filter(|line| line.contains("panicked at"));
        lines.map(|line| self.complaint(&format!("says: {line}"))).collect()
    }

    fn ended_alone(&self, status: ExitStatus) -> String {
        self.complaint(&format!("ended by itself with {status}"))
    }

    /// A sentence about it.
    #[must_use]
    pub fn complaint(&self, what: &str) -> String {
        format!("node {} {what}", self.number)
    }

    fn spawn(&self) -> Result<Child, String> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("cannot write {}: {error}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        // Where no configuration file lies about.
        command.current_dir(self.log.parent().unwrap_or(Path::new("/"))).env_clear();
        command.env("SSE_GATEWAY__LISTEN", format!("127.0.0.1:{}", self.public));
        command.env("SSE_GATEWAY__ADMIN_LISTEN", format!("127.0.0.1:{}", self.admin));
        command.env("SSE_GATEWAY__NODE", format!("node-{}", self.number));
        command.env("SSE_GATEWAY__LANES__DIRECT", self.direct.to_string());
        command.env("SSE_GATEWAY__RETRY", "100ms");
        command.env("SSE_GATEWAY__REDIS__URL", self.link.url());
        command.env("SSE_GATEWAY__REDIS__PARTITIONS", self.link.partitions().to_string());
        // Started again while Redis is away, it waits for it, as one under a supervisor would be tried again.
        command.env("SSE_GATEWAY__REDIS__WAIT", "1m");
        command.env("SSE_GATEWAY__REDIS__CONNECT_TIMEOUT", "1s");
        command.env("SSE_GATEWAY__REDIS__COMMAND_TIMEOUT", "500ms");
        command.env("SSE_GATEWAY__TELEMETRY__FILTER", "info,gateway=debug");
        command.envs(DRAIN).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        command.spawn().map_err(|error| format!("{} cannot be started: {error}", self.program.display()))
    }
}
