//! A Redis of a test's own: the real server, on a port and in a folder that nothing else uses, which dies with the test.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::certificates::Certificates;
use crate::patience::{PATIENCE, PAUSE, eventually, soon};
use crate::ports::{PORTS, free_ports};

const ATTEMPTS: usize = 5;

/// How to start a [`RedisServer`].
#[derive(Debug, Clone)]
pub struct RedisServerBuilder {
    program: OsString,
    config: Vec<String>,
    tls: bool,
    certificates: Option<Certificates>,
    is_sentinel: bool,
    is_node: bool,
}

impl RedisServerBuilder {
    /// A node of a cluster, which knows no other and has no slots. The port of its bus is one that nobody takes while it is
    /// down; the usual one, 10,000 above its own, may be.
    pub fn cluster_node(mut self) -> Self {
        self.is_node = true;
        self
    }

    /// A Sentinel: a server that watches others. Which ones, lines of [`config`](Self::config) say.
    pub fn sentinel(mut self) -> Self {
        self.is_sentinel = true;
        self
    }

    /// TLS, by the certificate of another server.
    pub fn tls_as(mut self, other: &RedisServer) -> Self {
        self.certificates = other.certificates.clone();
        self
    }

    /// The server to start, by its name on the PATH or by its path; `redis-server` where nothing is said.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Valkey: the one on the PATH, else the one that `scripts/setup-tests` put into the workspace's `target/tools`.
    pub fn valkey(self) -> Self {
        const NAME: &str = "valkey-server";
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|file| file.is_file());
        self.program(found.unwrap_or_else(|| crate::workspace().join("target/tools").join(NAME)))
    }

    /// A line of its configuration file, such as `maxmemory 1mb`. It wins over what is set for every test: no persistence.
    /// Ports, addresses and `unixsocket` stay as they are.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// TLS, by a certificate for `localhost` and 127.0.0.1 that [`RedisServer::ca_file`] vouches for; no plain port. Clients
    /// need no certificate. Not every build of a server knows TLS.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// With its log when it does not come to answer.
    pub async fn start(self) -> RedisServer {
        self.start_on(std::iter::repeat_with(|| fastrand::u16(PORTS))).await
    }

    /// Starts it on the first of `ports` that is free.
    async fn start_on(self, ports: impl Iterator<Item = u16>) -> RedisServer {
        let is_node = self.is_node;
        let mut server = self.prepare();
        let mut attempts = 0;
        for port in ports {
            if TcpListener::bind(("127.0.0.1", port)).await.is_err() {
                continue;
            }
            server.port = port;
            server.bus_port = is_node.then(|| free_ports::<1>()[0]);
            let Err(failure) = server.launch().await else { return server };
            attempts += 1;
            // Somebody may have taken the port just now; of a cluster's bus, it was never looked at.
            let taken = server.log().contains("Failed listening on port");
            assert!(taken && attempts < ATTEMPTS, "{}", server.complaint(&failure));
        }
        panic!("no port is free for {}", server.program.display());
    }

    fn prepare(self) -> RedisServer {
        let folder = tempfile::tempdir().unwrap();
        let certificates = self.certificates.or_else(|| self.tls.then(|| Certificates::create(folder.path())));
        let Self { program, config, is_sentinel, .. } = self;
        RedisServer { child: None, folder, program, config, certificates, port: 0, bus_port: None, is_sentinel }
    }
}

/// A running server, on 127.0.0.1. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    /// Before the folder: it is dropped, and so killed, first. None once it has ended.
    child: Option<Child>,
    folder: TempDir,
    program: OsString,
    config: Vec<String>,
    certificates: Option<Certificates>,
    port: u16,
    /// Of a node of a cluster.
    bus_port: Option<u16>,
    is_sentinel: bool,
}

impl RedisServer {
    /// How to start one that is not as the defaults have it.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder {
            program: "redis-server".into(),
            config: Vec::new(),
            tls: false,
            certificates: None,
            is_sentinel: false,
            is_node: false,
        }
    }

    /// Starts one with the defaults: no password, no TLS, no persistence.
    ///
    /// # Panics
    /// With its log when it does not come to answer.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The TCP port on 127.0.0.1; the same for as long as the server is not dropped, also when it is down.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// On which the nodes of its cluster talk to it.
    ///
    /// # Panics
    /// When it is not started as a node of a cluster.
    pub fn bus_port(&self) -> u16 {
        self.bus_port.expect("the server is no node of a cluster")
    }

    /// Process id.
    ///
    /// # Panics
    /// When it is down.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the server is down")
    }

    /// Whether it was started and not killed or stopped since.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// The folder in which it runs: its files are there, under their usual names, and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged so far, in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// `redis://127.0.0.1:<port>`; with TLS `rediss://`.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// PEM file of the authority that its certificate is of.
    ///
    /// # Panics
    /// When it has no TLS.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.as_ref().expect("the server has no TLS").ca
    }

    /// SIGKILL, and waits for the end. Connections are reset, and what was not written to disk is lost.
    pub async fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        soon("the end of a server that was killed", child.kill()).await.unwrap();
    }

    /// SIGTERM, and waits for the end. The server saves what it is configured to save. A paused one goes on first.
    ///
    /// # Panics
    /// With its log when it does not end well.
    pub async fn stop(&mut self) {
        if self.child.is_none() {
            return;
        }
        self.signal("TERM").await;
        self.signal("CONT").await;
        // It gives its replicas up to 10 s to catch up, which alone is as long as our patience.
        let ended = timeout(PATIENCE * 2, self.child.as_mut().unwrap().wait()).await;
        let well = matches!(&ended, Ok(Ok(status)) if status.success());
        assert!(well, "{}", self.complaint(&format!("did not stop well: {ended:?}")));
        self.child = None;
    }

    /// Starts it again on the same port, in the same folder, with the same configuration, and waits until it answers. One
    /// that still runs is stopped first.
    ///
    /// # Panics
    /// With its log when it does not come to answer.
    pub async fn restart(&mut self) {
        self.stop().await;
        let Err(failure) = self.launch().await else { return };
        panic!("{}", self.complaint(&failure));
    }

    /// SIGSTOP, and waits until it stands still: its connections stay open, and nothing on them is answered.
    pub async fn pause(&self) {
        self.signal("STOP").await;
        eventually("a paused server stands still", async || self.is_paused().then_some(())).await;
    }

    /// Whether it runs, but stands still.
    pub fn is_paused(&self) -> bool {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return false };
        // The state stands behind the program's name, which is in brackets.
        let still = |text: String| text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(still)
    }

    /// SIGCONT: it goes on where it was.
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// Runs `redis-cli` against it, with flags of redis-cli's (`--user`, `-a`) before the command. Returns what it printed,
    /// without white space around it; an error reply of the server's is printed too.
    ///
    /// # Panics
    /// When redis-cli fails: no connection, no handshake, no answer within [`PATIENCE`].
    pub async fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        // The caller's own password is for other servers.
        command.stdin(Stdio::null()).kill_on_drop(true).env_remove("REDISCLI_AUTH");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(certificates) = &self.certificates {
            command.arg("--tls").arg("--cacert").arg(&certificates.ca);
        }
        let output = soon("redis-cli's answer", command.args(args).output()).await.expect(HOW_TO_INSTALL);
        let [text, errors] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        assert!(output.status.success(), "redis-cli {args:?} ended with {}: {text} {errors}", output.status);
        text
    }

    /// Starts the process and waits until it answers. Says why it does not.
    async fn launch(&mut self) -> Result<(), String> {
        fs::write(self.path("server.conf"), self.config_file()).unwrap();
        let sentinel: &[&str] = if self.is_sentinel { &["--sentinel"] } else { &[] };
        let log = File::options().create(true).append(true).open(self.path("server.log")).unwrap();
        let mut command = Command::new(&self.program);
        // A locale that the machine lacks would be fatal.
        command.arg("server.conf").args(sentinel).current_dir(self.folder.path()).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}; {HOW_TO_INSTALL}", self.program.display());
        });

        let socket = self.path("server.sock");
        let ready = async {
            while !answers(&socket).await {
                sleep(PAUSE).await;
            }
        };
        let outcome = tokio::select! {
            status = child.wait() => Err(format!("ended with {status:?}")),
            () = ready => Ok(()),
            () = sleep(PATIENCE) => Err(format!("did not answer within {PATIENCE:?}")),
        };
        if outcome.is_ok() {
            self.child = Some(child);
        }
        outcome
    }

    fn config_file(&self) -> String {
        let mut text = "bind 127.0.0.1\nunixsocket server.sock\nsave \"\"\nappendonly no\n".to_owned();
        match &self.certificates {
            None => writeln!(text, "port {}", self.port).unwrap(),
            Some(Certificates { ca, certificate, key }) => {
                writeln!(text, "port 0\ntls-port {}\ntls-auth-clients no", self.port).unwrap();
                for (directive, file) in [("ca-cert", ca), ("cert", certificate), ("key", key)] {
                    writeln!(text, "tls-{directive}-file \"{}\"", file.display()).unwrap();
                }
            }
        }
        if let Some(port) = self.bus_port {
            writeln!(text, "cluster-enabled yes\ncluster-port {port}").unwrap();
        }
        // Last, since the last word on a directive holds.
        for line in &self.config {
            writeln!(text, "{line}").unwrap();
        }
        text
    }

    async fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().await.unwrap();
        assert!(status.success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn complaint(&self, failure: &str) -> String {
        format!("{} {failure}; its log:\n{}", self.program.display(), self.log())
    }
}

const HOW_TO_INSTALL: &str = "scripts/setup-tests installs what the tests start";

/// Whether the server behind `socket` has come up: it answers, be it only that one has to log in, and not that it still loads.
///
/// By a Unix socket in the server's own folder: on a port that was taken just now, somebody else's server would answer. No
/// server answers anywhere before all its ports are open.
async fn answers(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut reply = [0; 64];
        let length = stream.read(&mut reply).await?;
        Ok::<_, std::io::Error>(length > 0 && !reply[..length].starts_with(b"-LOADING"))
    };
    ask.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = std::iter::once(taken.local_addr().unwrap().port());
        let server =
            RedisServer::builder().start_on(ports.chain(std::iter::repeat_with(|| fastrand::u16(PORTS)))).await;
        assert_eq!(server.cli(&["PING"]).await, "PONG");
        assert_ne!(server.port(), taken.local_addr().unwrap().port());
    }

    /// As when a port is taken after we looked: here it is that of the cluster's bus, at which we never look.
    async fn a_port_that_the_server_cannot_have(builder: RedisServerBuilder) {
        // That one may be somebody's: the system gives such ports to whoever asks for any.
        let (unlucky, _bus) = loop {
            let unlucky = fastrand::u16(PORTS);
            if let Ok(bus) = TcpListener::bind(("127.0.0.1", unlucky + 10_000)).await {
                break (unlucky, bus);
            }
        };
        let ports = std::iter::once(unlucky).chain(std::iter::repeat_with(|| fastrand::u16(PORTS)));
        let server = builder.config("cluster-enabled yes").start_on(ports).await;
        assert_ne!(server.port(), unlucky);
        assert!(server.cli(&["CLUSTER", "INFO"]).await.contains("cluster_state"));
        assert!(server.log().contains("Failed listening"), "the unlucky port was never tried");
    }

    #[tokio::test]
    async fn redis_without_its_port_gets_another() {
        a_port_that_the_server_cannot_have(RedisServer::builder()).await;
    }

    #[tokio::test]
    async fn valkey_without_its_port_gets_another() {
        a_port_that_the_server_cannot_have(RedisServer::builder().valkey()).await;
    }
}
