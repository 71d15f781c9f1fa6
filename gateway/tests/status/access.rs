//! Who may see it, and for how long.

use super::*;

const SECRET: &str = "a secret of the tests, long enough for HS256";
const OPERATOR: &str = "an operator's key of the tests, long enough";

#[tokio::test]
async fn on_loopback_whoever_is_there_and_nobody_by_another_name() {
    let gateway = Gateway::start().await;
    for host in [&*gateway.admin, "localhost:9090", "[::1]"] {
        let response = get(&gateway, "/").header("host", host).send().await.unwrap();
        assert_eq!(response.status(), 200, "{host}");
    }
    // A page of elsewhere whose name leads here.
    for path in ["/", "/status", "/status.js"] {
        let response = get(&gateway, path).header("host", "rebound.example:9090").send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["type"], "urn:problem:sse:no-operator-key");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let response = get(&gateway, path).header("host", "rebound.example:9090").send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn beyond_loopback_the_operator_key_is_asked_for() {
    let config = format!("[auth]\nsecret = \"{SECRET}\"\noperator_key = \"{OPERATOR}\"");
    let gateway = Gateway::builder().config(&config).args(&["--admin-listen", "0.0.0.0:0"]).start().await;
    let port = gateway.admin.rsplit_once(':').unwrap().1.to_owned();
    let ask = |path: &str| gateway.client.get(format!("http://127.0.0.1:{port}{path}"));
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(path).send().await.unwrap().status(), 200, "{path}");
    }
    let token = testkit::TokenKey::hs256(SECRET.as_bytes()).token(None, r#"{"sub":"42","exp":9999999999}"#);
    for path in ["/", "/status", "/status.css"] {
        for refused in [
            ask(path),
            ask(path).bearer_auth("another key that is long enough for one"),
            ask(path).bearer_auth(&token),
            ask(path).basic_auth(OPERATOR, Some("operator")),
            ask(path).header("authorization", "Basic ***"),
            ask(path).header("authorization", "Basic"),
        ] {
            let refused = refused.send().await.unwrap();
            assert_eq!(refused.status(), 401, "{path}");
            let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
            assert_eq!(challenge, "Basic realm=\"sse-gateway operator port\", charset=\"UTF-8\"");
            assert_eq!(refused.headers()["content-type"], "application/problem+json");
            assert_eq!(refused.json::<Value>().await.unwrap()["type"], "urn:problem:sse:unauthorized");
        }
        for taken in [ask(path).bearer_auth(OPERATOR), ask(path).basic_auth("anybody", Some(OPERATOR))] {
            assert_eq!(taken.send().await.unwrap().status(), 200, "{path}");
        }
    }
    let mut stream = Stream::open(ask("/status").basic_auth("", Some(OPERATOR))).await;
    assert_eq!(next(&mut stream).await["state"], "ready");
}

#[tokio::test]
async fn beyond_loopback_without_a_key_it_says_what_to_set() {
    let gateway = Gateway::builder().args(&["--admin-listen", "0.0.0.0:0"]).start().await;
    assert_eq!(gateway.admin("/metrics").await.status(), 200);
    for path in ["/", "/status"] {
        let response = get(&gateway, path).bearer_auth(OPERATOR).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        let problem: Value = response.json().await.unwrap();
        let detail =
            "this needs an operator key, and none is set: set auth.operator_key, or bind admin_listen to 127.0.0.1";
        assert_eq!((&problem["field"], &problem["detail"]), (&json!("auth.operator_key"), &json!(detail)));
    }
}

/// What a browser says of what a page of another site has it ask for: by any name of loopback, so that it may ask for much at a time.
#[tokio::test]
async fn a_page_of_another_site_gets_nothing_but_a_link_to_it() {
    let gateway = Gateway::start().await;
    let port = gateway.admin.rsplit_once(':').unwrap().1.to_owned();
    let ask = |path: &str, site: &str, mode: &str, dest: &str| {
        let host = format!("a.localhost:{port}");
        let request = get(&gateway, path).header("host", host).header("sec-fetch-site", site);
        request.header("sec-fetch-mode", mode).header("sec-fetch-dest", dest).send()
    };
    for site in ["cross-site", "same-site"] {
        for path in ["/", "/status", "/status.js"] {
            for (mode, dest) in [("no-cors", "empty"), ("no-cors", "image"), ("navigate", "iframe")] {
                let refused = ask(path, site, mode, dest).await.unwrap();
                assert_eq!(refused.status(), 403, "{site} {path} {mode} {dest}");
                assert!(!refused.headers().contains_key("www-authenticate"), "nobody is asked for a password");
                assert_eq!(refused.json::<Value>().await.unwrap()["type"], "urn:problem:sse:other-site");
            }
        }
        let statuses = async |path: &str| ask(path, site, "navigate", "document").await.unwrap().status().as_u16();
        assert_eq!((statuses("/").await, statuses("/status").await), (200, 403), "a link");
        assert_eq!(ask("/metrics", site, "no-cors", "empty").await.unwrap().status(), 200);
    }
    for site in ["same-origin", "none"] {
        assert_eq!(ask("/status", site, "cors", "empty").await.unwrap().status(), 200, "{site}");
    }
}

/// Browsers bring the password along too, once they have it.
#[tokio::test]
async fn beyond_loopback_a_page_of_another_site_gets_nothing_by_the_browsers_password() {
    let config = format!("[auth]\nsecret = \"{SECRET}\"\noperator_key = \"{OPERATOR}\"");
    let gateway = Gateway::builder().config(&config).args(&["--admin-listen", "0.0.0.0:0"]).start().await;
    let ask = || get(&gateway, "/status").header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "no-cors");
    assert_eq!(ask().basic_auth("", Some(OPERATOR)).send().await.unwrap().status(), 403);
    assert_eq!(ask().send().await.unwrap().status(), 403);
    assert_eq!(ask().bearer_auth(OPERATOR).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_opened_it() {
    let folder = tempfile::tempdir().unwrap();
    let [file, other] = ["key", "other"].map(|name| folder.path().join(name));
    let fresh = "another operator's key of the tests, long enough";
    std::fs::write(&file, OPERATOR).unwrap();
    let config = format!("[auth]\nsecret = \"{SECRET}\"\noperator_key_file = {file:?}");
    let gateway = Gateway::builder().config(&config).args(&["--admin-listen", "0.0.0.0:0"]).start().await;
    let ask =
        |key: &str| [get(&gateway, "/status").bearer_auth(key), get(&gateway, "/status").basic_auth("", Some(key))];
    let mut streams = Vec::new();
    for request in ask(OPERATOR) {
        let mut stream = Stream::open(request).await;
        next(&mut stream).await;
        streams.push(stream);
    }
    std::fs::write(&other, fresh).unwrap();
    std::fs::rename(&other, &file).unwrap();
    gateway.signal("HUP").await;
    for mut stream in streams {
        soon("the end of a stream by the old key", stream.rest()).await;
    }
    for refused in ask(OPERATOR) {
        assert_eq!(refused.send().await.unwrap().status(), 401);
    }
    for request in ask(fresh) {
        let mut stream = Stream::open(request).await;
        next(&mut stream).await;
        next(&mut stream).await;
    }
}
