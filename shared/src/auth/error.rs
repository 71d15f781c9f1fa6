//! Why a request is refused, in words for whoever sent it and as labels for whoever counts.

use super::MAX_TOKEN_BYTES;

/// Why a token, or a request without one, is refused. Its text never holds a byte of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("there is no token: it is sent as Authorization: Bearer <token>")]
    Missing,
    /// It is sent along by a browser, and for a page of another origin.
    #[error(
        "the token came as a cookie, with a request of a page of another origin, which is not in cors.allowed_origins"
    )]
    Origin,
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// No JWT.
    #[error(
        "the token is no JWT: a head, claims and a signature, each in base64url without padding, the first two JSON"
    )]
    Malformed,
    /// No key is for its algorithm.
    #[error("no key here is for the token's algorithm (alg): HS256, RS256, ES256 and EdDSA can be, and none never is")]
    Algorithm,
    /// Its `kid` is that of no key.
    #[error("the token's key (kid) is not known here; a token without kid is for keys that have none")]
    UnknownKey,
    /// Not signed with any of the keys that it could be.
    #[error("the token's signature does not match")]
    BadSignature,
    /// After `exp`.
    #[error("the token has expired (exp)")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
    /// `iss` is not what it has to be.
    #[error("the token is not from the issuer (iss) that is taken here")]
    Issuer,
    /// `aud` names nobody here.
    #[error("the token is not for the audience (aud) that is here")]
    Audience,
    /// It does not grant a channel that was asked for.
    #[error("the token does not grant this channel")]
    NotGranted,
    /// A claim is not what it has to be; which, and what it has to be.
    #[error("the token's {0}")]
    Claim(&'static str),
}

impl AuthError {
    /// Every label of [`as_str`](Self::as_str).
    pub const REASONS: [&'static str; 13] = [
        "missing",
        "origin",
        "too_long",
        "malformed",
        "algorithm",
        "unknown_key",
        "bad_signature",
        "expired",
        "not_yet_valid",
        "issuer",
        "audience",
        "not_granted",
        "claims",
    ];

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Origin => "origin",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NotGranted => "not_granted",
            Self::Claim(_) => "claims",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_label() {
        let all = [
            AuthError::Missing,
            AuthError::Origin,
            AuthError::TooLong,
            AuthError::Malformed,
            AuthError::Algorithm,
            AuthError::UnknownKey,
            AuthError::BadSignature,
            AuthError::Expired,
            AuthError::NotYetValid,
            AuthError::Issuer,
            AuthError::Audience,
            AuthError::NotGranted,
            AuthError::Claim("x"),
        ];
        assert_eq!(all.map(AuthError::as_str), AuthError::REASONS);
    }
}
