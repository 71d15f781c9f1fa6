//! The whole cluster as `make cluster` runs it: Redis, two gateways, the publisher and nginx, from the same files that
//! containers use.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{eventually, free_ports, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::Stream;

const PORTS: [&str; 8] = [
    "REDIS_PORT",
    "GATEWAY_1_PORT",
    "GATEWAY_1_ADMIN_PORT",
    "GATEWAY_2_PORT",
    "GATEWAY_2_ADMIN_PORT",
    "PUBLISHER_PORT",
    "PUBLISHER_ADMIN_PORT",
    "NGINX_PORT",
];

/// A running cluster, ended by [`Cluster::stop`]; what the script started ends with it, also when it is killed.
struct Cluster {
    script: Child,
    /// What it says, kept open.
    _output: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
    ports: [u16; PORTS.len()],
    client: Client,
}

impl Cluster {
    async fn start() -> Self {
        for _ in 0..3 {
            if let Some(cluster) = Self::try_start().await {
                return cluster;
            }
        }
        panic!("the cluster does not start");
    }

    /// `None`: a port was taken in between.
    async fn try_start() -> Option<Self> {
        let (folder, ports) = (tempfile::tempdir().unwrap(), free_ports());
        let publisher = testkit::binary("publisher", "sse-publisher");
        let mut command = Command::new(root().join("scripts/cluster"));
        command.env("BIN_DIR", publisher.parent().unwrap()).env("RUN_DIR", folder.path());
        for (name, port) in PORTS.iter().zip(ports) {
            command.env(name, port.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut script = command.spawn().unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        loop {
            let line =
                tokio::time::timeout(testkit::PATIENCE * 6, lines.next_line()).await.expect("no cluster").unwrap();
            match line {
                Some(line) if line.starts_with("cluster is ready") => break,
                Some(_) => {}
                None => return None,
            }
        }
        let client = Client::builder().no_proxy().build().unwrap();
        Some(Self { script, _output: lines, folder, ports, client })
    }

    fn port(&self, name: &str) -> u16 {
        self.ports[PORTS.iter().position(|known| *known == name).unwrap()]
    }

    fn url(&self, port: &str, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port(port))
    }

    async fn stream(&self, path: &str) -> (Stream, Value) {
        let mut stream = Stream::open(self.client.get(self.url("NGINX_PORT", path))).await;
        let open = stream.opened().await;
        (stream, open)
    }

    async fn redis(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &self.port("REDIS_PORT").to_string()]).args(args).output();
        String::from_utf8(soon("redis-cli", output).await.unwrap().stdout).unwrap().trim().to_owned()
    }

    async fn stop(mut self) {
        let pid = self.script.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let status =
            tokio::time::timeout(testkit::PATIENCE * 5, self.script.wait()).await.expect("it does not stop").unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.folder.path().display());
        for port in self.ports {
            assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens on {port}");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[tokio::test]
async fn streams_through_nginx_hear_what_anybody_publishes() {
    let cluster = Cluster::start().await;
    let (mut one, first) = cluster.stream("/events?channel=user:42").await;
    let (mut two, second) = cluster.stream("/api/sse/connect?userId=42").await;
    assert_ne!(first["node"], second["node"], "nginx sends them to different nodes");

    assert_eq!(cluster.redis(&["PUBLISH", "sse:user:42", "ephemeral"]).await, "2");
    cluster.redis(&["FCALL", "sse_publish", "1", "sse:user:42", r#"{"event":"n","data":"durable"}"#]).await;
    let publish = cluster.client.post(cluster.url("PUBLISHER_PORT", "/publish"));
    let receipt = publish.json(&json!({"channel": "user:42", "data": "http"})).send().await.unwrap();
    assert_eq!(receipt.json::<Value>().await.unwrap()["receivers"], 2);
    let notify = cluster.client.post(cluster.url("NGINX_PORT", "/api/sse/notify?userId=42&message=hi"));
    let answer = notify.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "알림 전송 완료"));
    let nobody = cluster.client.post(cluster.url("NGINX_PORT", "/api/sse/notify?userId=777&message=hi"));
    assert_eq!(nobody.send().await.unwrap().status(), 404);

    for stream in [&mut one, &mut two] {
        let mut heard = Vec::new();
        while heard.len() < 4 {
            heard.push(stream.event().await.unwrap());
        }
        if heard[0].event == "connect" {
            heard.remove(0);
            heard.push(stream.event().await.unwrap());
        }
        let texts: Vec<_> = heard.iter().map(|event| (event.event.as_str(), event.data.as_str())).collect();
        assert_eq!(texts, [("message", "ephemeral"), ("n", "durable"), ("message", "http"), ("notification", "hi")]);
    }
    for port in ["GATEWAY_1_ADMIN_PORT", "GATEWAY_2_ADMIN_PORT", "PUBLISHER_ADMIN_PORT"] {
        let ready = cluster.client.get(cluster.url(port, "/readyz")).send().await.unwrap();
        assert!(ready.status().is_success(), "{port}");
    }
    drop((one, two));
    let channels = async || cluster.redis(&["PUBSUB", "CHANNELS", "sse:*"]).await.is_empty().then_some(());
    eventually("no channel is subscribed", channels).await;
    cluster.stop().await;
}
