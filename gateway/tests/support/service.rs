//! The publisher's service, the real binary.

use std::process::Stdio;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use testkit::soon;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running service on ports that the system chose. Dropping it kills it.
pub struct Service {
    _child: Child,
    _output: Lines<BufReader<ChildStdout>>,
    pub url: String,
    pub client: Client,
}

impl Service {
    /// On the Redis of this URL, with these environment variables; it says where it listens before this returns.
    pub async fn start(redis: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(testkit::binary("publisher", "sse-publisher"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).env_clear();
        command.args(["--redis-url", redis]).envs(environment.iter().copied()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = soon("the greeting", output.next_line()).await.unwrap().expect("a greeting");
            if let Some((_, rest)) = line.split_once("curl 'http://") {
                break format!("http://{}", rest.split('/').next().unwrap());
            }
        };
        Self { _child: child, _output: output, url, client: Client::builder().no_proxy().build().unwrap() }
    }

    /// A request to one of its paths.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Publishes by `POST /publish`. Returns the answer.
    pub async fn publish(&self, body: Value) -> Value {
        let response = self.request(Method::POST, "/publish").json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
        response.json().await.unwrap()
    }
}
