//! Who may come in: tokens, from where they may come, and what they grant.

use std::fs::File;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::TokenKey;

use crate::support::{Gateway, Lane};

mod grants;
mod keys;
mod places;
mod table;

const SECRET: &[u8] = b"a secret of the tests, long enough for HS256";
const OPERATOR: &str = "an operator's key of the tests, long enough";
const ISSUER: &str = "https://login.example.com/";
const AUDIENCE: &str = "events";
/// Where the token may come from beside the header.
const PLACES: &str = "cookie = \"sse_token\"\nquery_token = true";

/// A gateway that asks for tokens, with a key of each algorithm, called by it.
struct World {
    gateway: Gateway,
    keys: [TokenKey; 4],
    /// One connection a request, as streams have it.
    client: Client,
    /// All that the gateway logs, at the finest level.
    log: PathBuf,
    _folder: TempDir,
}

/// What was answered.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    /// The end of the problem's type, and its detail and field; empty where there is none.
    problem: String,
    detail: String,
    field: String,
    challenge: Option<String>,
}

impl World {
    /// `auth` are further lines of `[auth]`.
    async fn start(lane: Lane, auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = [TokenKey::hs256(SECRET), TokenKey::rs256(), TokenKey::es256(), TokenKey::ed25519()];
        let (jwks, log) = (folder.path().join("jwks.json"), folder.path().join("log"));
        let texts: Vec<_> = keys.iter().map(|key| key.jwk(key.algorithm(), "\"use\":\"sig\"")).collect();
        std::fs::write(&jwks, format!("{{\"keys\":[{}]}}", texts.join(","))).unwrap();
        let config = format!(
            "demo = true\n[cors]\nallowed_origins = [\"https://app.example.com\"]\n[auth]\njwks_file = {jwks:?}\n\
             issuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\noperator_key = \"{OPERATOR}\"\n{auth}"
        );
        let gateway = Gateway::builder().lane(lane).config(&config).log_to(File::create(&log).unwrap());
        let gateway = gateway.env("SSE_GATEWAY__TELEMETRY__FILTER", "trace").start().await;
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        Self { gateway, keys, client, log, _folder: folder }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.gateway.url(path))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// User 42's good token by the HS256 key, with these claims changed.
    fn token(&self, changed: &Value) -> String {
        self.keys[0].token(Some("HS256"), &claims(changed))
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }
}

/// Claims that are good for ten minutes, of user 42, with these changed.
fn claims(changed: &Value) -> String {
    let mut claims = json!({"sub": "42", "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 600});
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The head of an answer, and its problem where it is one.
async fn ask(request: RequestBuilder) -> Answer {
    let response = crate::support::soon("an answer", request.send()).await.unwrap();
    let status = response.status().as_u16();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
    let challenge = header("www-authenticate");
    let mut answer = Answer { status, problem: String::new(), detail: String::new(), field: String::new(), challenge };
    if header("content-type").as_deref() == Some("application/problem+json") {
        let problem: Value = response.json().await.unwrap();
        let member = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(problem["status"], status);
        answer.problem = member("type").trim_start_matches("urn:problem:sse:").to_owned();
        (answer.detail, answer.field) = (member("detail"), member("field"));
    }
    answer
}

/// Of those that refuse a token.
fn refused(detail: &str) -> Answer {
    Answer {
        status: 401,
        problem: "unauthorized".into(),
        detail: detail.into(),
        field: String::new(),
        challenge: Some("Bearer error=\"invalid_token\"".into()),
    }
}
