//! A Prometheus of a test's own: the real server, on a port and in a folder that nothing else uses, which dies with the test.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::patience::{PATIENCE, PAUSE};
use crate::ports::free_ports;

const ATTEMPTS: usize = 5;
const HOW_TO_INSTALL: &str = "scripts/setup-tests installs what the tests start";

/// A running server, on 127.0.0.1. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    /// Before the folder: it is dropped, and so killed, first.
    _child: Child,
    folder: TempDir,
    port: u16,
}

impl Prometheus {
    /// Starts one with this configuration, relative paths in which are those below `config_folder`, and waits until it answers.
    ///
    /// # Panics
    /// With its log when it does not come to answer.
    pub async fn start(config: &str, config_folder: &Path) -> Self {
        let mut attempts = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let [port] = free_ports();
            // Beside a link to what it names: Prometheus takes paths from where its configuration is.
            for entry in fs::read_dir(config_folder).unwrap() {
                let entry = entry.unwrap();
                std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
            let name = "of-this-test.yml";
            fs::write(folder.path().join(name), config).unwrap();
            match Self::launch(folder.path(), name, port).await {
                Ok(child) => return Self { _child: child, folder, port },
                Err(failure) => {
                    let log = log(folder.path());
                    attempts += 1;
                    // Somebody may have taken the port just now.
                    let taken = log.contains("address already in use");
                    assert!(taken && attempts < ATTEMPTS, "prometheus {failure}; its log:\n{log}");
                }
            }
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }

    /// Starts the process and waits until it answers. Says why it does not.
    async fn launch(folder: &Path, config: &str, port: u16) -> Result<Child, String> {
        let log = File::create(folder.join("server.log")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={config}")).arg("--storage.tsdb.path=data");
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("prometheus cannot be started: {error}; {HOW_TO_INSTALL}"));
        let ready = async {
            while !is_ready(port).await {
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            // First: on a port that was taken, somebody else would answer.
            biased;
            status = child.wait() => Err(format!("ended with {status:?}")),
            () = ready => Ok(child),
            () = sleep(PATIENCE) => Err(format!("did not answer within {PATIENCE:?}")),
        }
    }
}

/// Runs `promtool` to its end.
///
/// # Panics
/// When it cannot be started, or takes too long.
pub async fn promtool(args: &[&str]) -> Output {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    // It plays hours of series, which is work.
    let ended = timeout(PATIENCE * 6, command.output()).await.expect("promtool does not end");
    ended.expect(HOW_TO_INSTALL)
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("server.log")).unwrap_or_default()
}

async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}
