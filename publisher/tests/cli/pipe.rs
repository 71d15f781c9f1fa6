//! `pipe`: standard input as events, from producers fast and slow, and how it ends.

use testkit::{RedisServer, eventually};

use crate::support::{Program, history, history_has, is_ended, program};

fn pipe(server: &RedisServer, flags: &[&str]) -> Program {
    program(&["pipe", "--channel", "p"]).args(flags).redis(server)
}

fn data(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| serde_json::json!({"data": text}).to_string()).collect()
}

#[tokio::test]
async fn lines_and_the_end() {
    let server = RedisServer::start().await;
    let exit = pipe(&server, &[]).run_with("one\r\n\n한글\nlast".as_bytes()).await;
    exit.assert_fails(0, &["{\"published\":4}"]);
    let mut expected = data(&["one", "", "한글", "last"]);
    expected.push(r#"{"end":true}"#.to_owned());
    assert_eq!(history(&server, "p").await, expected);
    assert!(is_ended(&server, "p").await);
}

#[tokio::test]
async fn names_of_events_and_of_the_end() {
    let server = RedisServer::start().await;
    let exit = pipe(&server, &["--event", "progress", "--end-event", "done"]).run_with(b"60 %\n").await;
    exit.assert_fails(0, &["{\"published\":1}"]);
    let expected = [r#"{"event":"progress","data":"60 %"}"#, r#"{"event":"done","end":true}"#];
    assert_eq!(history(&server, "p").await, expected);

    for (flag, name) in [("--event", "sse.x"), ("--end-event", "sse.x")] {
        let exit = pipe(&server, &[flag, name]).run_with(b"x\n").await;
        let error = format!("sse-publisher: {flag}: event names beginning sse. are the gateway's own signals");
        exit.assert_fails(2, &[&error]);
    }
    assert_eq!(history(&server, "p").await.len(), 2);
}

#[tokio::test]
async fn nothing_at_all_is_an_end_too() {
    let server = RedisServer::start().await;
    let exit = pipe(&server, &[]).run().await;
    exit.assert_fails(0, &["{\"published\":0}"]);
    assert_eq!(history(&server, "p").await, [r#"{"end":true}"#]);
}

#[tokio::test]
async fn a_fast_producer_keeps_its_order() {
    let server = RedisServer::start().await;
    let lines: Vec<String> = (0..20_000).map(|number| format!("line {number}")).collect();
    let config = "[[channels]]\nprefix = 'p'\nhistory = 100000";
    let exit = pipe(&server, &[]).config(config).run_with((lines.join("\n") + "\n").as_bytes()).await;
    exit.assert_fails(0, &["{\"published\":20000}"]);
    let mut expected = data(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    expected.push(r#"{"end":true}"#.to_owned());
    assert!(history(&server, "p").await == expected, "all of them, in order");
    // Pipelined: a round trip for many.
    let reads = server.cli(&["INFO", "stats"]).await;
    let reads: u64 =
        reads.lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap().trim().parse().unwrap();
    assert!(reads < 5_000, "{reads} reads for 20,000 lines");
}

#[tokio::test]
async fn a_slow_producer_waits_for_nothing() {
    let server = RedisServer::start().await;
    let mut running = pipe(&server, &[]).spawn_piped();
    running.write(b"one\ntw").await.unwrap();
    history_has(&server, "p", 1).await;
    running.write(b"o\n").await.unwrap();
    history_has(&server, "p", 2).await;
    running.write(b"three").await.unwrap();
    running.end_of_file();
    running.exit().await.assert_fails(0, &["{\"published\":3}"]);
    let mut expected = data(&["one", "two", "three"]);
    expected.push(r#"{"end":true}"#.to_owned());
    assert_eq!(history(&server, "p").await, expected);
}

#[tokio::test]
async fn chunks_as_they_come_and_no_character_torn() {
    let server = RedisServer::start().await;
    let mut running = pipe(&server, &["--by", "chunk"]).spawn_piped();
    let text = "Hello, 세계".as_bytes();
    running.write(&text[..8]).await.unwrap();
    history_has(&server, "p", 1).await;
    // The rest of the first character, and a part of the second.
    running.write(&text[8..11]).await.unwrap();
    history_has(&server, "p", 2).await;
    running.write(&text[11..]).await.unwrap();
    history_has(&server, "p", 3).await;
    running.end_of_file();
    running.exit().await.assert_fails(0, &["{\"published\":3}"]);
    assert_eq!(history(&server, "p").await[..3], data(&["Hello, ", "세", "계"]));
}

#[tokio::test]
async fn what_cannot_be_published_ends_it_without_an_end() {
    let server = RedisServer::start().await;
    let long = format!("ok\n{}\nnot read\n", "x".repeat(65_537));
    let torn = "ok\n세".as_bytes();
    for (flags, input, error) in [
        (&[][..], long.as_bytes(), "line 2 of the input has more than 65536 bytes; the limit is limits.max_data"),
        (&[], b"ok\ncaf\xe9\n", "line 2 of the input is not UTF-8, which is all that an event stream can carry"),
        (
            &["--by", "chunk"],
            &torn[..5],
            "byte 4 of the input is not UTF-8, which is all that an event stream can carry",
        ),
    ] {
        server.cli(&["FLUSHALL"]).await;
        let exit = pipe(&server, flags).run_with(input).await;
        exit.assert_fails(1, &[&format!("sse-publisher: {error}"), "{\"published\":1}"]);
        assert_eq!(history(&server, "p").await.len(), 1);
        assert!(!is_ended(&server, "p").await);
    }
    let exit = pipe(&server, &[]).run_with(&vec![b'x'; 32 << 20]).await;
    assert!(exit.errors.contains("line 1 of the input has more than 65536 bytes"), "nobody reads it all: {exit:?}");
}

#[tokio::test]
async fn redis_away_ends_it_and_tells_how_far_it_came() {
    let mut server = RedisServer::start().await;
    let mut running = pipe(&server, &[]).spawn_piped();
    running.write(b"one\n").await.unwrap();
    history_has(&server, "p", 1).await;
    server.kill().await;
    running.write(b"two\n").await.unwrap();
    let exit = running.exit().await;
    exit.assert_fails(1, &["sse-publisher: the broker is not available: connection refused", "{\"published\":1}"]);

    server.restart().await;
    let mut running = pipe(&server, &[]).spawn_piped();
    running.write(b"one\n").await.unwrap();
    history_has(&server, "p", 1).await;
    server.kill().await;
    running.end_of_file();
    let exit = running.exit().await;
    let error = "sse-publisher: the channel is not closed: the broker is not available: connection refused";
    exit.assert_fails(1, &[error, "{\"published\":1}"]);
}

#[tokio::test]
async fn signals_end_it_without_an_end() {
    let server = RedisServer::start().await;
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        server.cli(&["FLUSHALL"]).await;
        let mut running = pipe(&server, &[]).spawn_piped();
        running.write(b"one\nhalf").await.unwrap();
        history_has(&server, "p", 1).await;
        running.signal(signal).await;
        let exit = running.exit().await;
        exit.assert_fails(code, &["{\"published\":1}"]);
        assert_eq!(history(&server, "p").await, data(&["one"]));
        assert!(!is_ended(&server, "p").await);
    }
}

/// Ctrl-C ends the producer too, whose end of file may be seen first.
#[tokio::test]
async fn a_signal_together_with_the_end_of_the_input_is_no_end() {
    let server = RedisServer::start().await;
    for _ in 0..10 {
        let mut running = pipe(&server, &[]).spawn_piped();
        running.write(b"one\n").await.unwrap();
        eventually("an entry", async || (server.cli(&["XLEN", "sse:p"]).await == "1").then_some(())).await;
        running.signal("INT").await;
        running.end_of_file();
        running.exit().await.assert_fails(130, &["{\"published\":1}"]);
        assert!(!is_ended(&server, "p").await);
        server.cli(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn a_channel_that_cannot_be_closed_is_refused_at_once() {
    let server = RedisServer::start().await;
    let exit = pipe(&server, &[]).config("[[channels]]\nprefix = ''\nephemeral = true").run_with(b"x\n").await;
    exit.assert_fails(
        2,
        &["sse-publisher: --channel: a pipe closes its channel: every event on p is ephemeral: an end has to be in history, so \
           that who comes late learns of it"],
    );
}
