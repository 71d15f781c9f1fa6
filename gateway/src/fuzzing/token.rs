//! Tokens: whoever has no key gets nothing, whatever is sent; what is signed is read strictly.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::Value;
use shared::auth::{AuthError, MAX_TOKEN_BYTES, Settings, Token, Verifier};

const SECRET: &str = "a secret that everybody may know";
const HEAD: &str = r#"{"alg":"HS256"}"#;
const CLAIMS: &str = r#"{"sub":"42","exp":1800000060}"#;
const NOW: u64 = 1_800_000_000;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let settings = Settings { secret: Some(SECRET.to_owned()), ..Settings::default() };
    Verifier::load(&settings).expect("a secret is no file")
});

/// The bytes are a whole token, then the claims and then the head of one that is signed as it should be.
pub(super) fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = verify(text)
    {
        let (message, signature) = text.rsplit_once('.').expect("a signature");
        assert_eq!(BASE64.decode(signature).as_deref(), Ok(sign(message).as_ref()), "taken without a right signature");
        sound(&token);
    }
    let signed = |head: &[u8], claims: &[u8]| {
        let message = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
        let signature = BASE64.encode(sign(&message));
        (message, signature)
    };
    let (message, signature) = signed(HEAD.as_bytes(), bytes);
    if let Ok(token) = verify(&format!("{message}.{signature}")) {
        sound(&token);
        let claims: Value = serde_json::from_slice(bytes).expect("claims that are taken are JSON");
        assert!(claims["exp"].as_f64().is_some_and(|exp| exp + 30.0 > NOW as f64), "{claims}");
        assert_eq!(claims["sub"].as_str(), token.subject.as_deref());
        // One bit of the signature.
        let mut other = sign(&message).as_ref().to_vec();
        other[usize::from(bytes[0]) % 32] ^= 1;
        assert_eq!(verify(&format!("{message}.{}", BASE64.encode(other))), Err(AuthError::BadSignature));
    }
    let (message, signature) = signed(bytes, CLAIMS.as_bytes());
    if verify(&format!("{message}.{signature}")).is_ok() {
        let head: Value = serde_json::from_slice(bytes).expect("a head that is taken is JSON");
        assert!(head["alg"] == "HS256" && head.get("crit").is_none_or(Value::is_null), "{head}");
    }
}

fn verify(token: &str) -> Result<Token, AuthError> {
    let verified = VERIFIER.verify(token, UNIX_EPOCH + Duration::from_secs(NOW));
    if let Err(error) = &verified {
        // Short texts may be words of the error by chance.
        assert!(token.len() < 40 || !format!("{error} {error:?}").contains(token), "an error tells the token");
    }
    assert!(token.len() <= MAX_TOKEN_BYTES || verified == Err(AuthError::TooLong));
    verified
}

/// It can be kept and had again, and has not expired.
fn sound(token: &Token) {
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(NOW);
    assert!(token.expires + Duration::from_secs(30) > now);
    assert_eq!(Token::restore(&token.store()).as_ref(), Some(token));
}

fn sign(message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes())
}
