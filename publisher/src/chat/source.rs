//! The seam to whatever makes the text of an answer ([`Source`]): an endpoint elsewhere, or a text of our own.

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// Most bytes of one [`Piece::Text`]: what arrives together and is more comes as several.
pub const MAX_PIECE: usize = 8 << 10;

/// Makes answers. Object-safe, and shared by all answers under way.
pub trait Source: Send + Sync + 'static {
    /// The answer to `question`, as it comes: texts, then [`Piece::End`] or an error as the last item. Nothing is asked of
    /// anybody before the stream is polled, and dropping it gives up at once whatever goes on for it. It may not be polled
    /// for a while, and is not to count that time against whoever answers.
    fn answer(&self, question: Question) -> BoxStream<'static, Result<Piece, SourceError>>;
}

/// What is asked: a conversation so far, its last message of a user being the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    messages: Vec<Message>,
    /// Place of the last message of a user.
    last: usize,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever runs the service.
    System,
    /// Who asks.
    User,
    /// Who answered before.
    Assistant,
}

/// What comes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Some more text, of at most [`MAX_PIECE`] bytes. Empty is allowed, and means nothing.
    Text(String),
    /// The answer is complete.
    End {
        /// Why it ends here: `stop`, `length`, or what else the source calls it.
        reason: String,
    },
}

/// Why there is no more of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.as_str())]
pub struct SourceError {
    /// What kind of failure, for programs.
    pub code: SourceCode,
    /// For people, without secrets: everybody who reads the channel sees it.
    pub detail: String,
}

/// Kinds of [`SourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceCode {
    /// There is no connection to be had.
    Unreachable,
    /// It answered with another status than 200.
    Status,
    /// Nothing came for too long.
    Stalled,
    /// What came is not what had been agreed on.
    Invalid,
    /// It stopped in the midst of the answer, and did not say that this is the end.
    Ended,
    /// It said itself that something went wrong.
    Said,
}

impl SourceCode {
    /// As it stands in the event `failed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "upstream_unreachable",
            Self::Status => "upstream_status",
            Self::Stalled => "upstream_stalled",
            Self::Invalid => "upstream_invalid",
            Self::Ended => "upstream_ended",
            Self::Said => "upstream_error",
        }
    }
}

impl SourceError {
    /// `detail` for people.
    #[must_use]
    pub fn new(code: SourceCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The stream had no [`Piece::End`].
    pub(super) fn unfinished() -> Self {
        Self::new(SourceCode::Ended, "the answer ended too early: it did not say that this was the end")
    }
}

impl Question {
    /// One message, of a user.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { messages: vec![Message { role: Role::User, content: text.into() }], last: 0 }
    }

    /// A conversation; `None` where no user says anything in it.
    #[must_use]
    pub fn of(messages: Vec<Message>) -> Option<Self> {
        let last = messages.iter().rposition(|message| message.role == Role::User)?;
        Some(Self { messages, last })
    }

    /// The last message of a user.
    #[must_use]
    pub fn text(&self) -> &str {
        self.messages.get(self.last).map_or("", |message| &message.content)
    }

    /// All messages, in order.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
}
