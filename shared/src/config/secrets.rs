//! What of a value may not be shown to people. Must not know any binary's settings: it goes by how keys are called and by what
//! values look like, so that a new secret is hidden before anybody thinks of it.

use serde_json::Value as Json;

/// Stands in the place of what is hidden.
const HIDDEN: &str = "***";
/// Words in a key's name that make its text a secret.
const SECRET: [&str; 4] = ["secret", "password", "token", "key"];
/// A key that ends so holds the name of a file.
const FILE: &str = "_file";

/// `value` of `key` as it may be shown, where that is otherwise than it is. `plain`: keys that only sound like secrets.
pub(super) fn hide(key: &str, value: &Json, plain: &[&str]) -> Option<Json> {
    match value {
        Json::String(_) if is_secret(key, plain) => Some(HIDDEN.into()),
        Json::String(text) => hide_in_url(text).map(Json::String),
        Json::Array(items) => {
            let hidden: Vec<_> = items.iter().map(|item| hide(key, item, plain)).collect();
            let any = hidden.iter().any(Option::is_some);
            any.then(|| hidden.into_iter().zip(items).map(|(shown, item)| shown.unwrap_or(item.clone())).collect())
        }
        _ => None,
    }
}

fn is_secret(key: &str, plain: &[&str]) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    !plain.contains(&key) && !name.ends_with(FILE) && name.split('_').any(|word| SECRET.contains(&word))
}

/// A password before the host, and all that stands behind a question mark. `None`: there is neither.
fn hide_in_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    // One that is written as it should not be may have anything before its last @, question marks too.
    if query.contains('@') {
        return Some(format!("{scheme}://{HIDDEN}"));
    }
    let (who, host) = rest.rsplit_once('@').map_or((None, rest), |(who, host)| (Some(who), host));
    let shown = match who.map(|who| who.split_once(':').map_or((who, None), |(user, word)| (user, Some(word)))) {
        None => String::new(),
        Some((user, None)) => format!("{user}@"),
        Some((user, Some(_))) => format!("{user}:{HIDDEN}@"),
    };
    let query = if query.is_empty() { String::new() } else { format!("?{HIDDEN}") };
    let shown = format!("{scheme}://{shown}{host}{query}");
    (shown != text).then_some(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_by_name_and_by_form() {
        for (key, value, shown) in [
            ("auth.secret", json!("hunter2"), Some(json!("***"))),
            ("redis.password", json!(""), Some(json!("***"))),
            ("chat.key", json!("x"), Some(json!("***"))),
            ("auth.operator_key", json!("x"), Some(json!("***"))),
            ("x.access_token", json!(["a"]), Some(json!(["***"]))),
            ("auth.operator_key_file", json!("/run/key"), None),
            ("tls.key", json!("/run/key.pem"), None),
            ("redis.password", Json::Null, None),
            ("auth.query_token", json!(true), None),
            ("embedded.max_keys", json!(1), None),
            ("listen", json!("127.0.0.1:80"), None),
            ("redis.url", json!("redis://h:1"), None),
            ("redis.url", json!("redis://me@h:1"), None),
            ("redis.url", json!("redis://me:hunter2@h:1"), Some(json!("redis://me:***@h:1"))),
            ("redis.url", json!("redis://:hun@te/r2@h"), Some(json!("redis://:***@h"))),
            ("redis.url", json!("redis://me:hun?ter2@h"), Some(json!("redis://***"))),
            ("chat.upstream", json!("https://h/v1?key=x"), Some(json!("https://h/v1?***"))),
            ("list", json!(["a", "http://a:b@h"]), Some(json!(["a", "http://a:***@h"]))),
        ] {
            assert_eq!(hide(key, &value, &["tls.key"]), shown, "{key} {value}");
        }
    }
}
