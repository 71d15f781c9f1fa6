//! What an upstream says: one event's data, and the body of an error.

use serde::Deserialize;
use serde_json::Value;

use super::secrets::Secrets;

/// Most characters told of what an upstream says went wrong.
const MAX_TOLD: usize = 500;
const DONE: &str = "[DONE]";
/// What OpenAI calls ends. None of them is a secret, even if a key is so short that it is within.
const REASONS: [&str; 5] = ["stop", "length", "content_filter", "tool_calls", "function_call"];

/// What one event means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Some text, perhaps none, and why this was the last of it.
    Chunk { text: String, finish: Option<String> },
    /// Nothing of the answer, such as what it cost, or nothing at all.
    Aside,
    /// `[DONE]`.
    Done,
    /// That something went wrong, in its words.
    Error(String),
    /// Nothing that can be understood.
    Nonsense(String),
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    error: Option<Value>,
    /// FastChat's, with the reason in `text`.
    #[serde(default)]
    error_code: Option<Value>,
    #[serde(default)]
    object: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

/// Reads an event of this name; its words go to readers without `secrets`.
pub(super) fn read(event: &str, data: &str, secrets: &Secrets) -> Said {
    if data.trim() == DONE {
        return Said::Done;
    }
    if event == "error" {
        return Said::Error(message(data.as_bytes(), secrets));
    }
    if data.trim().is_empty() {
        return Said::Aside;
    }
    let chunk: Chunk = match serde_json::from_str(data) {
        Ok(chunk) => chunk,
        Err(error) => return Said::Nonsense(words(&error.to_string(), secrets)),
    };
    if chunk.is_error() {
        return Said::Error(message(data.as_bytes(), secrets));
    }
    // Others than the first were not asked for.
    let mut choices = chunk.choices.unwrap_or_default().into_iter();
    let Some(choice) = choices.find(|choice| choice.index == 0) else { return Said::Aside };
    let text = choice.delta.and_then(|delta| delta.content).unwrap_or_default();
    // Some say it is empty until it is there.
    let finish = choice.finish_reason.filter(|reason| !reason.is_empty());
    let finish = finish.map(|reason| if REASONS.contains(&&*reason) { reason } else { words(&reason, secrets) });
    Said::Chunk { text, finish }
}

impl Chunk {
    fn is_error(&self) -> bool {
        let says_why = self.error.as_ref().is_some_and(|error| !error.is_null());
        // 0 is none.
        let has_code = self.error_code.as_ref().is_some_and(|code| !code.is_null() && *code != 0);
        says_why || has_code || self.object.as_ref().is_some_and(|object| object == "error")
    }
}

/// What a body says for itself, for people: the message of an error object, or the beginning of any other text. Without
/// `secrets`.
pub(super) fn message(body: &[u8], secrets: &Secrets) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return words(&String::from_utf8_lossy(body), secrets);
    };
    let value = secrets.hide_within(value);
    // Once more, as numbers may be secrets too.
    words(&of_value(value.get("error").filter(|error| !error.is_null()).unwrap_or(&value)), secrets)
}

/// Whether a body is an error object.
pub(super) fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Chunk>(body).is_ok_and(|chunk| chunk.is_error())
}

fn of_value(error: &Value) -> String {
    let members = ["message", "detail", "title", "text"];
    let member = members.iter().find_map(|name| error.get(name).and_then(Value::as_str));
    match member.or(error.as_str()) {
        Some(text) => text.to_owned(),
        None => error.to_string(),
    }
}

/// An upstream's words as they are told.
pub(super) fn words(text: &str, secrets: &Secrets) -> String {
    printable(&secrets.hide(text))
}

/// At most 500 characters on one line, none of them for control.
pub(super) fn printable(text: &str) -> String {
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_TOLD).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Endpoint;
    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(None, &Endpoint::parse("http://upstream.example/").unwrap())
    }

    fn chunk(text: &str, finish: Option<&str>) -> Said {
        Said::Chunk { text: text.to_owned(), finish: finish.map(str::to_owned) }
    }

    #[test]
    fn what_endpoints_send() {
        for (data, said) in [
            ("[DONE]", Said::Done),
            (" [DONE] ", Said::Done),
            (
                r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
                chunk("", None),
            ),
            (r#"{"choices":[{"delta":{"content":"한\r\n"}}]}"#, chunk("한\r\n", None)),
            (r#"{"choices":[{"delta":{"content":null},"finish_reason":""}]}"#, chunk("", None)),
            (r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#, chunk("", Some("length"))),
            (
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"},{"delta":{"content":"b"}}]}"#,
                chunk("a", Some("stop")),
            ),
            (r#"{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"length"}]}"#, Said::Aside),
            (r#"{"choices":[],"usage":{"total_tokens":7}}"#, Said::Aside),
            (r#"{"choices":null,"error":null}"#, Said::Aside),
            (r#"{"error":{"message":"over\nloaded","type":"x"}}"#, Said::Error("over loaded".into())),
            (r#"{"error":"model \"x\" not found"}"#, Said::Error("model \"x\" not found".into())),
            ("", Said::Aside),
            (" \n ", Said::Aside),
            (r#"{"text":"NETWORK ERROR","error_code":50004}"#, Said::Error("NETWORK ERROR".into())),
            (r#"{"object":"error","message":"no","code":40303}"#, Said::Error("no".into())),
            (
                r#"{"object":"chat.completion.chunk","error_code":0,"choices":[{"delta":{"content":"a"}}]}"#,
                chunk("a", None),
            ),
            (r#"{"error":{"code":5}}"#, Said::Error(r#"{"code":5}"#.into())),
        ] {
            assert_eq!(read("message", data, &secrets()), said, "{data}");
        }
        assert_eq!(read("error", r#"{"message":"no"}"#, &secrets()), Said::Error("no".into()));
        for nonsense in ["{", "[1]x", "1", r#"{"choices":[{"delta":{"content":5}}]}"#] {
            assert!(matches!(read("message", nonsense, &secrets()), Said::Nonsense(_)), "{nonsense}");
        }
    }

    #[test]
    fn bodies_of_errors() {
        for (body, told) in [
            (r#"{"error":{"message":"no such model"}}"#, "no such model"),
            (r#"{"error":"no"}"#, "no"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("\x1b[1mbad\r\ngateway\n", "[1mbad  gateway"),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes(), &secrets()), told, "{body}");
        }
        assert_eq!(message("한".repeat(600).as_bytes(), &secrets()), "한".repeat(500));
    }
}
