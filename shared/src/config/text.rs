//! Text of environment and flags into values, and values into text that may be shown. Must not know keys or places.

use ::config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use super::path::Path;

/// A longer value is cut where it is shown; in characters.
const MAX_SHOWN: usize = 80;

/// What a text may mean: the first reading, and others should that one not be wanted.
pub(super) struct Reading {
    pub(super) value: Value,
    pub(super) others: Vec<Value>,
}

/// Reads `text` by the shape of the default. What cannot be read so stays a string, and is refused later with what was
/// expected. `None`: an array of tables, which has no form in one line.
pub(super) fn read(shape: &Json, text: &str, place: &str) -> Option<Reading> {
    let origin = place.to_owned();
    let value = |kind: ValueKind| Value::new(Some(&origin), kind);
    let list = |read: &dyn Fn(&str) -> ValueKind| {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        value(ValueKind::Array(items.map(|item| value(read(item))).collect()))
    };
    let string = |text: &str| ValueKind::from(text);

    let only = |kind: ValueKind| Some(Reading { value: value(kind), others: Vec::new() });
    match shape {
        Json::Null if text.is_empty() => only(ValueKind::Nil),
        Json::Null => {
            let others = vec![value(guess(text)), list(&string), list(&guess)];
            Some(Reading { value: value(string(text)), others })
        }
        Json::Array(items) => match items.first() {
            Some(Json::Object(_) | Json::Array(_)) => None,
            Some(first) if !first.is_null() => {
                Some(Reading { value: list(&|item| scalar(first, item)), others: Vec::new() })
            }
            _ => Some(Reading { value: list(&string), others: vec![list(&guess)] }),
        },
        shape => only(scalar(shape, text)),
    }
}

fn scalar(shape: &Json, text: &str) -> ValueKind {
    let read = match shape {
        Json::Bool(_) => boolean(text),
        Json::Number(number) if number.is_f64() => float(text),
        Json::Number(_) => integer(text),
        _ => None,
    };
    read.unwrap_or_else(|| text.into())
}

fn guess(text: &str) -> ValueKind {
    boolean(text).or_else(|| integer(text)).or_else(|| float(text)).unwrap_or_else(|| text.into())
}

fn boolean(text: &str) -> Option<ValueKind> {
    text.parse::<bool>().ok().map(ValueKind::Boolean)
}

fn integer(text: &str) -> Option<ValueKind> {
    text.parse().map(ValueKind::I64).or_else(|_| text.parse().map(ValueKind::U64)).ok()
}

fn float(text: &str) -> Option<ValueKind> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float)
}

/// A default as a value; nobody said it, so it has no place.
pub(super) fn plain_value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => ValueKind::Nil,
        Json::Bool(value) => ValueKind::Boolean(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => ValueKind::I64(value),
            (None, Some(value)) => ValueKind::U64(value),
            (None, None) => ValueKind::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(value) => ValueKind::String(value.clone()),
        Json::Array(items) => ValueKind::Array(items.iter().map(plain_value).collect()),
        Json::Object(fields) => {
            ValueKind::Table(fields.iter().map(|(name, inner)| (name.clone(), plain_value(inner))).collect())
        }
    };
    Value::new(None, kind)
}

/// The same value, said at `place`.
pub(super) fn said_at(value: Value, place: &String) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(name, inner)| (name, said_at(inner, place))).collect())
        }
        ValueKind::Array(array) => ValueKind::Array(array.into_iter().map(|inner| said_at(inner, place)).collect()),
        kind => kind,
    };
    Value::new(Some(place), kind)
}

/// The names in a table, in order.
pub(super) fn sorted(table: &Map<String, Value>) -> Vec<String> {
    let mut names: Vec<String> = table.keys().cloned().collect();
    names.sort_unstable();
    names
}

/// A value as a person would write it, arrays and tables by their name only.
pub(super) fn described(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) => "an array".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        // Not "20" for 20.0: the difference may be what is wrong.
        ValueKind::Float(number) => format!("{number:?}"),
        other => other.to_string(),
    }
}

/// A described value fit for a log: cut when long, `None` when it may be a secret.
pub(super) fn shown(path: &Path, value: &str) -> Option<String> {
    let key = path.to_string().to_lowercase();
    let secret = ["secret", "password", "token", "key"].iter().any(|word| key.contains(word));
    let credentials = value.starts_with('"') && value.contains("://") && value.contains('@');
    // A password of digits alone reads as a number, and is one all the same. What a value is may be told.
    let told_by_kind = matches!(value, "an array" | "a table" | "nothing");
    if (secret && !told_by_kind) || credentials {
        return None;
    }
    if value.chars().count() <= MAX_SHOWN {
        return Some(value.to_owned());
    }
    let mut cut: String = value.chars().take(MAX_SHOWN).collect();
    cut.push_str("...");
    Some(cut)
}

/// A value of one word, fit for a log.
pub(super) fn word(path: &Path, kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::Nil | ValueKind::Array(_) | ValueKind::Table(_) => None,
        kind => shown(path, &described(kind)),
    }
}

/// `expected a table, got 1`.
pub(super) fn mismatch(path: &Path, expected: &str, got: &str) -> String {
    let got = shown(path, got).map(|got| format!(", got {got}")).unwrap_or_default();
    format!("invalid value for {:?}: expected {expected}{got}", path.to_string())
}
