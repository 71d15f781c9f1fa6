//! Which keys two configurations differ in.

use serde::Serialize;
use serde_json::{Map, Value};

/// The keys in which `new` is not as `old`, such as `limits.max_data`, in the order of the alphabet; never a value, which may
/// be a secret. Arrays are one value.
///
/// Of a type that cannot be written as JSON it is none.
#[must_use]
pub fn differences<T: Serialize>(old: &T, new: &T) -> Vec<String> {
    let mut keys = Vec::new();
    if let (Ok(old), Ok(new)) = (serde_json::to_value(old), serde_json::to_value(new)) {
        compare("", &old, &new, &mut keys);
    }
    keys.sort_unstable();
    keys
}

fn compare(path: &str, old: &Value, new: &Value, keys: &mut Vec<String>) {
    if old == new {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return keys.push(path.to_owned()) };
    let get = |fields: &Map<String, Value>, name: &str| fields.get(name).cloned().unwrap_or_default();
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(&path, &get(old, name), &get(new, name), keys);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_what_differs_and_no_value() {
        let old = json!({"a": 1, "b": {"c": "x", "d": null, "e": 2}, "f": [1], "g": {"h": 1}});
        let new = json!({"a": 1, "b": {"c": "y", "d": 3, "e": 2}, "f": [1, 2], "i": 0});
        assert_eq!(differences(&old, &new), ["b.c", "b.d", "f", "g", "i"]);
        assert_eq!(differences(&old, &old), [""; 0]);
    }
}
