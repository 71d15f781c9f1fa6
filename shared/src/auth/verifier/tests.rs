use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use testkit::TokenKey;

use super::*;
use crate::auth::MAX_KEYS;

const SECRET: &str = "a secret that is long enough for it";
const NOW: u64 = 1_800_000_000;
const CLAIMS: &str = r#"{"sub":"42","exp":1800000060}"#;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn keys() -> [TokenKey; 4] {
    [TokenKey::hs256(SECRET.as_bytes()), TokenKey::rs256(), TokenKey::es256(), TokenKey::ed25519()]
}

/// A verifier by one file, with `text`.
fn by_file(text: &str, setting: fn(PathBuf) -> Settings) -> Result<Verifier, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, text).unwrap();
    Verifier::load(&setting(file))
}

fn by_jwks(text: &str) -> Result<Verifier, LoadError> {
    by_file(text, |file| Settings { jwks_file: Some(file), ..Settings::default() })
}

fn by_pem(text: &str) -> Result<Verifier, LoadError> {
    by_file(text, |file| Settings { public_key_file: Some(file), ..Settings::default() })
}

fn by_secret() -> Verifier {
    Verifier::load(&Settings { secret: Some(SECRET.into()), ..Settings::default() }).unwrap()
}

fn jwks(keys: &[TokenKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk(key.algorithm(), "")).collect();
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

#[test]
fn each_algorithm_by_its_key() {
    let keys = keys();
    let all = by_jwks(&jwks(&keys)).unwrap();
    for key in &keys {
        let token = all.verify(&key.token(Some(key.algorithm()), CLAIMS), now()).unwrap();
        assert_eq!(token.subject.as_deref(), Some("42"), "{}", key.algorithm());
        let alone = match key.algorithm() {
            "HS256" => by_secret(),
            _ => by_pem(&key.public_pem()).unwrap(),
        };
        let good = key.token(None, CLAIMS);
        assert!(alone.is_set() && alone.verify(&good, now()).is_ok(), "{}", key.algorithm());
        for other in keys.iter().filter(|other| other.algorithm() != key.algorithm()) {
            let head = format!("{{\"alg\":\"{}\"}}", key.algorithm());
            for token in [other.token_with_head(&head, CLAIMS), good.replace(key.algorithm(), "x")] {
                let verified = alone.verify(&token, now());
                assert_eq!(verified.is_ok(), token == good, "{} {}", key.algorithm(), other.algorithm());
            }
            assert_eq!(alone.verify(&other.token(None, CLAIMS), now()), Err(AuthError::Algorithm));
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let (rsa, pem) = (TokenKey::rs256(), TokenKey::rs256().public_pem());
    let verifier = by_pem(&pem).unwrap();
    for secret in [pem.as_bytes(), pem.trim().as_bytes()] {
        let forged = TokenKey::hs256(secret);
        assert_eq!(verifier.verify(&forged.token(None, CLAIMS), now()), Err(AuthError::Algorithm));
        let claimed = forged.token_with_head(r#"{"alg":"RS256"}"#, CLAIMS);
        assert_eq!(verifier.verify(&claimed, now()), Err(AuthError::BadSignature));
    }
    assert!(verifier.verify(&rsa.token(None, CLAIMS), now()).is_ok());
}

#[test]
fn what_is_refused_and_why() {
    let (verifier, key) = (by_secret(), TokenKey::hs256(SECRET.as_bytes()));
    let refused = |token: &str| verifier.verify(token, now()).unwrap_err();
    let good = key.token(None, CLAIMS);
    for alg in ["none", "None", "HS384", "RS512", "PS256", ""] {
        let token = key.token_with_head(&format!("{{\"alg\":\"{alg}\"}}"), CLAIMS);
        assert_eq!(refused(&token), AuthError::Algorithm, "{alg}");
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_eq!(refused(&format!("{unsigned}.")), AuthError::Algorithm, "{alg}");
    }
    assert_eq!(refused(&key.token(Some("x"), CLAIMS)), AuthError::UnknownKey);
    assert_eq!(refused(&key.token(Some(""), CLAIMS)), AuthError::UnknownKey);
    assert_eq!(refused(&TokenKey::hs256(&[7; 32]).token(None, CLAIMS)), AuthError::BadSignature);
    assert_eq!(refused(&key.token(None, r#"{"exp":1}"#)), AuthError::Expired);
    assert_eq!(refused(&key.token(None, "[]")), AuthError::Malformed);
    assert_eq!(refused(&key.token(None, "{}x")), AuthError::Malformed);
    for text in ["", ".", "..", "a.b", "x.y.z", &good[..good.len() - 30], &format!("{good}="), &format!("{good}.x")] {
        let error = refused(text);
        assert!(matches!(error, AuthError::Malformed | AuthError::BadSignature), "{text}: {error}");
    }
    assert_eq!(refused(&"x".repeat(MAX_TOKEN_BYTES + 1)), AuthError::TooLong);
    assert_eq!(refused(&"x".repeat(64 << 10)), AuthError::TooLong);
    let critical = key.token_with_head(r#"{"alg":"HS256","crit":["x"],"x":1}"#, CLAIMS);
    assert!(matches!(refused(&critical), AuthError::Claim(_)));
}

#[test]
fn a_jwks_is_used_as_far_as_it_is_for_us() {
    let [secret, rsa, ec, ed] = keys();
    let for_us =
        [secret.jwk("a", ""), rsa.jwk("b", r#""use":"sig","alg":"RS256""#), ec.jwk("c", r#""key_ops":["verify"]"#)];
    let others = [
        ed.jwk("d", r#""use":"enc""#),
        rsa.jwk("e", r#""alg":"RS512""#),
        ec.jwk("f", r#""key_ops":["sign"]"#),
        r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA","kid":"g"}"#.to_owned(),
        r#"{"kty":"oct","k":"c2hvcnQ","kid":"h"}"#.to_owned(),
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"i"}"#.to_owned(),
        r#"{"kty":"new","kid":"j"}"#.to_owned(),
        "7".to_owned(),
    ];
    let text = format!("{{\"keys\":[{},{}]}}", others.join(","), for_us.join(","));
    let verifier = by_jwks(&text).unwrap();
    assert_eq!((verifier.loaded().keys.len(), verifier.loaded().left_out), (3, others.len()));
    for (key, kid, expected) in [
        (&secret, Some("a"), None),
        (&rsa, Some("b"), None),
        (&ec, Some("c"), None),
        (&ed, Some("d"), Some(AuthError::UnknownKey)),
        (&rsa, Some("e"), Some(AuthError::UnknownKey)),
        (&rsa, Some("a"), Some(AuthError::Algorithm)),
        (&rsa, None, Some(AuthError::UnknownKey)),
    ] {
        assert_eq!(verifier.verify(&key.token(kid, CLAIMS), now()).err(), expected, "{kid:?}");
    }
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let error = |result: Result<Verifier, LoadError>| result.map(drop).unwrap_err().to_string();
    let says = |text: String, words: &str| assert!(text.contains(words), "{text} has no {words}");
    says(error(by_jwks("{")), "auth.jwks_file: ");
    says(error(by_jwks("[]")), "it is no JWKS");
    says(error(by_jwks(r#"{"keys":[]}"#)), "none of its 0 keys is for RS256");
    says(error(by_jwks(&format!("{{\"keys\":[{}]}}", vec!["1"; MAX_KEYS + 1].join(",")))), "the limit is 64");
    says(error(by_jwks(&" ".repeat((1 << 20) + 1))), "more than 1048576 bytes");
    says(error(by_pem("x")), "auth.public_key_file: ");
    says(error(by_pem("")), "one section BEGIN PUBLIC KEY");
    let pem = TokenKey::es256().public_pem();
    says(error(by_pem(&format!("{pem}{pem}"))), "one section BEGIN PUBLIC KEY");
    says(error(by_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "private key");
    let short = |file| Settings { secret_file: Some(file), ..Settings::default() };
    says(error(by_file("short\n", short)), "it has 5 bytes, the least is 32");
    let operator = |file| Settings { operator_key_file: Some(file), ..Settings::default() };
    says(error(by_file("short", operator)), "auth.operator_key_file: ");
    let lacking = Settings { jwks_file: Some("/nowhere/keys.json".into()), ..Settings::default() };
    says(error(Verifier::load(&lacking)), "auth.jwks_file: /nowhere/keys.json: No such file");
}

#[test]
fn the_operator_key() {
    let key = "an operator's key, which is long enough";
    let verifier =
        by_file(&format!("{key}\r\n"), |file| Settings { operator_key_file: Some(file), ..Settings::default() });
    let verifier = verifier.unwrap();
    assert!(verifier.is_operator(key) && !verifier.is_set());
    for wrong in ["", "x", &key[1..], &format!("{key} "), &key.to_uppercase()] {
        assert!(!verifier.is_operator(wrong), "{wrong}");
    }
    assert!(!by_secret().is_operator(SECRET) && !by_secret().is_operator(""));
}

#[test]
fn a_reload_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let [old, new] = ["the old secret, of 32 bytes at least", "the new secret, of 32 bytes at least"];
    let token = |secret: &str| TokenKey::hs256(secret.as_bytes()).token(None, CLAIMS);
    std::fs::write(&file, old).unwrap();
    let verifier = Verifier::load(&Settings { secret_file: Some(file.clone()), ..Settings::default() }).unwrap();
    let takes = |secret| verifier.verify(&token(secret), now()).is_ok();
    assert!(takes(old) && !takes(new));
    std::fs::write(&file, "bad").unwrap();
    assert!(verifier.reload().is_err());
    assert!(takes(old) && !takes(new));
    std::fs::write(&file, new).unwrap();
    verifier.reload().unwrap();
    assert!(!takes(old) && takes(new));
}

proptest! {
    /// Whatever is changed of a token, it is refused, and nothing panics.
    #[test]
    fn no_other_token_is_taken(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.=-]", cut in any::<bool>()) {
        let good = TokenKey::hs256(SECRET.as_bytes()).token(None, CLAIMS);
        let at = at.index(good.len());
        let mut changed = good.clone();
        if cut { changed.truncate(at) } else { changed.replace_range(at..=at, &to) }
        prop_assert_eq!(by_secret().verify(&changed, now()).is_ok(), changed == good);
    }

    #[test]
    fn any_text_is_no_token(text in any::<String>()) {
        prop_assert!(by_secret().verify(&text, now()).is_err());
    }
}
