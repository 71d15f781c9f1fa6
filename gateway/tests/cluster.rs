//! The whole cluster as `make cluster` runs it: Redis, two gateways, the publisher, nginx and Prometheus, from the same files
//! that containers use. What is killed is started again, and the demo is shown.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use tempfile::TempDir;
use testkit::{eventually, eventually_within, free_ports, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::Stream;

const PORTS: [&str; 19] = [
    "REDIS_PORT",
    "REPLICA_PORT",
    "REDIS_1_PORT",
    "REDIS_2_PORT",
    "REDIS_3_PORT",
    "REDIS_4_PORT",
    "REDIS_5_PORT",
    "REDIS_6_PORT",
    "SENTINEL_1_PORT",
    "SENTINEL_2_PORT",
    "SENTINEL_3_PORT",
    "GATEWAY_1_PORT",
    "GATEWAY_1_ADMIN_PORT",
    "GATEWAY_2_PORT",
    "GATEWAY_2_ADMIN_PORT",
    "PUBLISHER_PORT",
    "PUBLISHER_ADMIN_PORT",
    "NGINX_PORT",
    "PROMETHEUS_PORT",
];

/// A running cluster, ended by [`Cluster::stop`]; what the script started ends with it, also when it is killed.
struct Cluster {
    script: Child,
    /// What it says, kept open.
    output: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
    ports: [u16; PORTS.len()],
    client: Client,
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings of the script.
    async fn start_with(settings: &[(&str, &str)]) -> Self {
        for _ in 0..3 {
            if let Some(cluster) = Self::try_start(settings).await {
                return cluster;
            }
        }
        panic!("the cluster does not start");
    }

    /// `None`: a port was taken in between.
    async fn try_start(settings: &[(&str, &str)]) -> Option<Self> {
        let (folder, ports) = (tempfile::tempdir().unwrap(), free_ports());
        let publisher = testkit::binary("publisher", "sse-publisher");
        let mut command = Command::new(root().join("scripts/cluster"));
        command.env("BIN_DIR", publisher.parent().unwrap()).env("RUN_DIR", folder.path());
        for (name, port) in PORTS.iter().zip(ports) {
            command.env(name, port.to_string());
        }
        command.envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut script = command.spawn().unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        loop {
            let line = timeout(testkit::PATIENCE * 6, lines.next_line()).await.expect("no cluster").unwrap();
            match line {
                Some(line) if line.starts_with("cluster is ready") => break,
                Some(_) => {}
                None => return None,
            }
        }
        let client = Client::builder().no_proxy().build().unwrap();
        Some(Self { script, output: lines, folder, ports, client })
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
        self.redis_on("REDIS_PORT", args).await
    }

    async fn redis_on(&self, port: &str, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &self.port(port).to_string()]).args(args).output();
        String::from_utf8(soon("redis-cli", output).await.unwrap().stdout).unwrap().trim().to_owned()
    }

    /// The process id of one of them, as its file has it.
    fn pid(&self, name: &str) -> String {
        let path = self.folder.path().join(format!("{name}.pid"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}.pid: {error}")).trim().to_owned()
    }

    async fn kill(&self, name: &str) {
        signal("-KILL", &self.pid(name)).await;
    }

    /// Waits until the script has said this line.
    async fn says(&mut self, wanted: &str) {
        loop {
            let line = soon(wanted, self.output.next_line()).await.unwrap().expect("the script ended");
            if line == wanted {
                return;
            }
        }
    }

    async fn ready(&self, port: &str) {
        let ready =
            async || self.client.get(self.url(port, "/readyz")).send().await.ok()?.status().is_success().then_some(());
        eventually(port, ready).await;
    }

    async fn stop(self) {
        signal("-TERM", &self.script.id().unwrap().to_string()).await;
        self.ends(0).await;
    }

    /// Waits for the end, with which everything else ends too.
    async fn ends(mut self, code: i32) {
        let status = timeout(testkit::PATIENCE * 5, self.script.wait()).await.expect("it does not stop").unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.folder.path().display());
        for port in self.ports {
            assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens on {port}");
        }
        let left = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<_> = left.filter(|path| path.extension().is_some_and(|extension| extension == "pid")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

async fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().await.unwrap().success());
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
    let targets = cluster.client.get(cluster.url("PROMETHEUS_PORT", "/api/v1/query?query=sum(up)"));
    let scraped = async || {
        let answer: Value = targets.try_clone()?.send().await.ok()?.json().await.ok()?;
        (answer["data"]["result"][0]["value"][1] == "3").then_some(())
    };
    eventually_within(testkit::PATIENCE * 3, "Prometheus scrapes all three", scraped).await;
    drop((one, two));
    let channels = async || cluster.redis(&["PUBSUB", "CHANNELS", "sse:*"]).await.is_empty().then_some(());
    eventually("no channel is subscribed", channels).await;
    cluster.stop().await;
}

#[tokio::test]
async fn nginx_says_who_the_client_is() {
    let cluster = Cluster::start_with(&[("SSE_GATEWAY__LIMITS__MAX_CONNECTIONS_PER_ADDRESS", "1")]).await;
    for last in [2, 3] {
        let from = IpAddr::from([127, 0, 0, last]);
        let client = Client::builder().no_proxy().local_address(from).build().unwrap();
        // What a client says of itself counts for nothing.
        let request = async |claimed| {
            let request = client.get(cluster.url("NGINX_PORT", "/events?channel=a"));
            Stream::open(request.header("x-forwarded-for", claimed)).await
        };
        let mut held = [request("203.0.113.1").await, request("203.0.113.2").await];
        for stream in &mut held {
            stream.opened().await;
        }
        let said = request("203.0.113.3").await.rest().await;
        assert!(matches!(said[..], [Decoded::Retry(_)]), "one at each node: {said:?}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn the_demo_is_shown_through_nginx() {
    let cluster = Cluster::start().await;
    let get = async |path: &str| soon(path, cluster.client.get(cluster.url("NGINX_PORT", path)).send()).await.unwrap();
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/demo/index.html", "text/html; charset=utf-8"),
        ("/demo/page.js", "text/javascript; charset=utf-8"),
        ("/demo/style.css", "text/css; charset=utf-8"),
    ] {
        let page = get(path).await;
        assert_eq!(
            (page.status().as_u16(), &page.headers()["content-type"]),
            (200, &media_type.parse().unwrap()),
            "{path}"
        );
        assert!(
            page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"),
            "{path}"
        );
    }
    for path in ["/demo/nothing.js", "/demo/", "/nothing", "/demo/jobs/x"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    assert_eq!(get("/demo/jobs").await.text().await.unwrap(), r#"{"max_bytes":8388608}"#);

    // A text as large as it may be passes nginx, one byte more is refused by the publisher itself.
    let post = async |bytes: usize| {
        let post = cluster.client.post(cluster.url("NGINX_PORT", "/demo/jobs?name=a")).body(vec![b'x'; bytes]);
        soon("an answer", post.send()).await.unwrap()
    };
    let problem = post((8 << 20) + 1).await;
    assert_eq!(problem.status(), 413);
    assert_eq!(problem.json::<Value>().await.unwrap()["limit"], 8 << 20);
    let job = post(8 << 20).await;
    assert_eq!(job.status(), 202);
    let location = job.headers()["location"].to_str().unwrap().to_owned();
    let mut stream = Stream::open(cluster.client.get(cluster.url("NGINX_PORT", &location))).await;
    assert_eq!(stream.event().await.unwrap().event, "started");

    let (mut stream, _) = cluster.stream("/events?channel=demo:nodes&channel=demo:prices&format=json").await;
    let (mut prices, mut nodes) = (0, 0);
    while prices < 5 || nodes < 1 {
        let event: Value = serde_json::from_str(&stream.data().await.unwrap()).unwrap();
        match event["event"].as_str().unwrap() {
            "price" => prices += 1,
            "node" => nodes += 1,
            other => panic!("{other}"),
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_killed_is_started_again_but_not_redis() {
    let mut cluster = Cluster::start().await;
    for (name, admin) in [("gateway-1", "GATEWAY_1_ADMIN_PORT"), ("publisher", "PUBLISHER_ADMIN_PORT")] {
        let before = cluster.pid(name);
        cluster.kill(name).await;
        cluster.says(&format!("cluster: {name} ended (signal 9) and is started again")).await;
        let after = async || (cluster.pid(name) != before).then_some(());
        eventually("another process", after).await;
        cluster.ready(admin).await;
    }
    // In order is unexpected too.
    signal("-TERM", &cluster.pid("gateway-2")).await;
    cluster.says("cluster: gateway-2 ended (exit code 0) and is started again").await;
    cluster.ready("GATEWAY_2_ADMIN_PORT").await;
    cluster.kill("redis").await;
    cluster.ends(1).await;
}

#[tokio::test]
async fn with_sentinels_another_server_takes_the_place_of_redis() {
    let mut cluster = Cluster::start_with(&[("REDIS", "sentinel")]).await;
    let (mut stream, _) = cluster.stream("/events?channel=user:42").await;
    cluster.redis(&["FCALL", "sse_publish", "1", "sse:user:42", "before"]).await;
    assert_eq!(stream.data().await.as_deref(), Some("before"));
    cluster.kill("redis").await;
    cluster.says("cluster: redis ended (signal 9) and is started again").await;
    // By the replica.
    let publish = async || {
        let event = json!({"channel": "user:42", "data": "after"});
        let answer = cluster.client.post(cluster.url("PUBLISHER_PORT", "/publish")).json(&event).send().await.ok()?;
        let receipt: Value = answer.json().await.ok()?;
        (receipt["receivers"] == 1).then_some(())
    };
    eventually_within(testkit::PATIENCE * 4, "an event that is heard", publish).await;
    loop {
        match stream.event().await.expect("the stream ended") {
            event if event.event == "sse.gap" => assert!(event.data.contains("data_lost"), "{}", event.data),
            event => break assert_eq!(event.data, "after"),
        }
    }
    // And the one before is a replica when it is back.
    let is_back = async || cluster.redis(&["INFO", "replication"]).await.contains("role:slave").then_some(());
    eventually_within(testkit::PATIENCE * 6, "a replica", is_back).await;
    cluster.stop().await;
}

#[tokio::test]
async fn in_a_redis_cluster_a_replica_takes_the_place_of_its_primary() {
    let mut cluster = Cluster::start_with(&[("REDIS", "cluster")]).await;
    // So many that some are in partitions of every server.
    let channels: Vec<_> = (0..24).map(|number| format!("user:{number}")).collect();
    let wanted: Vec<_> = channels.iter().map(|channel| format!("channel={channel}")).collect();
    let (mut stream, _) = cluster.stream(&format!("/events?{}", wanted.join("&"))).await;
    let publish = async |channel: &str, when: &str| {
        let event = json!({"channel": channel, "data": format!("{when} {channel}")});
        let answer = cluster.client.post(cluster.url("PUBLISHER_PORT", "/publish")).json(&event).send().await.ok()?;
        let receipt: Value = answer.json().await.ok()?;
        (receipt["receivers"] == 1).then_some(())
    };
    for channel in &channels {
        publish(channel, "before").await.expect("an event that is heard");
        assert_eq!(stream.data().await, Some(format!("before {channel}")));
    }
    cluster.kill("redis-1").await;
    // Not at once in its partitions: its replica has to take its place, and what comes before the end of a gap is within the gap.
    for channel in &channels {
        let wanted = format!("after {channel}");
        let heard = async || {
            publish(channel, "after").await?;
            while let Ok(Some(event)) = timeout(Duration::from_secs(1), stream.event()).await {
                if event.data == wanted {
                    return Some(());
                }
            }
            None
        };
        eventually_within(testkit::PATIENCE * 4, "an event that is heard", heard).await;
    }
    cluster.says("cluster: redis-1 ended (signal 9) and is started again").await;
    // And the one before is a replica when it is back.
    let is_back =
        async || cluster.redis_on("REDIS_1_PORT", &["INFO", "replication"]).await.contains("role:slave").then_some(());
    eventually_within(testkit::PATIENCE * 6, "a replica", is_back).await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_ends_too_often_ends_the_cluster() {
    let mut cluster = Cluster::start_with(&[("RESTARTS_A_MINUTE", "1")]).await;
    let before = cluster.pid("publisher");
    cluster.kill("publisher").await;
    cluster.says("cluster: publisher ended (signal 9) and is started again").await;
    eventually("another process", async || (cluster.pid("publisher") != before).then_some(())).await;
    cluster.kill("gateway-2").await;
    cluster.ends(1).await;
}
