//! Keys that sign tokens (JWT), one of each algorithm that is taken, and the texts by which they are verified. Nothing trusts
//! them but who is told to.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};

/// ring makes no RSA keys; this one is for tests alone.
const RSA: &[u8] = include_bytes!("tokens/rsa.der");
const RSA_PUBLIC: &str = include_str!("tokens/rsa.pub.pem");

/// Signs tokens with a key of its own.
pub struct TokenKey(Kind);

enum Kind {
    Hs256(Vec<u8>),
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl TokenKey {
    /// HS256, with these bytes.
    #[must_use]
    pub fn hs256(secret: &[u8]) -> Self {
        Self(Kind::Hs256(secret.to_vec()))
    }

    /// RS256: always the same key.
    #[must_use]
    pub fn rs256() -> Self {
        Self(Kind::Rs256(RsaKeyPair::from_der(RSA).unwrap()))
    }

    /// ES256, a key made now.
    #[must_use]
    pub fn es256() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(Kind::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap()))
    }

    /// EdDSA, a key made now.
    #[must_use]
    pub fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Kind::EdDsa(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()))
    }

    /// `alg`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match &self.0 {
            Kind::Hs256(_) => "HS256",
            Kind::Rs256(_) => "RS256",
            Kind::Es256(_) => "ES256",
            Kind::EdDsa(_) => "EdDSA",
        }
    }

    /// A token with these claims, a JSON object.
    #[must_use]
    pub fn token(&self, kid: Option<&str>, claims: &str) -> String {
        let kid = kid.map(|kid| format!(",\"kid\":\"{kid}\"")).unwrap_or_default();
        self.token_with_head(&format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"{kid}}}", self.algorithm()), claims)
    }

    /// The same, whatever `head` says.
    #[must_use]
    pub fn token_with_head(&self, head: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.0 {
            Kind::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Kind::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Kind::Es256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Kind::EdDsa(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as a PEM text. A secret has none.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let (start, key): (&[u8], &[u8]) = match &self.0 {
            Kind::Hs256(_) => panic!("a secret has no public key"),
            Kind::Rs256(_) => return RSA_PUBLIC.to_owned(),
            Kind::Es256(key) => (
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
                key.public_key().as_ref(),
            ),
            Kind::EdDsa(key) => (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", key.public_key().as_ref()),
        };
        let text = STANDARD.encode([start, key].concat());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// What it is verified with as a JWK, and members of its own behind (`"use":"sig"`).
    #[must_use]
    pub fn jwk(&self, kid: &str, others: &str) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = match &self.0 {
            Kind::Hs256(secret) => format!("\"kty\":\"oct\",\"k\":\"{}\"", text(secret)),
            Kind::Rs256(key) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                format!("\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"{}\"", text(&public.n), text(&public.e))
            }
            Kind::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                format!("\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\"", text(x), text(y))
            }
            Kind::EdDsa(key) => {
                format!("\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{}\"", text(key.public_key().as_ref()))
            }
        };
        let others = if others.is_empty() { String::new() } else { format!(",{others}") };
        format!("{{{key},\"kid\":\"{kid}\"{others}}}")
    }
}
