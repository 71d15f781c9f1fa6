//! The client against a server that answers by the script of a test.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::record::cursor_text;

/// Answers one connection after the other with these, and says what `Last-Event-ID` each brought.
async fn run(answers: &[&str]) -> (Vec<String>, Record) {
    run_on(1, answers).await
}

async fn run_on(partitions: u16, answers: &[&str]) -> (Vec<String>, Record) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let http = Client::builder().no_proxy().build().unwrap();
    let visitor = Visitor { channels: vec![3, 5], comes: Duration::ZERO, seed: 1 };
    let partitions = Arc::new(Partitions::new(partitions, 6).unwrap());
    let client = EventSource::new(&http, &[port], &visitor, &partitions, Instant::now());
    let (record, stop) = (client.record(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(client.run(stop.clone()));
    let mut ids = Vec::new();
    for answer in answers {
        let (mut stream, _) = testkit::soon("the client comes", listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /events?channel=chaos:3&channel=chaos:5 HTTP/1.1\r\n"), "{head}");
        let id = head.lines().find_map(|line| line.strip_prefix("last-event-id: "));
        ids.push(id.unwrap_or_default().to_owned());
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Else what was not read yet turns the end into a reset.
        stream.shutdown().await.unwrap();
    }
    testkit::eventually("the last connection's end", async || {
        let record = lock(&record);
        let ended = record.connects.iter().filter(|connect| connect.ended.is_some()).count();
        (ended >= answers.len()).then_some(())
    })
    .await;
    stop.cancel();
    tasks.join_all().await;
    (ids, std::mem::take(&mut lock(&record)))
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 10\n{body}")
}

#[tokio::test]
async fn it_comes_back_with_the_last_id_whose_block_was_complete() {
    let answers = [
        stream(
            "id: 5-0_abcde\n\ndata: {\"channel\":\"chaos:3\",\"n\":1}\nid: 6-0_abcde\n\ndata: {\"channel\":\"chaos:3\",\"n\":2}\nid: 7-0_abcde\n",
        ),
        stream(": nothing\n\nevent: sse.open\ndata: {}\n\n"),
        stream(
            "event: sse.gap\ndata: {\"channel\":\"chaos:5\",\"reason\":\"data_lost\",\"cursor\":\"9-0_abcde\"}\n\nid: 8-0_abcde\n\n",
        ),
        stream("data: {\"channel\":\"chaos:5\",\"n\":4}\n\nid\n\n"),
        stream(""),
    ];
    let (ids, record) = run(&answers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(ids, ["", "6-0_abcde", "6-0_abcde", "8-0_abcde", ""]);
    assert_eq!(cursor_text(record.start_on(0).unwrap().cursor), "5-0_abcde");
    assert_eq!(record.reconnects(), 4);
    assert_eq!(record.fatal, Vec::<String>::new());
    let heard: Vec<_> =
        record.heard.iter().map(|(channel, heard)| (*channel, crate::record::heard_text(heard))).collect();
    let gap = "GAP data_lost, exact again from 9-0_abcde".to_owned();
    assert_eq!(heard, [(3, "number 1".to_owned()), (5, gap), (5, "number 4".to_owned())]);
    assert_eq!((record.newest(3), record.newest(5), record.heard_on(5).len()), (1, 4, 2));
}

#[tokio::test]
async fn what_an_event_source_does_not_survive_is_fatal() {
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n";
    for (answer, fatal) in [
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(), "node 1 answered 503"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "node 1 answered 204"),
        (html.to_owned(), "content-type \"text/html\""),
        (stream("data: {\"channel\":\"chaos:4\",\"n\":1}\n\n"), "channel chaos:4, which nobody asked for"),
        (stream("data: hello\n\n"), "a message cannot be read"),
        (stream("event: sse.gap\ndata: {}\n\n"), "a sse.gap cannot be read"),
    ] {
        let (_, record) = run(&[&answer]).await;
        assert!(record.fatal[0].contains(fatal), "{:?}", record.fatal);
        assert_eq!(record.connects.len(), 1, "it does not come back");
    }
}

/// Channels 3 and 5 are in partitions 5 and 3.
#[tokio::test]
async fn what_is_said_of_a_channel_is_of_its_partition() {
    let gap = |cursor: &str| {
        format!(
            "event: sse.gap\ndata: {{\"channel\":\"chaos:3\",\"reason\":\"data_lost\",\"cursor\":\"{cursor}\"}}\n\n"
        )
    };
    let (_, record) = run_on(16, &[&stream(&format!("id: 3.1-0_aaaaa~5.2-0_bbbbb\n\n{}", gap("5.9-0_abcde")))]).await;
    let begins = |partition| cursor_text(record.start_on(partition).unwrap().cursor);
    assert_eq!([3, 5].map(begins), ["3.1-0_aaaaa", "5.2-0_bbbbb"]);
    assert!(matches!(&record.heard[..], [(3, Heard::Gap { cursor: Some(part), .. })] if part.partition == Some(5)));
    let (_, record) = run_on(16, &[&stream(&gap("3.9-0_abcde"))]).await;
    assert_eq!(record.fatal, ["a gap on chaos:3, of partition 5, says 3.9-0_abcde"]);
}
