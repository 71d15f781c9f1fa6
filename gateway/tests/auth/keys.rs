//! Files of keys: at the start, and when they change.

use std::time::Duration;

use serde_json::json;
use testkit::eventually_within;

use super::*;

/// Files are looked at every five seconds.
const LONG: Duration = Duration::from_secs(30);

fn secret_token(secret: &str) -> String {
    TokenKey::hs256(secret.as_bytes()).token(None, &json!({"sub": "42", "exp": now() + 600}).to_string())
}

#[tokio::test]
async fn new_keys_count_without_a_restart_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("secret"), folder.path().join("log"));
    let [first, second] = ["the first secret, which is long enough", "the second secret, which is long enough"];
    std::fs::write(&file, first).unwrap();
    let gateway = Gateway::builder().config(&format!("[auth]\nsecret_file = {file:?}"));
    let gateway = gateway.env("SSE_GATEWAY__TELEMETRY__FILTER", "info").log_to(File::create(&log).unwrap());
    let gateway = gateway.start().await;
    let status = async |secret: &str| {
        ask(gateway.client.get(gateway.url("/events")).bearer_auth(secret_token(secret))).await.status
    };
    let log = || std::fs::read_to_string(&log).unwrap();
    assert_eq!((status(first).await, status(second).await), (200, 401));

    // Put in its place, as editors and Kubernetes do.
    let other = folder.path().join("other");
    std::fs::write(&other, "too short\n").unwrap();
    std::fs::rename(&other, &file).unwrap();
    let told = async || log().contains("it has 9 bytes, the least is 32").then_some(());
    eventually_within(LONG, "the log says why", told).await;
    assert!(log().contains("auth.secret_file") && !log().contains("too short"));
    assert_eq!((status(first).await, status(second).await), (200, 401));

    std::fs::write(&other, format!("{second}\n")).unwrap();
    std::fs::rename(&other, &file).unwrap();
    let taken = async || (status(second).await == 200).then_some(());
    eventually_within(LONG, "tokens by the new key are taken", taken).await;
    assert_eq!(status(first).await, 401);
    assert!(!log().contains(first) && !log().contains(second));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("short"), "hunter2").unwrap();
    std::fs::write(path("none.json"), "{\"keys\":[]}").unwrap();
    for (key, file, reason) in [
        ("jwks_file", "nowhere", "No such file or directory (os error 2)"),
        ("jwks_file", "none.json", "none of its 0 keys is for RS256, ES256, EdDSA or HS256"),
        ("public_key_file", "short", "it has to have one section BEGIN PUBLIC KEY"),
        ("secret_file", "short", "it has 7 bytes, the least is 32"),
        ("operator_key_file", "short", "it has 7 bytes, the least is 32"),
    ] {
        let variable = format!("SSE_GATEWAY__AUTH__{}", key.to_uppercase());
        let exit = Gateway::builder().env(&variable, &path(file)).fail().await;
        assert_eq!(exit.status.code(), Some(2), "{key}: {exit:?}");
        assert_eq!(exit.errors, format!("sse-gateway: auth.{key}: {}: {reason}\n", path(file)));
        assert_eq!(exit.output, "");
    }
    let exit = Gateway::builder().env("SSE_GATEWAY__AUTH__SECRET", "hunter2").fail().await;
    assert_eq!(exit.status.code(), Some(2));
    assert!(exit.errors.contains("auth.secret") && !exit.errors.contains("hunter2"), "{exit:?}");
}

#[tokio::test]
async fn with_keys_any_address_will_do() {
    let listen = [("SSE_GATEWAY__LISTEN", "0.0.0.0:0"), ("SSE_GATEWAY__AUTH__SECRET", "x".repeat(32).leak())];
    let gateway = listen.into_iter().fold(Gateway::builder(), |builder, (key, value)| builder.env(key, value));
    let gateway = gateway.start().await;
    assert_eq!(ask(gateway.client.get(gateway.url("/events?channel=a"))).await.status, 401);
}
