//! The body of `POST /chat`: a question, or a conversation, read as strictly as a publish.

use std::fmt;

use ::http::StatusCode;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::channel::Channel;

use super::source::{Message, Question, Role};
use crate::http::DEFAULT_MAX_DATA;
use crate::http::problem::Problem;

/// A string type, as errors call it: JSON can escape half a surrogate pair, which is no text.
const STRING: &str = "a string of Unicode text";

/// What is asked, and where the answer is to go if somebody cares.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) channel: Option<Channel>,
}

/// The members of an object in order, unread.
struct Object<'a>(Vec<(String, &'a RawValue)>);

/// Reads a whole body.
///
/// # Errors
/// 400, 413 or 422, naming the field.
pub(super) fn read(json: &[u8]) -> Result<Asked, Problem> {
    let object: Object<'_> = serde_json::from_slice(json).map_err(|error| Problem::malformed_json(&error, 1))?;
    let [question, messages, channel] = object.members(["question", "messages", "channel"], "")?;
    let channel: Option<String> = channel.map(|value| typed("channel", value, STRING)).transpose()?;
    let channel = channel.map(|name| crate::http::channel("channel", &name)).transpose()?;
    let (question, field) = match (question, messages) {
        (Some(_), Some(_)) => {
            let detail = "question and messages contradict each other, give one of them";
            return Err(Problem::conflict("messages", detail));
        }
        (None, None) => return Err(Problem::missing("question", "one of question and messages is needed")),
        (Some(question), None) => (Question::new(typed::<String>("question", question, STRING)?), "question"),
        (None, Some(messages)) => (conversation(messages)?, "messages"),
    };
    check_text(question.text(), field)?;
    Ok(Asked { question, channel })
}

fn conversation(value: &RawValue) -> Result<Question, Problem> {
    let values: Vec<&RawValue> = typed("messages", value, "an array of objects")?;
    let mut messages = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        messages.push(message(&format!("messages[{i}]"), value)?);
    }
    let detail = "messages has no message whose role is user, which is the one that is answered";
    Question::of(messages).ok_or_else(|| Problem::invalid("messages", detail))
}

fn message(field: &str, value: &RawValue) -> Result<Message, Problem> {
    let object: Object<'_> = typed(field, value, "an object")?;
    let [role, content] = object.members(["role", "content"], field)?;
    let needed = |name: &str, value: Option<&'_ RawValue>| {
        let missing = Problem::new(StatusCode::BAD_REQUEST, "missing-value", "missing value");
        value
            .map(RawValue::to_owned)
            .ok_or_else(|| missing.field(format!("{field}.{name}")).detail(format!("{field}.{name} is needed")))
    };
    let (role, content) = (needed("role", role)?, needed("content", content)?);
    let role: Role = typed(&format!("{field}.role"), &role, "system, user or assistant")?;
    let content = typed(&format!("{field}.content"), &content, STRING)?;
    Ok(Message { role, content })
}

/// The question becomes an event.
fn check_text(text: &str, field: &'static str) -> Result<(), Problem> {
    #[derive(Serialize)]
    struct Text<'a> {
        text: &'a str,
    }
    if text.trim().is_empty() {
        return Err(Problem::invalid(field, "there is nothing in what is asked"));
    }
    let bytes = serde_json::to_vec(&Text { text }).map_or(usize::MAX, |json| json.len());
    if bytes > DEFAULT_MAX_DATA {
        let problem = Problem::too_large(field, DEFAULT_MAX_DATA, "bytes");
        return Err(problem.detail(format!(
            "what is asked has {bytes} bytes as the JSON of an event, the limit is {DEFAULT_MAX_DATA}"
        )));
    }
    Ok(())
}

fn typed<'a, T: Deserialize<'a>>(field: &str, value: &'a RawValue, wanted: &str) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|_| Problem::wrong_type(field.to_owned(), wanted))
}

impl<'a> Object<'a> {
    /// The values of `names`; `within` is what the object itself is called, if anything.
    ///
    /// # Errors
    /// 422 for any other key, 400 for one that is there twice.
    fn members<const N: usize>(self, names: [&str; N], within: &str) -> Result<[Option<&'a RawValue>; N], Problem> {
        let mut values = [None; N];
        for (key, value) in self.0 {
            let dot = if within.is_empty() { "" } else { "." };
            let field = format!("{within}{dot}{key}");
            let Some(place) = names.iter().position(|name| *name == key) else {
                return Err(Problem::unknown_key(&field, format!("unknown key, known ones are {}", names.join(", "))));
            };
            if values[place].replace(value).is_some() {
                return Err(Problem::duplicate_key(field));
            }
        }
        Ok(values)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Asked {
        read(json.as_bytes()).unwrap_or_else(|problem| panic!("{json}: {problem:?}"))
    }

    fn told(json: &str) -> String {
        serde_json::to_string(&read(json.as_bytes()).unwrap_err()).unwrap()
    }

    #[test]
    fn questions_and_conversations() {
        let channel = Channel::parse("a").unwrap();
        assert_eq!(asked(r#"{"question":"왜?"}"#), Asked { question: Question::new("왜?"), channel: None });
        assert_eq!(asked(r#"{"channel":"a","question":"x"}"#).channel, Some(channel));
        let question = asked(
            r#"{"messages":[{"role":"system","content":""},{"content":"one","role":"user"},
               {"role":"assistant","content":"two"},{"role":"user","content":"three"},{"role":"assistant","content":""}]}"#,
        )
        .question;
        assert_eq!((question.text(), question.messages().len()), ("three", 5));
        assert_eq!(question.messages()[2], Message { role: Role::Assistant, content: "two".into() });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, status, field) in [
            ("", 400, "body"),
            ("[]", 400, "body"),
            (r#"{"question":"x""#, 400, "body"),
            ("{}", 400, "question"),
            (r#"{"question":5}"#, 400, "question"),
            (r#"{"question":null}"#, 400, "question"),
            (r#"{"question":" \n"}"#, 400, "question"),
            (r#"{"question":"\ud800"}"#, 400, "question"),
            (r#"{"question":"a","question":"b"}"#, 400, "question"),
            (r#"{"question":"a","messages":[]}"#, 400, "messages"),
            (r#"{"question":"a","channel":""}"#, 400, "channel"),
            (r#"{"question":"a","channel":"sse.x"}"#, 400, "channel"),
            (r#"{"question":"a","channel":7}"#, 400, "channel"),
            (r#"{"question":"a","model":"x"}"#, 422, "model"),
            (r#"{"messages":{}}"#, 400, "messages"),
            (r#"{"messages":[]}"#, 400, "messages"),
            (r#"{"messages":[{"role":"system","content":"x"}]}"#, 400, "messages"),
            (r#"{"messages":["x"]}"#, 400, "messages[0]"),
            (r#"{"messages":[{"role":"user"}]}"#, 400, "messages[0].content"),
            (r#"{"messages":[{"content":"x"}]}"#, 400, "messages[0].role"),
            (r#"{"messages":[{"role":"tool","content":"x"}]}"#, 400, "messages[0].role"),
            (r#"{"messages":[{"role":"user","content":["x"]}]}"#, 400, "messages[0].content"),
            (r#"{"messages":[{"role":"user","content":"x","name":"y"}]}"#, 422, "messages[0].name"),
        ] {
            let text = told(json);
            assert!(text.contains(&format!(r#""status":{status},"#)), "{json}: {text}");
            assert!(text.contains(&format!(r#""field":"{field}""#)), "{json}: {text}");
        }
    }

    #[test]
    fn a_question_is_an_event() {
        let most = DEFAULT_MAX_DATA - r#"{"text":""}"#.len();
        asked(&format!(r#"{{"question":"{}"}}"#, "x".repeat(most)));
        let text = told(&format!(r#"{{"question":"{}"}}"#, "x".repeat(most + 1)));
        assert!(text.contains(r#""status":413"#) && text.contains(r#""field":"question","limit":65536"#), "{text}");
        let newlines = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, r"x\n".repeat(30_000));
        assert!(told(&newlines).contains(r#""field":"messages","limit":65536"#));
    }
}
