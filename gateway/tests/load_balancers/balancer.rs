//! Real load balancers from the files in `config/lb`, each on a port of its own in front of two gateways.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Client;
use tempfile::TempDir;
use testkit::{Certificates, TlsTunnel, eventually, free_ports, tls_client, tls_connect};
use tokio::process::{Child, Command};

use crate::support::{Gateway, Stream};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

/// How a client speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1, by TLS.
    One,
    /// HTTP/2, by TLS.
    Two,
}

/// A running one. Dropping it kills it.
pub struct Balancer {
    _child: Child,
    _folder: TempDir,
    certificates: Certificates,
    /// `host:port`, by TLS.
    address: String,
}

/// A client of a balancer, from an address of its own.
pub struct Browser {
    client: Client,
    tunnel: TlsTunnel,
}

impl Balancer {
    /// In front of these two.
    pub async fn start(kind: Kind, gateways: [&Gateway; 2]) -> Self {
        for _ in 0..3 {
            if let Some(balancer) = Self::try_start(kind, gateways).await {
                return balancer;
            }
        }
        panic!("{kind:?} does not start");
    }

    /// `None`: its port was taken in between.
    async fn try_start(kind: Kind, gateways: [&Gateway; 2]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(folder.path());
        let [port] = free_ports();
        let mut command = match kind {
            Kind::Nginx => nginx(folder.path(), &certificates, port, gateways),
            Kind::Haproxy => haproxy(folder.path(), &certificates, port, gateways),
            Kind::Caddy => caddy(folder.path(), &certificates, port, gateways),
        };
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let address = format!("127.0.0.1:{port}");
        let config = tls_client(&certificates.ca, &[]);
        let what = format!("{kind:?} is there");
        let ended = eventually(&what, async || match child.try_wait().unwrap() {
            Some(status) => Some(Some(status)),
            None => tls_connect(&address, config.clone()).await.is_ok().then_some(None),
        });
        match ended.await {
            None => Some(Self { _child: child, _folder: folder, certificates, address }),
            Some(status) => {
                eprintln!("{kind:?} ended: {status}");
                None
            }
        }
    }

    /// A client.
    pub async fn browser(&self, http: Http) -> Browser {
        self.browser_from(http, 1).await
    }

    /// A client with the address 127.0.0.`last`.
    pub async fn browser_from(&self, http: Http, last: u8) -> Browser {
        let (builder, protocol) = match http {
            Http::One => (Client::builder().http1_only(), "http/1.1"),
            Http::Two => (Client::builder().http2_prior_knowledge(), "h2"),
        };
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let tunnel = TlsTunnel::start_from(from, &self.address, &self.certificates.ca, &[protocol]).await;
        Browser { client: builder.no_proxy().build().unwrap(), tunnel }
    }
}

impl Browser {
    /// A request, as an `EventSource` sends it.
    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.get(format!("http://{}{path}", self.tunnel.address()));
        request.header("accept", "text/event-stream").header("accept-encoding", "gzip, deflate, br, zstd")
    }

    /// An event stream, and the node that it is on.
    pub async fn stream(&self, path: &str) -> (Stream, String) {
        let mut stream = Stream::open(self.get(path)).await;
        let open = stream.opened().await;
        (stream, open["node"].as_str().unwrap().to_owned())
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config/lb").join(name)
}

/// The program, also where a plain user's PATH lacks sbin.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "config/lb is not as it was: {from}");
    text.replace(from, to)
}

fn nginx(folder: &Path, certificates: &Certificates, port: u16, [one, two]: [&Gateway; 2]) -> Command {
    let text = std::fs::read_to_string(file("nginx.conf")).unwrap();
    let text = replace(&text, "listen 8443 ", &format!("listen 127.0.0.1:{port} "));
    let text = replace(&text, "server 127.0.0.1:8081 ", &format!("server {} ", one.public));
    let text = replace(&text, "server 127.0.0.1:8082 ", &format!("server {} ", two.public));
    std::fs::write(folder.join("nginx.conf"), text).unwrap();
    std::fs::copy(&certificates.certificate, folder.join("tls.pem")).unwrap();
    std::fs::copy(&certificates.key, folder.join("tls.key")).unwrap();
    let mut command = program("nginx");
    command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    // One process, so that killing it leaves no workers behind.
    command.args(["-g", "daemon off; master_process off;"]);
    command
}

fn haproxy(folder: &Path, certificates: &Certificates, port: u16, gateways: [&Gateway; 2]) -> Command {
    let [certificate, key] = [&certificates.certificate, &certificates.key].map(|path| std::fs::read(path).unwrap());
    let both = folder.join("both.pem");
    std::fs::write(&both, [certificate, key].concat()).unwrap();
    let mut command = program("haproxy");
    command.args(["-db", "-f"]).arg(file("haproxy.cfg"));
    command.env("LISTEN", format!("127.0.0.1:{port}")).env("CERTIFICATE", both);
    for (gateway, name) in gateways.into_iter().zip(["GATEWAY_1", "GATEWAY_2"]) {
        let (_, admin_port) = gateway.admin.rsplit_once(':').unwrap();
        command.env(name, &gateway.public).env(format!("{name}_ADMIN_PORT"), admin_port);
    }
    command
}

fn caddy(folder: &Path, certificates: &Certificates, port: u16, [one, two]: [&Gateway; 2]) -> Command {
    let mut command = program("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file("Caddyfile"));
    command.env("ADDRESS", "127.0.0.1").env("PORT", port.to_string());
    command.env("CERTIFICATE", &certificates.certificate).env("KEY", &certificates.key);
    command.env("GATEWAY_1", &one.public).env("GATEWAY_2", &two.public);
    // What it keeps, and its log, which tells of every start.
    command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).stderr(Stdio::null());
    command
}
