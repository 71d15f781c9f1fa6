//! A request's name through the service: answered, in the problem, in the log.

use serde_json::{Value, json};
use testkit::{RedisServer, soon};

use crate::support::{Service, serve};

#[tokio::test]
async fn every_answer_has_it_and_so_has_the_log() {
    let server = RedisServer::start().await;
    let command = serve(&server).env("SSE_PUBLISHER__TELEMETRY__FORMAT", "json");
    let debug = "info,publisher=debug";
    let mut service = Service::start(command.env("SSE_PUBLISHER__TELEMETRY__FILTER", debug)).await;
    let mut log = service.log();
    let post = async |path: &str, id: Option<&str>, body: Value| {
        let request = service.client.post(service.url(path)).json(&body);
        let request = id.into_iter().fold(request, |request, id| request.header("x-request-id", id));
        let response = soon("an answer", request.send()).await.unwrap();
        let named = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        (response.status().as_u16(), named, response.json::<Value>().await.unwrap())
    };
    let (status, named, _) = post("/publish", Some("lb-1"), json!({"channel": "a"})).await;
    assert_eq!((status, &*named), (200, "lb-1"));
    let (status, named, problem) = post("/publish", Some("lb-2"), json!({"chanel": "a"})).await;
    assert_eq!((status, &*named, &problem["request_id"]), (422, "lb-2", &"lb-2".into()), "{problem}");
    let (status, made, problem) = post("/nothing", None, json!({})).await;
    assert_eq!((status, &problem["request_id"]), (404, &Value::from(made.clone())), "{problem}");
    assert!(made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");

    service.signal("TERM").await;
    let mut lines: Vec<Value> = Vec::new();
    while let Some(line) = soon("the log's end", log.next_line()).await.unwrap() {
        lines.push(serde_json::from_str(&line).unwrap());
    }
    let refused = |id: &str| {
        let of: Vec<_> = lines.iter().filter(|line| line["spans"][0]["request_id"] == id).collect();
        let [line] = of[..] else { panic!("one line of {id}: {lines:#?}") };
        json!([line["message"], line["method"], line["path"], line["status"], line["code"]])
    };
    assert_eq!(refused("lb-2"), json!(["refused a request", "POST", "/publish", 422, "unknown-key"]));
    assert_eq!(refused(&made), json!(["refused a request", "POST", "/nothing", 404, "not-found"]));
    // A life, a line for each step.
    let said: Vec<_> =
        lines.iter().filter(|line| line["level"] == "INFO").filter_map(|line| line["message"].as_str()).collect();
    let closed = "the port is closed, and requests under way are answered";
    assert_eq!(said, ["keys that verify tokens", "serving", "stopping", closed, "stopped"]);
    assert!(service.exit().await.status.success());
}
