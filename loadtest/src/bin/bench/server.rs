//! Servers as processes of ours, each on ports of its own: started, waited for until they answer, and ended with their owner.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use testkit::{RedisServer, free_ports};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::programs::Programs;
use crate::subject::Subject;

/// Somebody may take a port just before the server does.
const ATTEMPTS: usize = 3;
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// See [`Server::start_in_crowd`].
pub(crate) const CROWD_KEEP_ALIVE: &str = "5m";
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// A Redis for one measurement, as one that gateways are run on: no eviction, and room for subscribers that are behind.
///
/// # Panics
/// When it does not come to answer, with its log.
pub(crate) async fn redis() -> RedisServer {
    let builder = RedisServer::builder().config("client-output-buffer-limit pubsub 256mb 64mb 60");
    builder.config("stream-node-max-bytes 1024").config("tcp-backlog 4096").start().await
}

/// A server that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Public port, on 127.0.0.1.
    pub(crate) port: u16,
    /// Operator port, of a gateway.
    admin: u16,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `subject` on the Redis at `redis`, number `number` of its kind, and waits until it answers. Its log goes into
    /// Redis' folder.
    ///
    /// # Errors
    /// It cannot be started or does not come to answer; with the end of its log.
    pub(crate) async fn start(
        programs: &Programs,
        subject: Subject,
        redis: &RedisServer,
        number: usize,
    ) -> Result<Self, String> {
        Self::start_as(|ports| command(programs, subject, redis.port(), number, ports), subject, redis, number).await
    }

    /// The same of a gateway that is one of very many on one machine: Redis, which they all wait for, goes before it, and it speaks
    /// every [`CROWD_KEEP_ALIVE`] on an idle stream, since a million of them that speak every 20 s are more than two cores' work.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) async fn start_in_crowd(
        programs: &Programs,
        redis: &RedisServer,
        number: usize,
    ) -> Result<Self, String> {
        let subject = Subject::OursDurable;
        let command = |ports| {
            let mut command = behind(command(programs, subject, redis.port(), number, ports));
            command.env("SSE_GATEWAY__KEEP_ALIVE", CROWD_KEEP_ALIVE);
            command
        };
        Self::start_as(command, subject, redis, number).await
    }

    async fn start_as(
        command: impl Fn([u16; 2]) -> Command,
        subject: Subject,
        redis: &RedisServer,
        number: usize,
    ) -> Result<Self, String> {
        let mut failure = String::new();
        for _ in 0..ATTEMPTS {
            let ports = free_ports();
            let log = redis.folder().join(format!("{}-{number}.log", subject.program()));
            match Self::try_start(command(ports), ports, log, subject).await {
                Ok(server) => return Ok(server),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn try_start(mut command: Command, ports: [u16; 2], log: PathBuf, subject: Subject) -> Result<Self, String> {
        let program = subject.program();
        let file = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        // Where no configuration file lies about.
        command.current_dir(log.parent().unwrap_or(Path::new("/"))).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(file).kill_on_drop(true).spawn();
        let child = child.map_err(|error| format!("{program} cannot be started: {error}"))?;
        let [port, admin] = ports;
        let mut server = Self { port, admin, child, log };
        let (asked, path) = if subject.must_keep_all() { (admin, "/readyz") } else { (port, "/") };
        let ready = async {
            while !answers(asked, path).await {
                sleep(PAUSE).await;
            }
        };
        let outcome = tokio::select! {
            status = server.child.wait() => Err(format!("ended with {}", described(status))),
            () = ready => Ok(()),
            () = sleep(STARTS_WITHIN) => Err(format!("did not answer within {STARTS_WITHIN:?}")),
        };
        match outcome {
            Ok(()) => Ok(server),
            Err(error) => Err(format!("{program} {error}; {}", server.last_words())),
        }
    }

    /// Process id.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn pid(&self) -> Result<u32, String> {
        self.child.id().ok_or_else(|| "a server was killed already".to_owned())
    }

    /// What a gateway's `/metrics` says; `None` where it does not answer.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).await?;
            let request =
                format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.admin);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        timeout(ANSWERS_WITHIN, ask).await.ok()?.ok()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// It cannot be killed.
    pub(crate) async fn kill(&mut self) -> Result<(), String> {
        let killed = timeout(KILLED_WITHIN, self.child.kill()).await;
        let killed = killed.map_err(|_| format!("a server did not end within {KILLED_WITHIN:?} of SIGKILL"))?;
        killed.map_err(|error| format!("a server cannot be killed: {error}"))
    }

    /// What is wrong if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().transpose()?;
        Some(format!("the server ended by itself with {}; {}", described(status), self.last_words()))
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        match String::from_utf8_lossy(&log).lines().last() {
            Some(line) => format!("its last words: {line}"),
            None => "it said nothing".to_owned(),
        }
    }
}

fn described(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn command(programs: &Programs, subject: Subject, redis_port: u16, number: usize, [port, admin]: [u16; 2]) -> Command {
    let listen = format!("127.0.0.1:{port}");
    if subject.must_keep_all() {
        let mut command = Command::new(&programs.gateway);
        command.env_clear().env("SSE_GATEWAY__DEMO", "false").env("SSE_GATEWAY__NODE", format!("node-{number}"));
        command.env("SSE_GATEWAY__TELEMETRY__FILTER", "warn");
        command.args(["--listen", &listen, "--admin-listen", &format!("127.0.0.1:{admin}")]);
        command.args(["--redis-url", &format!("redis://127.0.0.1:{redis_port}")]);
        return command;
    }
    let program = if subject == Subject::Floor { &programs.floor } else { &programs.naive };
    let mut command = Command::new(program);
    command.env_clear().args(["--listen", &listen, "--redis", &format!("127.0.0.1:{redis_port}")]);
    command
}

/// The same program with the same arguments and environment, behind those that are not: it has what they leave of the cores.
pub(crate) fn behind(command: Command) -> Command {
    let command = command.into_std();
    let mut behind = std::process::Command::new("nice");
    // Which becomes the program itself, under the same process id.
    behind.args(["-n", "10"]).arg(command.get_program()).args(command.get_args()).env_clear();
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let path = std::env::var_os("PATH").map(|path| ("PATH".into(), path));
    behind.envs(path.into_iter().collect::<Vec<(std::ffi::OsString, _)>>()).envs(set);
    behind.into()
}

/// Whether a server there answers `GET path`: a gateway's readiness with 200, the others with anything.
async fn answers(port: u16, path: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    let expected: &[u8] = if path == "/" { b"HTTP/1.1 " } else { b"HTTP/1.1 200" };
    matches!(timeout(ANSWERS_WITHIN, ask).await, Ok(Ok(head)) if head.starts_with(expected))
}
