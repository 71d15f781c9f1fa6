//! What a token says, read strictly: a claim that is there and is not what it has to be refuses the token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{AuthError, Grants, Settings};
use crate::channel::Channel;

/// Most grants of each kind in one token.
pub const MAX_GRANTS: usize = 256;
/// The end of the year 9999: numbers beyond are no times, but mistakes (milliseconds).
const MAX_TIME: f64 = 253_402_300_799.0;

/// A token whose signature and times were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whom it is about (`sub`).
    pub subject: Option<String>,
    /// That user's own channel, `user:<sub>`; it is among `read`.
    pub user_channel: Option<Channel>,
    /// Its own name (`jti`).
    pub id: Option<String>,
    /// When it was made (`iat`), Unix seconds.
    pub issued: Option<u64>,
    /// When it ends (`exp`), without leeway.
    pub expires: SystemTime,
    /// What it may read: `user:<sub>`, and the claim `channels`.
    pub read: Grants,
    /// What it may publish to: the claim `publish`.
    pub publish: Grants,
}

impl Token {
    /// Checks `claims` as of `now`, by the issuer, audience and leeway of `settings`.
    pub(super) fn of(claims: &Map<String, Value>, settings: &Settings, now: SystemTime) -> Result<Self, AuthError> {
        let expires = time(claims, "exp", "claim exp has to be a time, in seconds since 1970")?;
        let expires = expires.ok_or(AuthError::Claim("claim exp is lacking, without which it would never end"))?;
        let not_before = time(claims, "nbf", "claim nbf has to be a time, in seconds since 1970")?;
        let issued = time(claims, "iat", "claim iat has to be a time, in seconds since 1970")?;
        let issuer = text(claims, "iss", "claim iss has to be a string")?;
        let audience = names(claims.get("aud"))?;

        if now >= expires + settings.leeway {
            return Err(AuthError::Expired);
        }
        if not_before.is_some_and(|not_before| now + settings.leeway < not_before) {
            return Err(AuthError::NotYetValid);
        }
        if settings.issuer.as_deref().is_some_and(|taken| issuer != Some(taken)) {
            return Err(AuthError::Issuer);
        }
        if !settings.audience.is_empty() && !settings.audience.iter().any(|taken| audience.contains(&taken.as_str())) {
            return Err(AuthError::Audience);
        }

        let subject = text(claims, "sub", "claim sub has to be a string")?;
        let user_channel = subject.map(Channel::user).transpose();
        let user_channel = user_channel.map_err(|_| {
            AuthError::Claim(
                "claim sub has to make a channel's name, user:<sub>: at most 251 bytes, no space, { } or *",
            )
        })?;
        let mut read = grants(claims, "channels", CHANNELS)?;
        if let Some(channel) = &user_channel {
            read.add_own(channel);
        }
        Ok(Self {
            subject: subject.map(str::to_owned),
            user_channel,
            id: text(claims, "jti", "claim jti has to be a string")?.filter(|id| !id.is_empty()).map(str::to_owned),
            issued: issued.map(unix_seconds),
            expires,
            read,
            publish: grants(claims, "publish", PUBLISH)?,
        })
    }
}

impl Token {
    /// What it says, for another node to [`restore`](Self::restore). No token can be made of it.
    #[must_use]
    pub fn store(&self) -> Value {
        let mut said = Map::new();
        let mut say = |name: &str, value: Option<Value>| said.extend(value.map(|value| (name.to_owned(), value)));
        say("sub", self.subject.as_deref().map(Value::from));
        say("jti", self.id.as_deref().map(Value::from));
        say("iat", self.issued.map(Value::from));
        say("exp", Some(Value::from(unix_seconds(self.expires))));
        // The user's own goes without saying; with it there could be one more than may be said.
        let own = self.user_channel.as_ref().map(Channel::as_str);
        say("channels", Some(self.read.iter().filter(|name| Some(name.as_str()) != own).collect()));
        say("publish", Some(self.publish.iter().collect()));
        Value::Object(said)
    }

    /// The token of which [`store`](Self::store) was; `None` where it is of none. Whether it is still good is not looked at.
    #[must_use]
    pub fn restore(stored: &Value) -> Option<Self> {
        // Whoever verified it knew these.
        let any = Settings::default();
        let claims = stored.as_object()?;
        let expires = time(claims, "exp", "").ok()??;
        let mut token = Self::of(claims, &any, UNIX_EPOCH.max(expires - Duration::from_secs(1))).ok()?;
        token.expires = expires;
        Some(token)
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const CHANNELS: AuthError = AuthError::Claim(
    "claim channels has to be an array of at most 256 names of channels, or beginnings of names that end in *",
);
const PUBLISH: AuthError = AuthError::Claim(
    "claim publish has to be an array of at most 256 names of channels, or beginnings of names that end in *",
);

fn text<'a>(claims: &'a Map<String, Value>, name: &str, wanted: &'static str) -> Result<Option<&'a str>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    value.as_str().map(Some).ok_or(AuthError::Claim(wanted))
}

/// Fractions of a second are cut off.
fn time(claims: &Map<String, Value>, name: &str, wanted: &'static str) -> Result<Option<SystemTime>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=MAX_TIME).contains(seconds));
    let seconds = seconds.ok_or(AuthError::Claim(wanted))?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds.trunc())))
}

/// `aud` is a string, or an array of strings.
fn names(value: Option<&Value>) -> Result<Vec<&str>, AuthError> {
    let wrong = AuthError::Claim("claim aud has to be a string, or an array of strings");
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(name)) => Ok(vec![name]),
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().ok_or(wrong)).collect(),
        Some(_) => Err(wrong),
    }
}

fn grants(claims: &Map<String, Value>, name: &str, wrong: AuthError) -> Result<Grants, AuthError> {
    let mut grants = Grants::default();
    let Some(value) = claims.get(name) else { return Ok(grants) };
    let names = value.as_array().filter(|names| names.len() <= MAX_GRANTS).ok_or(wrong)?;
    for name in names {
        grants.add(name.as_str().ok_or(wrong)?).map_err(|_| wrong)?;
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn settings() -> Settings {
        Settings { issuer: Some("me".into()), audience: vec!["here".into(), "there".into()], ..Settings::default() }
    }

    fn with(settings: &Settings, claims: &Value) -> Result<Token, AuthError> {
        let mut all = json!({"exp": NOW + 60, "iss": "me", "aud": "here"});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let claims = all.as_object().unwrap().clone().into_iter().filter(|(_, value)| value != "lacking").collect();
        Token::of(&claims, settings, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    fn read(claims: &Value) -> Result<Token, AuthError> {
        with(&settings(), claims)
    }

    #[test]
    fn a_token() {
        let claims =
            json!({"sub": "42", "jti": "x", "iat": 1, "nbf": NOW, "channels": ["a"], "publish": ["b*"], "x": {}});
        let token = read(&claims).unwrap();
        let channel = |name| Channel::parse(name).unwrap();
        assert_eq!((token.subject.as_deref(), token.id.as_deref()), (Some("42"), Some("x")));
        assert_eq!(token.user_channel, Some(channel("user:42")));
        assert_eq!(token.expires, UNIX_EPOCH + Duration::from_secs(NOW + 60));
        assert!(token.read.has(&channel("user:42")) && token.read.has(&channel("a")) && !token.read.has(&channel("b")));
        assert!(token.publish.has(&channel("bc")) && !token.publish.has(&channel("user:42")));
        let bare = read(&json!({})).unwrap();
        assert_eq!((bare.read, bare.publish, bare.user_channel), (Grants::default(), Grants::default(), None));
    }

    #[test]
    fn what_it_says_comes_again_elsewhere() {
        let all = json!({"sub": "42", "jti": "x", "iat": 7, "channels": ["a", "b*", "*"], "publish": ["c", "d*"]});
        let most: Vec<_> = (0..MAX_GRANTS).map(|i| format!("c{i}")).collect();
        for claims in [
            all,
            json!({"sub": "42", "channels": most, "publish": most}),
            json!({}),
            json!({"sub": "42"}),
            json!({"exp": NOW - 29}),
        ] {
            let token = read(&claims).unwrap();
            let stored = serde_json::from_str(&token.store().to_string()).unwrap();
            assert_eq!(Token::restore(&stored), Some(token), "{claims}");
        }
        let names: Vec<String> = (0..MAX_GRANTS).map(|number| number.to_string()).collect();
        let most = read(&json!({"sub": "42", "channels": names})).unwrap();
        assert_eq!(Token::restore(&most.store()), Some(most), "as many as may be named, and the user's own");
        for wrong in [json!(null), json!({}), json!({"exp": "x"}), json!({"exp": NOW, "sub": "a b"})] {
            assert_eq!(Token::restore(&wrong), None);
        }
    }

    #[test]
    fn times_have_leeway() {
        let leeway = 30;
        for (claims, expected) in [
            (json!({"exp": NOW - leeway + 1}), None),
            (json!({"exp": NOW - leeway}), Some(AuthError::Expired)),
            (json!({"exp": 0}), Some(AuthError::Expired)),
            (json!({"exp": 253_402_300_799_u64}), None),
            (json!({"exp": (NOW - leeway) as f64 + 0.9}), Some(AuthError::Expired)),
            (json!({"nbf": NOW + leeway}), None),
            (json!({"nbf": NOW + leeway + 1}), Some(AuthError::NotYetValid)),
            (json!({"iat": NOW + 1_000}), None),
        ] {
            assert_eq!(read(&claims).err(), expected, "{claims}");
        }
        let strict = Settings { leeway: Duration::ZERO, ..settings() };
        assert_eq!(with(&strict, &json!({"exp": NOW})), Err(AuthError::Expired));
        assert!(with(&strict, &json!({"exp": NOW + 1, "nbf": NOW})).is_ok());
    }

    #[test]
    fn issuer_and_audience() {
        for (claims, expected) in [
            (json!({"iss": "you"}), Some(AuthError::Issuer)),
            (json!({"iss": "lacking"}), Some(AuthError::Issuer)),
            (json!({"aud": "else"}), Some(AuthError::Audience)),
            (json!({"aud": []}), Some(AuthError::Audience)),
            (json!({"aud": "lacking"}), Some(AuthError::Audience)),
            (json!({"aud": ["else", "there"]}), None),
        ] {
            assert_eq!(read(&claims).err(), expected, "{claims}");
        }
        assert!(with(&Settings::default(), &json!({"iss": "you", "aud": "else"})).is_ok());
    }

    #[test]
    fn a_claim_of_a_wrong_type_refuses_the_token() {
        let many: Vec<_> = (0..=MAX_GRANTS).map(|i| format!("c{i}")).collect();
        assert!(read(&json!({"channels": &many[1..], "publish": &many[1..]})).is_ok());
        for claims in [
            json!({"exp": "lacking"}),
            json!({"exp": null}),
            json!({"exp": "1800000060"}),
            json!({"exp": -1}),
            json!({"exp": NOW * 1_000}),
            json!({"nbf": "x"}),
            json!({"nbf": null}),
            json!({"iat": true}),
            json!({"iss": 5}),
            json!({"aud": 5}),
            json!({"aud": ["here", 5]}),
            json!({"sub": 42}),
            json!({"sub": ""}),
            json!({"sub": "a b"}),
            json!({"sub": "x".repeat(252)}),
            json!({"jti": 7}),
            json!({"channels": "a"}),
            json!({"channels": [7]}),
            json!({"channels": ["a b"]}),
            json!({"channels": {}}),
            json!({"channels": many}),
            json!({"publish": "*"}),
            json!({"publish": [""]}),
            json!({"publish": many}),
        ] {
            let error = read(&claims).unwrap_err();
            assert!(matches!(error, AuthError::Claim(_)), "{claims}: {error:?}");
            let name = claims.as_object().unwrap().keys().next().unwrap();
            assert!(error.to_string().starts_with(&format!("the token's claim {name} ")), "{error}");
        }
    }
}
