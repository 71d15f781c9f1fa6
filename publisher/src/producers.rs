//! The producers that a process runs itself: answers ([`crate::chat`]) and what the demo shows ([`crate::demo`]). The
//! publisher's service has them, and a gateway on the embedded broker.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::chat::{self, Chat, ChatSettings};
use crate::demo::{self, Demo};
use crate::http::url_limit;
use crate::metrics::AnswerMetrics;
use crate::{Cancel, Channels, Publish};

/// At the end, what producers have to say on their channels that they were stopped.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// What producers work with, all of it leading to the same broker.
#[derive(Clone)]
pub struct Seams {
    /// For answers: with the settings of channels.
    pub publish: Arc<dyn Publish>,
    /// For the demo: without them, since its events are durable whatever they say.
    pub bare: Arc<dyn Publish>,
    /// Reads histories.
    pub channels: Arc<dyn Channels>,
    /// Tells producers to stop.
    pub cancel: Arc<dyn Cancel>,
}

/// See above. Made once, before anything is served; what is not switched on is not there.
pub struct Producers {
    seams: Seams,
    chat: Option<Arc<Chat>>,
    demo: Option<Arc<Demo>>,
}

impl Producers {
    /// Answers where `chat` names an upstream or the demo is on; jobs and figures where the demo is on. Both settings were
    /// checked.
    ///
    /// # Errors
    /// Why there can be no client of the upstream.
    pub fn new(seams: Seams, chat: &ChatSettings, demo: bool) -> Result<Self, String> {
        // So that what there is to be watched does not depend on what is set.
        let _ = AnswerMetrics::new();
        let source = chat::source(chat, demo)?;
        let answers = |source| Chat::new(seams.publish.clone(), seams.cancel.clone(), source, chat.clone());
        let chat = source.map(answers);
        let demo = demo.then(|| Demo::new(seams.bare.clone(), seams.cancel.clone()));
        Ok(Self { seams, chat, demo })
    }

    /// Their routes: `/chat`, `/demo/jobs`. `max_url` in bytes.
    pub fn router(&self, max_url: usize) -> Router {
        let mut router = Router::new();
        if let Some(chat) = &self.chat {
            router = router.merge(chat::router(chat.clone()));
        }
        if let Some(demo) = &self.demo {
            router = router.merge(demo::router(demo.clone()).layer(from_fn_with_state(max_url, url_limit)));
        }
        router
    }

    /// Whether there is `POST /chat`.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.chat.is_some()
    }

    /// The demo's figures, until `stop`; returns at once where there is no demo.
    pub fn figures(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static + use<> {
        let seams = self.demo.as_ref().map(|_| self.seams.clone());
        async move {
            if let Some(Seams { bare, channels, .. }) = seams {
                demo::ticker(bare, channels, stop).await;
            }
        }
    }

    /// Takes no more questions and jobs, and waits for those under way; at `last_words` they are told to stop, and say so
    /// on their channels. With the broker away that may take two minutes: the caller has a deadline of its own.
    pub async fn end(&self, last_words: Instant) {
        let answers = async {
            let Some(chat) = &self.chat else { return };
            chat.close();
            if timeout_at(last_words, chat.wait()).await.is_err() {
                tracing::info!(answers = chat.under_way(), "answers are told to stop");
                chat.stop();
                chat.wait().await;
            }
        };
        let jobs = async {
            let Some(demo) = &self.demo else { return };
            demo.close();
            if timeout_at(last_words, demo.wait()).await.is_err() {
                tracing::info!(jobs = demo.under_way(), "jobs are told to stop");
                demo.stop();
                demo.wait().await;
            }
        };
        tokio::join!(answers, jobs);
    }
}
