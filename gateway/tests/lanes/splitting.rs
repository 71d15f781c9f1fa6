//! Heads come in pieces, whatever their sender meant by it.

use fastrand::Rng;

use super::exchange::{Both, closed, get, kept, stream};

/// With one of everything that takes part in where a head ends, and what it is.
fn request() -> Vec<u8> {
    let lines = "Accept: text/event-stream\r\nConnection: keep-alive\r\nContent-Length: 0\r\n";
    ("\r\n".to_owned() + &stream(lines)).into_bytes()
}

/// `count` places within `bytes`, in order, each once.
fn places(rng: &mut Rng, bytes: usize, count: usize) -> Vec<usize> {
    let mut places = rng.choose_multiple(1..bytes, count);
    places.sort_unstable();
    places
}

#[tokio::test]
async fn at_every_byte() {
    let whole = request();
    let cases = (1..whole.len()).map(|at| kept(format!("cut before byte {at}"), &whole, &[200]).in_pieces(vec![at]));
    Both::start("").await.compare(cases.collect()).await;
}

#[tokio::test]
async fn byte_by_byte() {
    let by_bytes = |request: &str| (1..request.len()).collect();
    let (lf, wrong) = ("GET /events?channel=a HTTP/1.1\nHost: x\n\n", get("/events", ""));
    let cases = vec![
        kept("a stream", request(), &[200]).in_pieces((1..request().len()).collect()),
        kept("by line feeds", lf, &[200]).in_pieces(by_bytes(lf)),
        kept("no stream", &wrong, &[400]).in_pieces(by_bytes(&wrong)),
    ];
    Both::start("").await.compare(cases).await;
}

#[tokio::test]
async fn in_random_pieces() {
    let seed = Rng::new().u64(..);
    let mut rng = Rng::with_seed(seed);
    let body = r#"{"channels":["a"]}"#;
    let post = "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n";
    let chunked =
        "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut cases = Vec::new();
    for round in 0..8 {
        for (request, status) in [
            (stream("Last-Event-ID:\r\n"), &[200][..]),
            (get("/nothing", "") + &stream(""), &[404, 200]),
            (get("/events", "") + &stream("Content-Length: 0\r\n"), &[400, 200]),
            (format!("{post}{body}"), &[200]),
            (format!("{chunked}12\r\n{body}\r\n0\r\n\r\n"), &[200]),
        ] {
            let count = rng.usize(1..6);
            let places = places(&mut rng, request.len(), count);
            cases.push(kept(format!("seed {seed}, round {round}: {places:?}"), request, status).in_pieces(places));
        }
    }
    Both::start("").await.compare(cases).await;
}

#[tokio::test]
async fn long_ones() {
    let empty = stream("X: \r\n");
    let head = |bytes: usize| stream(&format!("X: {}\r\n", "y".repeat(bytes - empty.len())));
    let (longest, longer) = (head(64 << 10), head((64 << 10) + 1));
    let pieces: Vec<usize> = (1..16).map(|piece| piece << 12).collect();
    let cases = vec![
        kept("the longest head", &longest, &[200]).in_pieces(pieces.clone()),
        kept("all but the last byte of it", &longest, &[200]).in_pieces(vec![longest.len() - 1]),
        kept("the end of it alone", &longest, &[200]).in_pieces(vec![longest.len() - 2]),
        closed("a head one byte longer", &longer, &[431]).in_pieces(pieces),
    ];
    Both::start("").await.compare(cases).await;
}
