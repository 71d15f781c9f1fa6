//! An upstream that answers: any endpoint that speaks OpenAI's chat completions as an event stream.
//!
//! | module | what it holds |
//! |---|---|
//! | [`endpoint`] | its address, and the connection to it |
//! | [`answer`] | one answer as it comes, and how long it may keep silent |
//! | [`said`] | what its events mean |
//! | [`secrets`] | what nobody is told of what it says |
//!
//! A connection for each answer, no redirects, no proxies. Whoever drops the stream closes the connection, by which the
//! upstream learns that nobody wants the rest. Nothing of what it says is logged here, and nobody who reads
//! the answer learns its key or where it is.

mod answer;
mod endpoint;
mod said;
mod secrets;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde::Serialize;

use self::answer::Answer;
use self::endpoint::Connector;
pub use self::endpoint::Endpoint;
pub(crate) use self::endpoint::trusting_the_system;
use self::secrets::Secrets;
use super::ChatSettings;
use super::source::{Message, Piece, Question, Role, Source, SourceCode, SourceError};

/// What it is asked to answer with where nothing is said: some take any word, all want one.
const DEFAULT_MODEL: &str = "default";

/// See above.
pub struct Upstream {
    shared: Arc<Shared>,
}

/// What all answers have in common.
struct Shared {
    connector: Connector,
    model: String,
    key: Option<String>,
    secrets: Secrets,
    system: Option<Message>,
    stall: Duration,
}

/// What is sent.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<&'a Message>,
    stream: bool,
}

/// How far an answer is.
enum State {
    Asking(Question),
    Answering(Box<Answer>),
    Over,
}

impl Upstream {
    /// The upstream of `settings`; `None` where none is set. Nothing is asked of it yet.
    ///
    /// # Errors
    /// That its address is none.
    pub fn new(settings: &ChatSettings) -> Result<Option<Self>, String> {
        let Some(url) = &settings.upstream else { return Ok(None) };
        Ok(Some(Self::with(Connector::new(Endpoint::parse(url)?), settings)))
    }

    fn with(connector: Connector, settings: &ChatSettings) -> Self {
        let system = settings.system.clone().map(|content| Message { role: Role::System, content });
        let shared = Shared {
            secrets: Secrets::new(settings.key.as_deref(), connector.endpoint()),
            connector,
            model: settings.model.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            key: settings.key.clone(),
            system,
            stall: settings.stall,
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Source for Upstream {
    fn answer(&self, question: Question) -> BoxStream<'static, Result<Piece, SourceError>> {
        let shared = self.shared.clone();
        unfold(State::Asking(question), move |state| {
            let shared = shared.clone();
            async move { step(&shared, state).await }
        })
        .boxed()
    }
}

async fn step(shared: &Arc<Shared>, state: State) -> Option<(Result<Piece, SourceError>, State)> {
    let mut answer = match state {
        State::Over => return None,
        State::Answering(answer) => answer,
        State::Asking(question) => match answer::ask(shared, &question).await {
            Ok(answer) => Box::new(answer),
            Err(error) => return Some((Err(error), State::Over)),
        },
    };
    match answer.next().await {
        Ok(piece @ Piece::Text(_)) => Some((Ok(piece), State::Answering(answer))),
        last => Some((last, State::Over)),
    }
}

impl Shared {
    fn request(&self, question: &Question) -> Result<Request<Full<Bytes>>, SourceError> {
        let messages = self.system.iter().chain(question.messages()).collect();
        let body = Body { model: &self.model, messages, stream: true };
        let endpoint = self.connector.endpoint();
        let unfit =
            |what: &str| SourceError::new(SourceCode::Unreachable, format!("the upstream cannot be asked: {what}"));
        let body = serde_json::to_vec(&body).map_err(|_| unfit("the question is no JSON"))?;
        let mut request = Request::post(&endpoint.target)
            .header(HOST, &endpoint.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, concat!("sse-publisher/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = &self.key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| unfit("its key is no header"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::from(body)).map_err(|_| unfit("its address is no target"))
    }
}

/// The innermost reason, in the system's words.
fn describe(error: &hyper::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
