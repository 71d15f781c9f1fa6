//! Who is there: what each node says of itself, and how all of them are asked how many connections they have.
//!
//! On Redis each gateway *beats*: every few seconds it says that it is there, by `sse_nodes`, which keeps it in the hash `sse.nodes`
//! by the name of its life, its *incarnation*, with the text of a [`Beat`]. What is not renewed is over, by the clock of Redis.
//!
//! A question is an entry of the stream `sse.questions`, field [`FIELD`], which every gateway reads; its answers are items of the list
//! `sse.answers:<id>`, one for each gateway, which lives for seconds:
//!
//! ```json
//! {"id": "5f0c…", "of": {"channel": "chat:7"}}
//! {"id": "5f0c…", "of": {"user": "42"}}
//! {"incarnation": "9a31…", "connections": 2}
//! ```
//!
//! Nothing is counted up and down over the nodes, so no count drifts when one is killed.

use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::order::name;

/// Of an entry of the stream: where the question is.
pub const FIELD: &str = "q";
/// Longest text of a question that is looked at, in bytes: a name, each byte escaped.
pub const MAX_QUESTION_BYTES: usize = 4 << 10;
/// Longest text of a [`Beat`], in bytes.
pub const MAX_BEAT_BYTES: usize = 1_024;

/// Whose connections are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Those on a channel.
    Channel(#[serde(with = "name")] Channel),
    /// Those that were opened with a token of this `sub`, and those on the channel `user:<id>`; one that is both counts once.
    User(String),
}

/// To all nodes: how many have you?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// 32 hexadecimal digits: where the answers go.
    pub id: String,
    /// What is asked.
    pub of: Of,
}

/// What one node says to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which node, by the name of its present life.
    pub incarnation: String,
    /// How many it has.
    pub connections: u64,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// It takes connections.
    Serving,
    /// It is stopping.
    Draining,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

/// What a node says of itself. A later version may say more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its name (`node`), as in `sse.open`.
    pub node: String,
    /// Of the program.
    pub version: String,
    /// When this life of it began, Unix milliseconds by its own clock.
    pub started: u64,
    /// What it is doing.
    pub state: Doing,
    /// Open event streams.
    pub connections: u64,
    /// Channels that it is subscribed to.
    pub channels: u64,
}

impl Question {
    /// As it travels.
    ///
    /// # Errors
    /// None that is known: these are texts.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// From what travelled; `None` where it is no question that is known here.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_QUESTION_BYTES {
            return None;
        }
        let question: Self = serde_json::from_slice(text).ok()?;
        let is_sound = question.id.len() == 32 && question.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sound.then_some(question)
    }
}

impl Answer {
    /// As it travels.
    ///
    /// # Errors
    /// None that is known: these are a text and a number.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// From what travelled; `None` where it is no answer.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

impl Beat {
    /// As it is kept.
    ///
    /// # Errors
    /// None that is known: these are texts and numbers.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// From what is kept; `None` where it is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn bytes_of_questions_and_answers() {
        for (of, text) in [
            (Of::Channel(Channel::parse("chat:7").unwrap()), r#"{"channel":"chat:7"}"#),
            (Of::User("42".to_owned()), r#"{"user":"42"}"#),
        ] {
            let question = Question { id: ID.to_owned(), of };
            let json = format!(r#"{{"id":"{ID}","of":{text}}}"#);
            assert_eq!(question.to_json().unwrap(), json);
            assert_eq!(Question::parse(json.as_bytes()), Some(question));
        }
        let answer = Answer { incarnation: "9a".to_owned(), connections: 2 };
        assert_eq!(answer.to_json().unwrap(), r#"{"incarnation":"9a","connections":2}"#);
        assert_eq!(Answer::parse(br#"{"incarnation":"9a","connections":2}"#), Some(answer));
    }

    #[test]
    fn bytes_of_a_beat_to_which_later_versions_may_add() {
        let beat = Beat {
            node: "gateway-1".to_owned(),
            version: "0.1.0".to_owned(),
            started: 1_764_194_400_000,
            state: Doing::Serving,
            connections: 2,
            channels: 1,
        };
        let json = r#"{"node":"gateway-1","version":"0.1.0","started":1764194400000,"state":"serving","connections":2,"channels":1}"#;
        assert_eq!(beat.to_json().unwrap(), json);
        assert_eq!(Beat::parse(json.as_bytes()), Some(beat.clone()));
        let later = json.replace("\"serving\"", "\"dreaming\"").replace("\"channels\"", "\"more\":[1],\"channels\"");
        assert_eq!(Beat::parse(later.as_bytes()), Some(Beat { state: Doing::Unknown, ..beat }));
    }

    #[test]
    fn what_is_no_question_is_left_alone() {
        let long = "x".repeat(MAX_QUESTION_BYTES);
        for text in [
            "".to_owned(),
            "{}".to_owned(),
            format!(r#"{{"id":"{ID}"}}"#),
            format!(r#"{{"id":"{ID}","of":{{"planet":"x"}}}}"#),
            format!(r#"{{"id":"{ID}","of":{{"channel":"a b"}}}}"#),
            format!(r#"{{"id":"{ID}","of":{{"user":"{long}"}}}}"#),
            format!(r#"{{"id":"{ID}","of":{{"user":"42"}},"more":1}}"#),
            r#"{"id":"00","of":{"user":"42"}}"#.to_owned(),
            r#"{"id":"../../../../../../../../../../..","of":{"user":"42"}}"#.to_owned(),
        ] {
            assert_eq!(Question::parse(text.as_bytes()), None, "{text}");
        }
    }
}
