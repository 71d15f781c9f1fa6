//! A client that reads an event stream as a browser would.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use shared::event_stream::decode::{Decoded, Decoder, Received};

use super::soon;

/// An open event stream. Dropping it closes its connection.
pub struct Stream {
    pub status: u16,
    pub headers: HeaderMap,
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    decoder: Decoder,
    /// Everything read so far.
    pub bytes: Vec<u8>,
}

impl Stream {
    /// Sends the request and waits for the head of the response.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = soon("the head of an event stream", request.send()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, chunks: response.bytes_stream().boxed(), decoder: Decoder::new(), bytes: Vec::new() }
    }

    /// The next thing that the stream says; `None` at its end. An error counts as the end.
    pub async fn next(&mut self) -> Option<Decoded> {
        loop {
            if let Some(item) = self.decoder.next() {
                return Some(item);
            }
            let chunk = soon("something on an event stream", self.chunks.next()).await?.ok()?;
            self.bytes.extend_from_slice(&chunk);
            self.decoder.feed(&chunk).unwrap();
        }
    }

    /// The next event that is not the gateway's own.
    pub async fn event(&mut self) -> Option<Received> {
        loop {
            match self.next().await? {
                Decoded::Event(event) if !event.event.starts_with("sse.") => return Some(event),
                _ => {}
            }
        }
    }

    /// The data of the next event that is not the gateway's own.
    pub async fn data(&mut self) -> Option<String> {
        self.event().await.map(|event| event.data)
    }

    /// Reads on until `sse.open`: from then on everything published arrives. Returns its data.
    pub async fn opened(&mut self) -> serde_json::Value {
        loop {
            match self.next().await.expect("an event stream ended before it was open") {
                Decoded::Event(event) if event.event == "sse.open" => {
                    return serde_json::from_str(&event.data).unwrap();
                }
                _ => {}
            }
        }
    }

    /// Reads to the end. Returns the rest of what was said.
    pub async fn rest(&mut self) -> Vec<Decoded> {
        let mut rest = Vec::new();
        while let Some(item) = self.next().await {
            rest.push(item);
        }
        rest
    }
}
