//! SIGHUP: what can be read again is, and no connection notices.

use std::fs;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStderr;

use crate::support::{Gateway, soon};

/// Reads the log up to a line that has all of `words`; fails where one has `not`.
async fn line(log: &mut Lines<BufReader<ChildStderr>>, words: &[&str], not: &str) -> String {
    loop {
        let line = soon(&format!("{words:?} in the log"), log.next_line()).await.unwrap().expect("a log");
        assert!(!line.contains(not), "{line}");
        if words.iter().all(|word| line.contains(word)) {
            return line;
        }
    }
}

const NONE: &str = "panicked";
const PART: &str = "telemetry.filter";

#[tokio::test]
async fn the_filter_of_the_log_is_read_again_and_nobody_notices() {
    let builder = Gateway::builder().config("retry = '3s'\n[telemetry]\nfilter = 'warn'\nformat = 'text'");
    let mut gateway = builder.log_piped_as_configured().start().await;
    let mut log = BufReader::new(gateway.take_log()).lines();
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let file = gateway.config_file();
    let write = |text: &str| fs::write(&file, text).unwrap();

    write("retry = '9s'\n[telemetry]\nfilter = 'info'\nformat = 'text'\n[limits]\nmax_url = 999");
    gateway.signal("HUP").await;
    let told = line(&mut log, &["take a restart"], NONE).await;
    assert!(told.contains("keys=\"limits.max_url, retry\""), "{told}");
    line(&mut log, &[PART, "and changed"], NONE).await;

    // What is wrong changes nothing, and is told with its place.
    for (text, words) in [
        ("[telemetry]\nfilter = 'loud'", &[PART, "cannot be used", "loud"][..]),
        ("retry = 3", &[PART, "cannot be used", "gateway.toml", "retry"]),
        ("retry = '3s'\n[limits]\nmax_url = 1", &[PART, "cannot be used", "limits.max_url", "256"]),
        ("[telemetry", &[PART, "cannot be used", "gateway.toml"]),
    ] {
        write(text);
        gateway.signal("HUP").await;
        line(&mut log, words, "and changed").await;
    }
    write("retry = '3s'\n[telemetry]\nfilter = 'info'\nformat = 'text'");
    gateway.signal("HUP").await;
    line(&mut log, &[PART, "nothing has changed"], "take a restart").await;

    gateway.publish(json!({"channel": "a", "data": "still here"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("still here"));
    assert_eq!(gateway.metric(&gateway.ever_open()).await, 1.0);
}

#[tokio::test]
async fn a_hangup_does_not_end_it() {
    let gateway = Gateway::start().await;
    for _ in 0..10 {
        gateway.signal("HUP").await;
    }
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    assert_eq!(gateway.stop().await.status.code(), Some(0));
}
