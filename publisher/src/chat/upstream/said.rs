//! What an upstream says: one event's data, and the body of an error.

use serde::Deserialize;
use serde_json::Value;

/// Most characters told of what an upstream says went wrong.
const MAX_TOLD: usize = 500;
const DONE: &str = "[DONE]";

/// What one event means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Some text, perhaps none, and why this was the last of it.
    Chunk { text: String, finish: Option<String> },
    /// Nothing of the answer, such as what it cost.
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
}

#[derive(Deserialize)]
struct Choice {
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

/// Reads an event of this name.
pub(super) fn read(event: &str, data: &str) -> Said {
    if data.trim() == DONE {
        return Said::Done;
    }
    if event == "error" {
        return Said::Error(message(data.as_bytes()));
    }
    let chunk: Chunk = match serde_json::from_str(data) {
        Ok(chunk) => chunk,
        Err(error) => return Said::Nonsense(printable(&error.to_string())),
    };
    if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
        return Said::Error(printable(&of_value(&error)));
    }
    // Others than the first were not asked for.
    let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() else { return Said::Aside };
    let text = choice.delta.and_then(|delta| delta.content).unwrap_or_default();
    // Some say it is empty until it is there.
    let finish = choice.finish_reason.filter(|reason| !reason.is_empty()).map(|reason| printable(&reason));
    Said::Chunk { text, finish }
}

/// What a body says for itself, for people: the message of an error object, or the beginning of any other text.
pub(super) fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => printable(&of_value(value.get("error").filter(|error| !error.is_null()).unwrap_or(&value))),
        Err(_) => printable(&String::from_utf8_lossy(body)),
    }
}

/// Whether a body is an error object.
pub(super) fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|value| value.get("error").is_some_and(|error| !error.is_null()))
}

fn of_value(error: &Value) -> String {
    let members = ["message", "detail", "title"];
    let member = members.iter().find_map(|name| error.get(name).and_then(Value::as_str));
    match member.or(error.as_str()) {
        Some(text) => text.to_owned(),
        None => error.to_string(),
    }
}

/// At most 500 characters on one line, none of them for control.
fn printable(text: &str) -> String {
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_TOLD).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (r#"{"choices":[],"usage":{"total_tokens":7}}"#, Said::Aside),
            (r#"{"choices":null,"error":null}"#, Said::Aside),
            (r#"{"error":{"message":"over\nloaded","type":"x"}}"#, Said::Error("over loaded".into())),
            (r#"{"error":"model \"x\" not found"}"#, Said::Error("model \"x\" not found".into())),
            (r#"{"error":{"code":5}}"#, Said::Error(r#"{"code":5}"#.into())),
        ] {
            assert_eq!(read("message", data), said, "{data}");
        }
        assert_eq!(read("error", r#"{"message":"no"}"#), Said::Error("no".into()));
        for nonsense in ["", "{", "[1]x", "1", r#"{"choices":[{"delta":{"content":5}}]}"#] {
            assert!(matches!(read("message", nonsense), Said::Nonsense(_)), "{nonsense}");
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
            assert_eq!(message(body.as_bytes()), told, "{body}");
        }
        assert_eq!(message("한".repeat(600).as_bytes()), "한".repeat(500));
    }
}
