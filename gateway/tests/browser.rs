//! The demo page in a real Chromium: a native `EventSource` connects, is told, and comes to know that its node is gone.
//!
//! Sees only what a person sees, the page; it knows nothing of the event stream's bytes, which other tests read.
//! A machine without Chromium fails here: a skipped test would look like a passed one.
#![cfg(test)]

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::support::{Gateway, eventually};

/// Needs escaping in a URL, in JSON and in HTML, and is not ASCII.
const MESSAGE: &str = r#"안녕 "42" & <b>1 + 1</b> = 100%? #a"#;

#[tokio::test]
async fn demo_page_receives_a_notification_and_notices_a_dead_node() {
    timeout(Duration::from_secs(60), Box::pin(demo_page())).await.expect("the browser test took over 60 s");
}

async fn demo_page() {
    let gateway = Gateway::start().await;
    let browser = Browser::start().await;

    browser.client.goto(&gateway.url("/?user=42")).await.expect("open the demo page");
    browser.wait_for("#state[data-state=open]").await;

    browser.wait_for("#message").await.send_keys(MESSAGE).await.expect("type a message");
    browser.wait_for("#send").await.click().await.expect("click send");

    let row = browser.wait_for(".event[data-event=notification]").await;
    let text = row.text().await.expect("read the notification's row");
    assert!(text.lines().any(|line| line == MESSAGE), "the row must show the message as it was typed, shows {text:?}");
    let id = row.attr("data-id").await.expect("read the notification's id");
    assert!(id.as_deref().is_some_and(|id| !id.is_empty()), "a notification must have an id, has {id:?}");
    // The answer to the POST and the event travel apart: either may come first.
    eventually("#answer to say 알림 전송 완료", async || {
        let text = browser.wait_for("#answer").await.text().await.expect("read the answer");
        (text == "알림 전송 완료").then_some(())
    })
    .await;
    let rows = browser.client.find_all(Locator::Css(".event[data-event=notification]")).await.expect("count the rows");
    assert_eq!(rows.len(), 1, "one message must arrive once");

    let screenshot = browser.client.screenshot().await.expect("take a screenshot");
    fs::write(scratch("demo-page.png"), screenshot).expect("write target/tmp/demo-page.png");

    gateway.stop().await;
    browser.wait_for("#state[data-state=reconnecting], #state[data-state=closed]").await;

    browser.close().await;
}

/// A Chromium without a window, driven through a ChromeDriver of its own on a free port.
struct Browser {
    client: Client,
    // Dropped in this order: the profile goes after the processes that write to it.
    driver: Driver,
    profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let chromium = program("chromium");
        let driver = Driver::start().await;
        let profile = tempfile::tempdir_in(scratch("")).expect("make a folder for Chromium's profile");
        let args = [
            "--headless=new",
            // Chromium refuses its sandbox to root, which containers and CI are; it opens our own page alone.
            "--no-sandbox",
            "--disable-gpu",
            // Nothing but the page may be fetched: the test must not depend on a network.
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Containers have a /dev/shm of 64 MiB, too small for it.
            "--disable-dev-shm-usage",
            "--window-size=1200,1000",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({ "goog:chromeOptions": { "binary": chromium, "args": args } });
        let Value::Object(capabilities) = capabilities else { unreachable!("written as an object above") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url)
            .await
            .unwrap_or_else(|error| panic!("chromium did not start: {error}; see {}", driver.log.display()));
        Self { client, driver, profile }
    }

    /// The first element of a selector, as soon as the page has one.
    async fn wait_for(&self, selector: &str) -> Element {
        eventually(selector, async || match self.client.find(Locator::Css(selector)).await {
            Ok(element) => Some(element),
            Err(error) if error.is_no_such_element() => None,
            Err(error) => panic!("looking for {selector}: {error}; see {}", self.driver.log.display()),
        })
        .await
    }

    /// Ends Chromium in good order; a drop would kill it.
    async fn close(self) {
        self.client.close().await.expect("close chromium");
        drop(self.driver);
        self.profile.close().expect("remove chromium's profile");
    }
}

/// A ChromeDriver in a process group of its own. Chromium joins that group, and outlives a ChromeDriver that is merely
/// killed: so the whole group is, on every way out of the test.
struct Driver {
    group: u32,
    url: String,
    log: PathBuf,
    // Held open: ChromeDriver must not write to a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Driver {
    async fn start() -> Self {
        let log = scratch("chromedriver.log");
        let mut child = Command::new(program("chromedriver"))
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("create chromedriver's log"))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("start chromedriver");
        let group = child.id().expect("a child that was not awaited has an id");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout was piped")).lines();
        let port = timeout(Duration::from_secs(20), port(&mut stdout))
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| panic!("chromedriver named no port within 20 s; see {}", log.display()));
        Self { group, url: format!("http://127.0.0.1:{port}"), log, _stdout: stdout, _child: child }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The shell's own `kill`: std kills one process, not a group, and a small system has no program of that name.
        // Nothing left to kill is no error.
        let _ = std::process::Command::new("sh")
            .args(["-c", "kill -s KILL -- \"-$1\"", "sh", &self.group.to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

/// Reads on to "ChromeDriver was started successfully on port 12345."; `None` when the output ends before it.
async fn port(stdout: &mut Lines<BufReader<ChildStdout>>) -> Option<u16> {
    while let Some(line) = stdout.next_line().await.expect("read chromedriver's output") {
        let port = line.strip_prefix("ChromeDriver was started successfully on port ");
        if let Some(port) = port.and_then(|rest| rest.trim_end_matches('.').parse().ok()) {
            return Some(port);
        }
    }
    None
}

/// Where a program of the `PATH` is.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run `make setup`"))
}

/// A file in the folder that cargo keeps for this test's own output.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
