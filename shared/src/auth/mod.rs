//! Who may read and publish what: tokens (JWT) and the operator key, verified. Pure but for [`Verifier`], which reads files.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | the section `[auth]` |
//! | `keys`, `pem` | what signatures are verified with, from a secret, a PEM file or a JWKS file |
//! | `claims` | what a token says, checked: [`Token`] |
//! | `grants` | names and prefixes of channels |
//! | `access` | what one request may do: [`Access`] |
//! | `verifier` | keys that are read again while the process runs: [`Verifier`] |
//! | `watch` | the task that notices when their files change |
//!
//! Signatures are ring's, the one provider of cryptography here; `jsonwebtoken` reads heads, claims and JWKs. It would verify
//! with a provider too, but that one is global to the process and is handed keys that it has to prepare again for every token.
//!
//! Nothing of a token, and no key, may end up in an error's text, a log line or a `Debug` output.

mod access;
mod claims;
mod error;
mod grants;
mod keys;
mod pem;
mod settings;
mod verifier;
mod watch;

pub use access::Access;
pub use claims::{MAX_GRANTS, Token};
pub use error::AuthError;
pub use grants::Grants;
pub use keys::{KeyError, Keys, MAX_KEYS};
pub use settings::Settings;
pub use verifier::{LoadError, Verifier};
pub use watch::{INTERVAL, watch};

/// Longest token, in bytes. What carries 256 grants of each kind may be longer: then prefixes serve.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Shortest secret and shortest operator key, in bytes: as much as SHA-256 has.
pub const MIN_SECRET_BYTES: usize = 32;
