//! What readers are not to see of what an upstream says: the key, and where it is ([`Secrets`]).

use serde_json::Value;

use super::Endpoint;

/// Stands in the place of a secret.
const HIDDEN: &str = "***";
/// A shorter key is a word that may stand in any sentence: in its place the whole sentence is hidden.
const MIN_KEY: usize = 8;
/// Shorter values of a query are no secrets, but words and numbers.
const MIN_VALUE: usize = 8;
/// JSON within a string of JSON, and so on: more is not looked into.
const MAX_NESTING: usize = 4;

/// The key and the address of an upstream, in all spellings in which it may repeat them. Never changes.
pub(super) struct Secrets {
    /// In lower case, the longest first.
    key: Vec<String>,
    /// The key is shorter than [`MIN_KEY`].
    short: bool,
    /// As above.
    address: Vec<String>,
}

impl Secrets {
    pub(super) fn new(key: Option<&str>, endpoint: &Endpoint) -> Self {
        // Who reads a header does not see the spaces around it.
        let key = key.map(str::trim).filter(|key| !key.is_empty());
        let address = endpoint.parts(MIN_VALUE);
        Self {
            key: spellings(key.into_iter()),
            short: key.is_some_and(|key| key.len() < MIN_KEY),
            address: spellings(address.iter().map(String::as_str)),
        }
    }

    /// `text` without them. To be called before anything is cut off it: a part of a key is not found.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for key in &self.key {
            let Some(without) = replace(&hidden, key, false) else { continue };
            if self.short {
                return HIDDEN.to_owned();
            }
            hidden = without;
        }
        for part in &self.address {
            hidden = replace(&hidden, part, true).unwrap_or(hidden);
        }
        if self.escaped(&hidden) {
            return HIDDEN.to_owned();
        }
        hidden
    }

    /// The same for all strings within `value`.
    pub(super) fn hide_within(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.hide(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.hide_within(value)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (self.hide(&name), self.hide_within(value))).collect()
            }
            other => other,
        }
    }

    /// Drops the beginning of a secret from the end of `bytes`, where the rest of it may have been cut off.
    pub(super) fn drop_begun(&self, bytes: &mut Vec<u8>) {
        let lower = bytes.to_ascii_lowercase();
        let begun = |secret: &String| {
            (1..secret.len())
                .rev()
                .find(|length| secret.as_bytes().get(..*length).is_some_and(|it| lower.ends_with(it)))
        };
        let longest = self.key.iter().chain(&self.address).filter_map(begun).max().unwrap_or(0);
        bytes.truncate(bytes.len() - longest);
    }

    /// Whether one of them is there in an escaped form that is none of the spellings: `\u0041`, or JSON within JSON.
    fn escaped(&self, text: &str) -> bool {
        let mut text = text.to_owned();
        for _ in 0..MAX_NESTING {
            if !text.contains('\\') {
                return false;
            }
            text = unescape(&text);
            if self.key.iter().any(|key| replace(&text, key, false).is_some())
                || self.address.iter().any(|part| replace(&text, part, true).is_some())
            {
                return true;
            }
        }
        false
    }
}

/// As it is, and as it stands in JSON, in an address and on a page.
fn spellings<'a>(secrets: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut spellings = Vec::new();
    for secret in secrets {
        let json = Value::from(secret).to_string();
        let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
        let page = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let page = page.replace('"', "&quot;").replace('\'', "&#39;");
        let address = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        spellings.extend([secret.to_owned(), json.replace('/', "\\/"), json, page, address]);
    }
    spellings.iter_mut().for_each(|spelling| spelling.make_ascii_lowercase());
    spellings.retain(|spelling| !spelling.is_empty());
    spellings.sort_by_key(|spelling| (std::cmp::Reverse(spelling.len()), spelling.clone()));
    spellings.dedup();
    spellings
}

/// `text` without `secret`, which is in lower case, however that is written there; only as a word of its own where `whole`.
/// `None` where it is not there.
fn replace(text: &str, secret: &str, whole: bool) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (mut hidden, mut from) = (String::new(), 0);
    for (at, _) in lower.match_indices(secret) {
        let behind = at + secret.len();
        if whole && !(is_edge(&lower, at) && is_edge(&lower, behind)) {
            continue;
        }
        hidden.push_str(&text[from..at]);
        hidden.push_str(HIDDEN);
        from = behind;
    }
    (from > 0).then(|| hidden + &text[from..])
}

/// Whether no word goes on across this place.
fn is_edge(text: &str, at: usize) -> bool {
    let (before, behind) = text.split_at(at);
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !(is_word(before.chars().next_back()) && is_word(behind.chars().next()))
}

/// `text` with its escapes resolved as in a string of JSON, as far as they are any.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut escape = behind.chars();
        let (c, length) = match escape.next() {
            Some('u') => match behind.get(1..5).and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
                // A half of a pair is no part of a secret in ASCII.
                Some(code) => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
                None => ('u', 1),
            },
            Some('n') => ('\n', 1),
            Some('r') => ('\r', 1),
            Some('t') => ('\t', 1),
            Some(c) => (c, c.len_utf8()),
            None => ('\\', 0),
        };
        plain.push(c);
        rest = &behind[length..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(key: &str) -> Secrets {
        let endpoint = Endpoint::parse("https://llm.example.com:8443/v1/secret-path/chat?api_key=hunter2hunter2&v=1");
        Secrets::new(Some(key), &endpoint.unwrap())
    }

    #[test]
    fn a_key_in_all_spellings() {
        for (key, text, told) in [
            ("s3cret-key", "no s3cret-key, S3CRET-KEY!", "no ***, ***!"),
            (" s3cret-key ", "s3cret-key", "***"),
            ("s3cret/key", r#"{"key":"s3cret\/key","#, r#"{"key":"***","#),
            ("s3cret\"key\\", r#"{"key":"s3cret\"key\\","#, r#"{"key":"***","#),
            ("s3cret/key&", "s3cret%2fkey%26 s3cret/key&amp;", "*** ***"),
            ("s3cret-key", r#"{"key":"\u0073\u0033cret-key","#, "***"),
            ("s3cret/key", r#"{"error":"{\"key\":\"s3cret\\\/key\"}"#, "***"),
            ("s3cret-key", r"nothing \u of \uD83D it \", r"nothing \u of \uD83D it \"),
            // A short one.
            ("abc", "the key abc is wrong", "***"),
            ("abc", "the key is wrong", "the key is wrong"),
        ] {
            assert_eq!(secrets(key).hide(text), told, "{text}");
        }
    }

    #[test]
    fn an_address_in_all_spellings() {
        for (text, told) in [
            ("Cannot POST /v1/secret-path/chat?api_key=hunter2hunter2&v=1", "Cannot POST ***"),
            ("Cannot POST /v1/secret-path/chat?api_key=hunter2hunter2&amp;v=1", "Cannot POST ***"),
            ("Cannot POST /v1/secret-path/chat", "Cannot POST ***"),
            (r"\/v1\/secret-path\/chat", "***"),
            ("api_key=hunter2hunter2&v=1", "***"),
            ("the key hunter2hunter2 is wrong, v 1", "the key *** is wrong, v 1"),
            ("see https://LLM.example.com:8443/help", "see https://***/help"),
            ("see https://llm.example.com/", "see https://***/"),
            ("llm.example.community", "llm.example.community"),
        ] {
            assert_eq!(secrets("s3cret-key").hide(text), told, "{text}");
        }
        let plain = Secrets::new(None, &Endpoint::parse("http://h/").unwrap());
        assert_eq!(plain.hide("Which / the h?"), "Which / the ***?");
    }

    #[test]
    fn what_is_cut_off() {
        for (bytes, left) in [("key: s3cret-k", "key: "), ("key: s3", "key: "), ("at llm.exam", "at "), ("x", "x")] {
            let mut bytes = bytes.as_bytes().to_vec();
            secrets("s3cret-key").drop_begun(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), left);
        }
    }
}
