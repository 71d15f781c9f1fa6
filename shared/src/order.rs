//! Orders to all nodes: who is to be disconnected, which tokens are good no longer, which stream may go on.
//!
//! On Redis an order is an entry of the stream `sse.control`, a renewal one of `sse.renewals`, field [`FIELD`], as one JSON object with a key that says which:
//!
//! ```json
//! {"disconnect_channel": {"channel": "chat:7"}}
//! {"disconnect_user": {"user": "42"}}
//! {"revoke": {"token": "a jti", "at": 1764194400, "until": 1764198000}}
//! {"revoke": {"user": "42", "at": 1764194400, "until": 1764198000}}
//! {"renew": {"connection": "00f1…", "token": {…}}}
//! ```
//!
//! A revocation is a member of the sorted set `sse.revoked` too, as the JSON object behind `revoke`, with `until` for its score:
//! nodes that start later read it there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::channel::Channel;

/// Of an entry of the stream: where the order is.
pub const FIELD: &str = "o";
/// Longest text of an order that is looked at, in bytes: a token's claims are a few KiB.
pub const MAX_ORDER_BYTES: usize = 64 << 10;

/// To all nodes. To carry one out twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Streams on a channel end; their clients may come back.
    DisconnectChannel {
        /// Which.
        #[serde(with = "name")]
        channel: Channel,
    },
    /// Streams that were opened with a user's tokens, or are on the channel of that user, end; their clients may come back.
    DisconnectUser {
        /// The `sub` of the tokens, the channel being `user:<user>`.
        user: String,
    },
    /// Tokens are good no longer, and streams that were opened with them end.
    Revoke(Revocation),
    /// A stream may go on with another token.
    Renew(Renewal),
}

/// Tokens that are good no longer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The one token with this `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// All tokens of this `sub` that were issued up to `at`, and those that do not say when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it was revoked, Unix seconds.
    pub at: u64,
    /// When the tokens have expired by themselves, and it may be forgotten; Unix seconds.
    pub until: u64,
}

/// A stream may go on with another token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    /// The stream, as its `sse.open` names it.
    pub connection: String,
    /// What the new token says, in the words of whoever verified it; never the token itself.
    pub token: serde_json::Value,
}

impl Order {
    /// As it travels.
    ///
    /// # Errors
    /// None that is known: these are texts and numbers.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// From what travelled; `None` where it is no order that is known here.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_ORDER_BYTES {
            return None;
        }
        let order: Self = serde_json::from_slice(text).ok()?;
        match &order {
            Self::Revoke(revocation) if !revocation.is_sound() => None,
            _ => Some(order),
        }
    }
}

impl Revocation {
    /// As a member of the sorted set.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// From a member of the sorted set; `None` where it is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let revocation: Self = serde_json::from_slice(text).ok()?;
        revocation.is_sound().then_some(revocation)
    }

    fn is_sound(&self) -> bool {
        self.token.is_some() != self.user.is_some()
    }
}

/// All revocations that a process knows of. Whoever hears of one adds it; it is forgotten once its tokens have expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Until when, by `jti`.
    tokens: HashMap<String, u64>,
    /// Up to when issued, and until when, by `sub`.
    users: HashMap<String, (u64, u64)>,
}

impl Revocations {
    /// One more. Of two of one user the later counts for both. Returns whether it concerns tokens that none did before.
    pub fn add(&mut self, revocation: &Revocation) -> bool {
        let Revocation { token, user, at, until } = revocation;
        let mut is_new = false;
        if let Some(token) = token {
            is_new |= !self.tokens.contains_key(token);
            let known = self.tokens.entry(token.clone()).or_default();
            *known = (*known).max(*until);
        }
        if let Some(user) = user {
            is_new |= self.users.get(user).is_none_or(|(known, _)| known < at);
            let known = self.users.entry(user.clone()).or_default();
            *known = (known.0.max(*at), known.1.max(*until));
        }
        is_new
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a token with this `jti`, `sub` and `iat` (Unix seconds) is good no longer.
    #[must_use]
    pub fn concern(&self, token: Option<&str>, user: Option<&str>, issued: Option<u64>) -> bool {
        token.is_some_and(|token| self.tokens.contains_key(token))
            || user.and_then(|user| self.users.get(user)).is_some_and(|(at, _)| issued.is_none_or(|i| i <= *at))
    }

    /// Forgets those that are over at `now`, Unix seconds.
    pub fn forget(&mut self, now: u64) {
        self.tokens.retain(|_, until| *until >= now);
        self.users.retain(|_, (_, until)| *until >= now);
    }
}

/// A channel by its name, checked.
pub(crate) mod name {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::channel::Channel;

    pub(crate) fn serialize<S: Serializer>(channel: &Channel, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(channel.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Channel, D::Error> {
        Channel::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(token: Option<&str>, user: Option<&str>) -> Revocation {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Revocation { token: text(token), user: text(user), at: 5, until: 9 }
    }

    #[test]
    fn bytes_of_every_order() {
        let renewal = Renewal { connection: "00ff".to_owned(), token: serde_json::json!({"sub": "42"}) };
        for (order, text) in [
            (
                Order::DisconnectChannel { channel: Channel::parse("chat:7").unwrap() },
                r#"{"disconnect_channel":{"channel":"chat:7"}}"#,
            ),
            (Order::DisconnectUser { user: "42".to_owned() }, r#"{"disconnect_user":{"user":"42"}}"#),
            (Order::Revoke(revocation(Some("j"), None)), r#"{"revoke":{"token":"j","at":5,"until":9}}"#),
            (Order::Revoke(revocation(None, Some("42"))), r#"{"revoke":{"user":"42","at":5,"until":9}}"#),
            (Order::Renew(renewal), r#"{"renew":{"connection":"00ff","token":{"sub":"42"}}}"#),
        ] {
            assert_eq!(order.to_json().unwrap(), text);
            assert_eq!(Order::parse(text.as_bytes()), Some(order));
        }
        let member = r#"{"user":"42","at":5,"until":9}"#;
        assert_eq!(revocation(None, Some("42")).to_json().unwrap(), member);
        assert_eq!(Revocation::parse(member.as_bytes()), Some(revocation(None, Some("42"))));
    }

    #[test]
    fn whom_revocations_concern() {
        let mut all = Revocations::default();
        for (revoked, concerned) in
            [(revocation(Some("j"), None), [true, true, false]), (revocation(None, Some("42")), [true, false, true])]
        {
            all = Revocations::default();
            assert!(all.add(&revoked) && !all.add(&revoked));
            for ((token, issued), concerned) in [("j", Some(5)), ("j", Some(6)), ("k", None)].into_iter().zip(concerned)
            {
                let token = (Some(token), Some("42"), issued);
                assert_eq!(all.concern(token.0, token.1, token.2), concerned, "{revoked:?} {token:?}");
            }
            assert!(!all.concern(None, None, None));
        }
        assert!(all.add(&Revocation { at: 7, until: 8, ..revocation(None, Some("42")) }));
        assert!(all.concern(None, Some("42"), Some(7)) && !all.concern(None, Some("42"), Some(8)));
        all.forget(9);
        assert!(all.concern(None, Some("42"), Some(7)), "the longer of two counts");
        all.forget(10);
        assert_eq!(all, Revocations::default());
    }

    #[test]
    fn what_is_no_order_is_left_alone() {
        for text in [
            "",
            "{}",
            "null",
            r#"{"reboot":{}}"#,
            r#"{"disconnect_user":{}}"#,
            r#"{"disconnect_user":{"user":"42","more":1}}"#,
            r#"{"disconnect_channel":{"channel":"a b"}}"#,
            r#"{"revoke":{"at":5,"until":9}}"#,
            r#"{"revoke":{"token":"j","user":"42","at":5,"until":9}}"#,
            r#"{"revoke":{"token":"j","at":-5,"until":9}}"#,
        ] {
            assert_eq!(Order::parse(text.as_bytes()), None, "{text}");
        }
        let long = format!(r#"{{"disconnect_user":{{"user":"{}"}}}}"#, "x".repeat(MAX_ORDER_BYTES));
        assert_eq!(Order::parse(long.as_bytes()), None);
        assert_eq!(Revocation::parse(br#"{"token":"j","user":"42","at":5,"until":9}"#), None);
    }
}
