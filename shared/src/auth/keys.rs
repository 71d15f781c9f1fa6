//! What signatures are verified with. Each key is for one algorithm, whatever a token says of itself: so `none` is nobody's,
//! and the bytes of a public key are never taken for a secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::{AuthError, MIN_SECRET_BYTES, pem};

/// Most keys of a JWKS file. A token without `kid` may have to be tried with each.
pub const MAX_KEYS: usize = 64;

/// Why there can be no key, lower case and no full stop; never a byte of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub(super) String);

/// A set of keys. Never changes.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    /// `kid`; only a JWKS has it.
    id: Option<String>,
    verification: Verification,
}

/// A key, ready for its one algorithm.
pub(super) enum Verification {
    Hs256(hmac::Key),
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    Es256(UnparsedPublicKey<Vec<u8>>),
    EdDsa(UnparsedPublicKey<Vec<u8>>),
}

impl Keys {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds a secret for HS256: the bytes as they are, not decoded.
    ///
    /// # Errors
    /// That it is shorter than [`MIN_SECRET_BYTES`].
    pub fn add_secret(&mut self, secret: &[u8]) -> Result<(), KeyError> {
        self.keys.push(Key { id: None, verification: Verification::secret(secret)? });
        Ok(())
    }

    /// Adds the public key of a PEM text.
    ///
    /// # Errors
    /// That it holds none, or one that is not taken.
    pub fn add_pem(&mut self, text: &[u8]) -> Result<(), KeyError> {
        self.keys.push(Key { id: None, verification: pem::public_key(text)? });
        Ok(())
    }

    /// Adds the keys of a JWKS text. Returns how many of them were left out, since they are for something else, of a kind
    /// that is not taken, or cannot be read.
    ///
    /// # Errors
    /// That it is no JWKS, has more than [`MAX_KEYS`], or none that can be used.
    pub fn add_jwks(&mut self, text: &[u8]) -> Result<usize, KeyError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Value>,
        }
        let no_jwks = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            KeyError(format!("it is no JWKS, a JSON object with an array \"keys\", at line {line} column {column}"))
        };
        let Jwks { keys } = serde_json::from_slice(text).map_err(no_jwks)?;
        if keys.len() > MAX_KEYS {
            return Err(KeyError(format!("it has {} keys, the limit is {MAX_KEYS}", keys.len())));
        }
        let all = keys.len();
        let usable: Vec<_> = keys.into_iter().filter_map(jwk).collect();
        if usable.is_empty() {
            return Err(KeyError(format!("none of its {all} keys is for RS256, ES256, EdDSA or HS256")));
        }
        let left_out = all - usable.len();
        self.keys.extend(usable);
        Ok(left_out)
    }

    /// Whether `signature` is that of `message` with a key called `id`, or with one that has no name where that is `None`.
    ///
    /// # Errors
    /// [`AuthError::UnknownKey`], [`AuthError::Algorithm`], [`AuthError::BadSignature`].
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), AuthError> {
        let mut named = self.keys.iter().filter(|key| key.id.as_deref() == id).peekable();
        named.peek().ok_or(AuthError::UnknownKey)?;
        let mut keys = named.filter(|key| key.verification.algorithm() == algorithm).peekable();
        keys.peek().ok_or(AuthError::Algorithm)?;
        if keys.any(|key| key.verification.verify(message, signature)) {
            return Ok(());
        }
        Err(AuthError::BadSignature)
    }
}

/// `None` where it is not one for us.
fn jwk(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let verifies = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    if !for_signatures || !verifies {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let verification = match (&jwk.algorithm, key.kind()) {
        (AlgorithmParameters::RSA(_), DecodingKeyKind::RsaModulusExponent { n, e }) => Verification::rsa(n, e),
        (AlgorithmParameters::OctetKey(_), DecodingKeyKind::SecretOrDer(secret)) => Verification::secret(secret),
        (AlgorithmParameters::EllipticCurve(it), DecodingKeyKind::SecretOrDer(point))
            if it.curve == EllipticCurve::P256 =>
        {
            Verification::p256(point)
        }
        (AlgorithmParameters::OctetKeyPair(it), DecodingKeyKind::SecretOrDer(key))
            if it.curve == EllipticCurve::Ed25519 =>
        {
            Verification::ed25519(key)
        }
        _ => return None,
    };
    let verification = verification.ok()?;
    let said = jwk.common.key_algorithm;
    let agrees = said.is_none_or(|said| said == KeyAlgorithm::from(verification.algorithm()));
    agrees.then_some(Key { id: jwk.common.key_id, verification })
}

impl Verification {
    fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError(format!("it has {} bytes, the least is {MIN_SECRET_BYTES}", secret.len())));
        }
        Ok(Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Both numbers big-endian, perhaps with zeros before them.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let [n, e] = [n, e].map(|number| number[number.iter().take_while(|byte| **byte == 0).count()..].to_vec());
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !(2_048..=8_192).contains(&bits) {
            return Err(KeyError(format!("its RSA key has {bits} bits, the least is 2048, the most 8192")));
        }
        Ok(Self::Rs256(RsaPublicKeyComponents { n, e }))
    }

    /// An uncompressed point.
    pub(super) fn p256(point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 65 || point[0] != 4 {
            return Err(KeyError("its P-256 key is no uncompressed point".into()));
        }
        Ok(Self::Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.to_vec())))
    }

    pub(super) fn ed25519(key: &[u8]) -> Result<Self, KeyError> {
        if key.len() != 32 {
            return Err(KeyError(format!("its Ed25519 key has {} bytes instead of 32", key.len())));
        }
        Ok(Self::EdDsa(UnparsedPublicKey::new(&ED25519, key.to_vec())))
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::Rs256(_) => Algorithm::RS256,
            Self::Es256(_) => Algorithm::ES256,
            Self::EdDsa(_) => Algorithm::EdDSA,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Hs256(key) => hmac::verify(key, message, signature),
            Self::Rs256(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::Es256(key) | Self::EdDsa(key) => key.verify(message, signature),
        };
        verified.is_ok()
    }
}

/// Which kind, and nothing of it.
impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.algorithm(), f)
    }
}

/// The bytes of a signature, as it stands in a token.
pub(super) fn signature(text: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| AuthError::Malformed)
}
