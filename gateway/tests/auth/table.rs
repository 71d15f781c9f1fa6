//! Every place of a token with every algorithm and every fault: refused as it should be, and nothing of it logged.

use serde_json::json;
use shared::auth::AuthError;

use super::*;

/// Where a token comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Header,
    Cookie,
    Query,
}

const ALL_PLACES: [Place; 3] = [Place::Header, Place::Cookie, Place::Query];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    /// `alg` is none, and there is no signature.
    Unsigned,
    /// HS256, signed with the text of the RSA public key.
    PublicKeyAsSecret,
    /// The same, saying that it is by the key's own algorithm.
    PublicKeyAsOwn,
    UnknownKid,
    NoKid,
    OtherKey,
    Truncated,
    WrongClaim,
    /// 8 KiB and a byte.
    TooLong,
    /// 64 KiB.
    FarTooLong,
    ChannelNotGranted,
    /// A cursor that is good on another user's channel, which is asked for with it.
    ForeignCursor,
}

const ALL_FAULTS: [Fault; 16] = [
    Fault::Expired,
    Fault::NotYetValid,
    Fault::Issuer,
    Fault::Audience,
    Fault::Unsigned,
    Fault::PublicKeyAsSecret,
    Fault::PublicKeyAsOwn,
    Fault::UnknownKid,
    Fault::NoKid,
    Fault::OtherKey,
    Fault::Truncated,
    Fault::WrongClaim,
    Fault::TooLong,
    Fault::FarTooLong,
    Fault::ChannelNotGranted,
    Fault::ForeignCursor,
];

impl Fault {
    fn token(self, key: &TokenKey, place: Place) -> String {
        let kid = Some(key.algorithm());
        let with = |changed| key.token(kid, &claims(&changed));
        let public = TokenKey::hs256(TokenKey::rs256().public_pem().as_bytes());
        match self {
            Self::Expired => with(json!({"exp": now() - 31})),
            Self::NotYetValid => with(json!({"nbf": now() + 100})),
            Self::Issuer => with(json!({"iss": "https://evil.example.com/"})),
            Self::Audience => with(json!({"aud": ["else"]})),
            Self::Unsigned => {
                let head = format!("{{\"alg\":\"none\",\"kid\":\"{}\"}}", key.algorithm());
                let signed = key.token_with_head(&head, &claims(&json!({})));
                format!("{}.", signed.rsplit_once('.').unwrap().0)
            }
            Self::PublicKeyAsSecret => public.token(Some("RS256"), &claims(&json!({}))),
            Self::PublicKeyAsOwn => {
                let head = format!("{{\"alg\":\"{0}\",\"kid\":\"{0}\"}}", key.algorithm());
                public.token_with_head(&head, &claims(&json!({})))
            }
            Self::UnknownKid => key.token(Some("nobody's"), &claims(&json!({}))),
            Self::NoKid => key.token(None, &claims(&json!({}))),
            Self::OtherKey => {
                let head = format!("{{\"alg\":\"{0}\",\"kid\":\"{0}\"}}", key.algorithm());
                let other = if key.algorithm() == "EdDSA" { TokenKey::es256() } else { TokenKey::ed25519() };
                other.token_with_head(&head, &claims(&json!({})))
            }
            Self::Truncated => {
                let good = with(json!({}));
                let signature = good.rsplit_once('.').unwrap().1.len();
                // Whole groups of four characters are still base64.
                good[..good.len() - signature % 4].to_owned()
            }
            Self::WrongClaim => with(json!({"channels": "a"})),
            Self::TooLong => sized(8 * 1_024 + 1, &with(json!({}))),
            // Longer URLs are refused by the client already.
            Self::FarTooLong if place == Place::Query => sized(60_000, &with(json!({}))),
            Self::FarTooLong => sized(64 * 1_024, &with(json!({}))),
            Self::ChannelNotGranted | Self::ForeignCursor => with(json!({"channels": ["a", "user:4*"]})),
        }
    }

    /// What is answered; a URL that is too long is so before anybody looks for a token in it.
    fn expected(self, place: Place) -> Answer {
        let too_long = |detail: &str| matches!(place, Place::Query).then(|| url_too_long(detail));
        let text = |error: AuthError| refused(&error.to_string());
        match self {
            Self::Expired => text(AuthError::Expired),
            Self::NotYetValid => text(AuthError::NotYetValid),
            Self::Issuer => text(AuthError::Issuer),
            Self::Audience => text(AuthError::Audience),
            Self::Unsigned | Self::PublicKeyAsSecret => text(AuthError::Algorithm),
            Self::PublicKeyAsOwn | Self::OtherKey | Self::Truncated => text(AuthError::BadSignature),
            Self::UnknownKid | Self::NoKid => text(AuthError::UnknownKey),
            Self::WrongClaim => refused(
                "the token's claim channels has to be an array of at most 256 names of channels, or beginnings of names \
                 that end in *",
            ),
            Self::TooLong => too_long("8230").unwrap_or_else(|| text(AuthError::TooLong)),
            Self::FarTooLong => too_long("60037").unwrap_or_else(head_too_long),
            Self::ChannelNotGranted | Self::ForeignCursor => Answer {
                status: 403,
                problem: "channel-not-granted".into(),
                detail: AuthError::NotGranted.to_string(),
                field: "channel".into(),
                challenge: None,
            },
        }
    }

    fn path(self, foreign: &str) -> String {
        match self {
            Self::ChannelNotGranted => "/events?channel=user:42&channel=user:7".to_owned(),
            Self::ForeignCursor => format!("/events?channel=user:7&last_event_id={foreign}"),
            _ => "/events?channel=user:42".to_owned(),
        }
    }
}

fn sized(length: usize, token: &str) -> String {
    format!("{token}{}", "x".repeat(length - token.len()))
}

/// A whole head of 64 KiB is cut off before it is HTTP.
fn head_too_long() -> Answer {
    Answer { status: 431, problem: String::new(), detail: String::new(), field: String::new(), challenge: None }
}

fn url_too_long(bytes: &str) -> Answer {
    Answer {
        status: 414,
        problem: "url-too-long".into(),
        detail: format!("path and query have {bytes} bytes, the limit is 8192"),
        field: "url".into(),
        challenge: None,
    }
}

impl Place {
    fn request(self, world: &World, path: &str, token: &str) -> RequestBuilder {
        match self {
            Self::Header => world.get(path).bearer_auth(token),
            Self::Cookie => world.get(path).header("cookie", format!("theme=dark; sse_token={token}")),
            Self::Query => world.get(&format!("{path}&access_token={token}")),
        }
    }
}

async fn table(lane: Lane) {
    let world = World::start(lane, PLACES).await;
    let published = world.request(Method::POST, "/publish").bearer_auth(OPERATOR);
    let published = published.json(&json!({"channel": "user:7", "data": "x"})).send().await.unwrap();
    let foreign = published.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let mut tokens = Vec::new();
    for place in ALL_PLACES {
        for key in &world.keys {
            let good = key.token(Some(key.algorithm()), &claims(&json!({})));
            let answer = ask(place.request(&world, "/events?channel=user:42", &good)).await;
            assert_eq!((answer.status, answer.problem.as_str()), (200, ""), "{place:?} {}", key.algorithm());
            tokens.push(good);
            for fault in ALL_FAULTS {
                let token = fault.token(key, place);
                let answer = ask(place.request(&world, &fault.path(&foreign), &token)).await;
                assert_eq!(answer, fault.expected(place), "{place:?} {} {fault:?}", key.algorithm());
                assert!(!answer.detail.contains(&token));
                tokens.push(token);
            }
        }
    }
    let log = world.log();
    assert!(log.contains("refused a request"), "the log is there: {log}");
    for token in tokens {
        // Each part by itself: the head is the same for many, and says nothing.
        for part in token.split('.').skip(1).filter(|part| part.len() > 20) {
            assert!(!log.contains(&part[..20]) && !log.contains(&part[part.len() - 20..]), "{token} is in the log");
        }
    }
    for secret in [OPERATOR, std::str::from_utf8(SECRET).unwrap()] {
        assert!(!log.contains(secret));
    }
    let refusals = world.gateway.metric("sse_gateway_auth_refused_total{reason=\"expired\"}").await;
    assert_eq!(refusals as usize, ALL_PLACES.len() * world.keys.len());
}

#[tokio::test]
async fn every_place_algorithm_and_fault_on_the_direct_lane() {
    table(Lane::Direct).await;
}

#[tokio::test]
async fn every_place_algorithm_and_fault_on_the_hyper_lane() {
    table(Lane::Hyper).await;
}
