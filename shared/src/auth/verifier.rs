//! Verifies what comes with requests, with keys that can be read again while the process runs.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::decode_header;
use jsonwebtoken::errors::ErrorKind;
use ring::hmac;
use serde_json::{Map, Value};

use super::keys::{KeyError, Keys, signature};
use super::{AuthError, MAX_TOKEN_BYTES, MIN_SECRET_BYTES, Settings, Token};
use crate::config::ConfigError;
use crate::order::{Revocation, Revocations};

/// Longest file of keys: 64 of the largest are a tenth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What the operator key is told by: its HMAC of this.
const OPERATOR: &[u8] = b"operator";

/// Keys cannot be had from a file. It names the setting, the file and what is wrong, and nothing of a key.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {}: {reason}", file.display())]
pub struct LoadError {
    key: &'static str,
    file: PathBuf,
    reason: String,
}

impl From<LoadError> for ConfigError {
    fn from(LoadError { key, file, reason }: LoadError) -> Self {
        Self::invalid(key, format!("{}: {reason}", file.display()))
    }
}

/// Tells who may come in. One for a process, shared by everybody who has to know.
#[derive(Debug)]
pub struct Verifier {
    settings: Settings,
    /// Read for every request, replaced as a whole by [`reload`](Self::reload).
    loaded: RwLock<Arc<Loaded>>,
    /// Held while files are read and put in place: of two who do so at once, the later reads the later files.
    reloading: Mutex<()>,
    /// Tokens that are good no longer, as far as this process has heard. Read for every token.
    revocations: RwLock<Revocations>,
}

#[derive(Debug)]
struct Loaded {
    keys: Keys,
    operator: Option<OperatorKey>,
    /// Keys of the JWKS file that are not for us.
    left_out: usize,
}

/// The operator key's HMAC of [`OPERATOR`]: a guess is compared by its own, in constant time, and its length tells nothing.
#[derive(Debug)]
struct OperatorKey(hmac::Tag);

impl Verifier {
    /// Reads what `settings`, which have been checked, say. Without keys it verifies nothing, and [`is_set`](Self::is_set)
    /// says so.
    ///
    /// # Errors
    /// [`LoadError`] for the first file that cannot be used.
    pub fn load(settings: &Settings) -> Result<Self, LoadError> {
        let loaded = Loaded::read(settings)?;
        Ok(Self {
            settings: settings.clone(),
            loaded: RwLock::new(Arc::new(loaded)),
            reloading: Mutex::default(),
            revocations: RwLock::default(),
        })
    }

    /// Whether requests need a token.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.settings.is_set()
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads all files again; from then on the new keys count, all at once. Blocks for as long as the files take.
    ///
    /// # Errors
    /// [`LoadError`] for the first file that cannot be used; then nothing has changed.
    pub fn reload(&self) -> Result<(), LoadError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = Arc::new(Loaded::read(&self.settings)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Logs how many keys there are.
    pub fn tell(&self) {
        let loaded = self.loaded();
        let operator = loaded.operator.is_some();
        tracing::info!(keys = loaded.keys.len(), left_out = loaded.left_out, operator, "keys that verify tokens");
    }

    /// Checks a token as of `now`.
    ///
    /// # Errors
    /// [`AuthError`], never [`AuthError::Missing`] nor [`AuthError::Origin`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Token, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        let header = decode_header(token).map_err(|error| match error.kind() {
            // A head that is JSON, and says something that is not taken: an algorithm, as a rule.
            ErrorKind::Json(error) if error.is_data() => AuthError::Algorithm,
            _ => AuthError::Malformed,
        })?;
        if header.crit.is_some() {
            // Whoever does not know such an extension has to refuse it (RFC 7515, 4.1.11); none is known here.
            return Err(AuthError::Claim("head has extensions that have to be understood (crit), and are not"));
        }
        let (message, signed) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let signed = signature(signed)?;
        self.loaded().keys.verify(header.kid.as_deref(), header.alg, message.as_bytes(), &signed)?;
        // The signature was verified just now.
        let claims: Map<String, Value> = insecure_decode_claims(token).map_err(|_| AuthError::Malformed)?;
        self.still_good(Token::of(&claims, &self.settings, now)?, now)
    }

    /// A token that was verified before, if it has neither expired nor been revoked since.
    ///
    /// # Errors
    /// [`AuthError::Expired`] and [`AuthError::Revoked`].
    pub fn still_good(&self, token: Token, now: SystemTime) -> Result<Token, AuthError> {
        if now >= token.expires + self.settings.leeway {
            return Err(AuthError::Expired);
        }
        if self.is_revoked(&token) { Err(AuthError::Revoked) } else { Ok(token) }
    }

    /// Whether the token was revoked, as far as this process has heard.
    #[must_use]
    pub fn is_revoked(&self, token: &Token) -> bool {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        revocations.concern(token.id.as_deref(), token.subject.as_deref(), token.issued)
    }

    /// Takes the tokens of `all` no longer. Returns those revocations that are news.
    pub fn revoke(&self, all: &[Revocation], now: SystemTime) -> Revocations {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut news = Revocations::default();
        let mut revocations = self.revocations.write().unwrap_or_else(PoisonError::into_inner);
        revocations.forget(now);
        for revocation in all {
            if revocations.add(revocation) {
                news.add(revocation);
            }
        }
        news
    }

    /// Whether there is an operator key.
    #[must_use]
    pub fn has_operator(&self) -> bool {
        self.loaded().operator.is_some()
    }

    /// Whether `key` is the operator's. Longer than any token, it is not.
    #[must_use]
    pub fn is_operator(&self, key: &str) -> bool {
        let loaded = self.loaded();
        key.len() <= MAX_TOKEN_BYTES && loaded.operator.as_ref().is_some_and(|operator| operator.is(key))
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is wrong with any of the files; for those who ask before a start, which would end at the first.
pub(super) fn check_files(settings: &Settings) -> Vec<LoadError> {
    let mut read = Loaded { keys: Keys::default(), operator: None, left_out: 0 };
    settings.files().filter_map(|(key, file)| read.add_file(key, file).err()).collect()
}

impl Loaded {
    fn read(settings: &Settings) -> Result<Self, LoadError> {
        let mut loaded = Self { keys: Keys::default(), operator: None, left_out: 0 };
        if let Some(secret) = &settings.secret {
            // Settings that were checked have it long enough.
            let _ = loaded.keys.add_secret(secret.as_bytes());
        }
        loaded.operator = settings.operator_key.as_deref().map(|key| OperatorKey::new(key.as_bytes()));
        for (key, file) in settings.files() {
            loaded.add_file(key, file)?;
        }
        Ok(loaded)
    }

    fn add_file(&mut self, key: &'static str, file: &Path) -> Result<(), LoadError> {
        let error = |reason| LoadError { key, file: file.to_owned(), reason };
        let text = read_file(file).map_err(|source| error(source.to_string()))?;
        self.add(key, &text).map_err(|KeyError(reason)| error(reason))
    }

    fn add(&mut self, key: &str, text: &[u8]) -> Result<(), KeyError> {
        match key {
            "auth.secret_file" => self.keys.add_secret(line(text)),
            "auth.public_key_file" => self.keys.add_pem(text),
            "auth.jwks_file" => {
                self.left_out = self.keys.add_jwks(text)?;
                Ok(())
            }
            _ => {
                let key = line(text);
                if key.len() < MIN_SECRET_BYTES {
                    return Err(KeyError(format!("it has {} bytes, the least is {MIN_SECRET_BYTES}", key.len())));
                }
                self.operator = Some(OperatorKey::new(key));
                Ok(())
            }
        }
    }
}

impl OperatorKey {
    fn new(key: &[u8]) -> Self {
        Self(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), OPERATOR))
    }

    fn is(&self, guess: &str) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, guess.as_bytes()), OPERATOR, self.0.as_ref()).is_ok()
    }
}

/// Without the line break that editors put at the end.
fn line(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
