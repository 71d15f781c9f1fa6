//! The `[auth]` section, the same for gateway and publisher.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MIN_SECRET_BYTES, verifier};
use crate::config::{ConfigError, between, duration};

/// Which tokens are taken, and from where in a request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Verifies tokens signed with HS256.
    pub secret: Option<String>,
    /// A file that holds such a secret; beside `secret`, another one.
    pub secret_file: Option<PathBuf>,
    /// A PEM file with a public key: RSA verifies RS256, P-256 ES256, Ed25519 EdDSA.
    pub public_key_file: Option<PathBuf>,
    /// A JWKS file: any number of keys, by `kid`.
    pub jwks_file: Option<PathBuf>,
    /// What `iss` has to be; where not set, anything.
    pub issuer: Option<String>,
    /// One of these has to be in `aud`; where empty, anything.
    pub audience: Vec<String>,
    /// How far the clocks of whoever makes tokens and of this process may be apart.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// The cookie that may hold the token; where not set, none.
    pub cookie: Option<String>,
    /// Takes a token from the query, `access_token`.
    pub query_token: bool,
    /// Who sends this instead of a token may do everything.
    pub operator_key: Option<String>,
    /// A file that holds it; wins over `operator_key`.
    pub operator_key_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            public_key_file: None,
            jwks_file: None,
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::from_secs(30),
            cookie: None,
            query_token: false,
            operator_key: None,
            operator_key_file: None,
        }
    }
}

/// No secret leaves by a log line.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("secret", &self.secret.as_ref().map(|_| "***"))
            .field("secret_file", &self.secret_file)
            .field("public_key_file", &self.public_key_file)
            .field("jwks_file", &self.jwks_file)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("leeway", &self.leeway)
            .field("cookie", &self.cookie)
            .field("query_token", &self.query_token)
            .field("operator_key", &self.operator_key.as_ref().map(|_| "***"))
            .field("operator_key_file", &self.operator_key_file)
            .finish()
    }
}

impl Settings {
    /// Whether requests need a token: there is something to verify it with. The operator key alone does not make it so.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.secret.is_some()
            || self.secret_file.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
    }

    /// The files that are read, each with its key.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("auth.secret_file", &self.secret_file),
            ("auth.public_key_file", &self.public_key_file),
            ("auth.jwks_file", &self.jwks_file),
            ("auth.operator_key_file", &self.operator_key_file),
        ]
        .into_iter()
        .filter_map(|(key, file)| Some((key, file.as_deref()?)))
    }

    /// Ranges, and rules between keys, each error naming its key (`auth.secret`). Files are not opened.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut check = |key: &str, result: Result<(), String>| {
            if let Err(reason) = result {
                errors.push(ConfigError::invalid(&format!("auth.{key}"), reason));
            }
        };
        check("secret", check_secret(self.secret.as_deref()));
        check("operator_key", check_secret(self.operator_key.as_deref()));
        check("leeway", between(self.leeway, Duration::ZERO, Duration::from_secs(300)));
        check("cookie", self.cookie.as_deref().map_or(Ok(()), check_cookie));
        let (issuer, audience) = (self.issuer.as_deref(), &self.audience);
        check("issuer", if issuer == Some("") { Err("an issuer is not empty".to_owned()) } else { Ok(()) });
        let empty = audience.iter().any(String::is_empty);
        check("audience", if empty { Err("an audience is not empty".to_owned()) } else { Ok(()) });
        // Somebody who set these thinks that tokens are asked for.
        check("issuer", self.has_key_if(issuer.is_some()));
        check("audience", self.has_key_if(!audience.is_empty()));
        check("cookie", self.has_key_if(self.cookie.is_some()));
        check("query_token", self.has_key_if(self.query_token));
        errors
    }

    /// Reads the files, and says of each that cannot be used what is wrong with it.
    #[must_use]
    pub fn check_files(&self) -> Vec<ConfigError> {
        verifier::check_files(self).into_iter().map(ConfigError::from).collect()
    }

    fn has_key_if(&self, said: bool) -> Result<(), String> {
        if !said || self.is_set() {
            return Ok(());
        }
        Err("there is no key to verify tokens with: auth.secret, auth.secret_file, auth.public_key_file or auth.jwks_file"
            .to_owned())
    }
}

/// Says nothing of the secret itself.
fn check_secret(secret: Option<&str>) -> Result<(), String> {
    match secret {
        Some(secret) if secret.len() < MIN_SECRET_BYTES => {
            Err(format!("it has {} bytes, the least is {MIN_SECRET_BYTES}", secret.len()))
        }
        _ => Ok(()),
    }
}

/// A token of RFC 9110, which is what a cookie's name is.
fn check_cookie(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err("a cookie's name is 1 to 64 of A-Z a-z 0-9 and !#$%&'*+-.^_`|~".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let hidden = "s3cret-s3cret-s3cret-s3cret-s3cret".to_owned();
        let settings =
            Settings { secret: Some(hidden.clone()), operator_key: Some(hidden.clone()), ..Settings::default() };
        let text = format!("{settings:?}");
        assert!(!text.contains("s3cret-") && text.contains("***"), "{text}");
        assert_eq!(settings.check(), []);
        let short = Settings { secret: Some("s3cret-".to_owned()), ..Settings::default() };
        assert!(!short.check()[0].to_string().contains("s3cret-"));
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let wrong = Settings {
            secret: Some("x".repeat(31)),
            operator_key: Some(String::new()),
            leeway: Duration::from_secs(301),
            cookie: Some("a b".into()),
            issuer: Some(String::new()),
            audience: vec![String::new()],
            ..Settings::default()
        };
        let errors: Vec<_> = wrong.check().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "invalid value for \"auth.secret\": it has 31 bytes, the least is 32",
                "invalid value for \"auth.operator_key\": it has 0 bytes, the least is 32",
                "invalid value for \"auth.leeway\": 5m 1s is not within 0s and 5m",
                "invalid value for \"auth.cookie\": a cookie's name is 1 to 64 of A-Z a-z 0-9 and !#$%&'*+-.^_`|~",
                "invalid value for \"auth.issuer\": an issuer is not empty",
                "invalid value for \"auth.audience\": an audience is not empty",
            ]
        );
    }

    #[test]
    fn what_tokens_have_to_say_is_nothing_without_a_key() {
        let said = [
            Settings { issuer: Some("x".into()), ..Settings::default() },
            Settings { audience: vec!["x".into()], ..Settings::default() },
            Settings { cookie: Some("x".into()), ..Settings::default() },
            Settings { query_token: true, ..Settings::default() },
        ];
        for settings in said {
            assert!(!settings.is_set());
            assert!(settings.check()[0].to_string().contains("there is no key to verify tokens with"));
            assert_eq!(Settings { jwks_file: Some("x".into()), ..settings }.check(), []);
        }
    }
}
