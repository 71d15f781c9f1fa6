//! Configuration in layers: defaults, then TOML files, then environment, then flags; the later one wins.
//!
//! Reads text and says what is wrong with it, all of it at once, a line a problem: where it was said, which key, what was
//! expected. It must not know any binary's settings: those are a struct of the binary's own, and its [`Default`] is what
//! the keys and their types are learned from.
//!
//! # Rules
//!
//! - Known keys are the fields of `T::default()` as serde writes them: `Option` fields count, sections are nested
//!   structs, an empty map takes any key. Any other key is refused, with the nearest known one.
//! - What a default cannot show is *taught* ([`load_with`]): the keys inside an array of tables (empty by default) or
//!   inside an optional section (`None` by default).
//! - Types are strict. In a file `"8080"` is no number and `8080` no string. Text from the environment or a flag is read
//!   by the type of the default; arrays of plain values are separated by commas. Where the default is `None`, text is
//!   tried as a string, then as a number or `true`/`false`, then as a list; empty text means `None`.
//! - Sections merge key by key; arrays are replaced whole.
//! - A wrong value is reported even where a later layer would have covered it.
//!
//! # Names in the environment
//!
//! `SSE_GATEWAY__REDIS__URL` is key `redis.url`: the prefix as it is, then two underscores before each level, the rest in
//! any case. One underscore belongs to a name: `SSE_GATEWAY__ADMIN_LISTEN` is `admin_listen`.
//!
//! `SSE_GATEWAY_LISTEN`, one underscore short, would silently do nothing; it is refused when, and only when, the rest
//! spells a known key. Everything else that begins `SSE_GATEWAY_` is ignored, since Kubernetes puts such names into every
//! container of a namespace with a service `sse-gateway` (`SSE_GATEWAY_SERVICE_HOST`,
//! `SSE_GATEWAY_PORT=tcp://10.0.0.1:80`, `SSE_GATEWAY_PORT_80_TCP_ADDR`). Should a key be called `port` one day, the
//! injected variable is still told from a mistake by its value: text that begins `tcp://`, `udp://` or `sctp://` is let
//! pass.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Config {
//!     listen: String,
//!     #[serde(with = "shared::config::duration")]
//!     keep_alive: Duration,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { listen: "127.0.0.1:8080".to_owned(), keep_alive: Duration::from_secs(20) }
//!     }
//! }
//!
//! let sources = shared::config::Sources::new("SSE_GATEWAY")
//!     .env([("SSE_GATEWAY__KEEP_ALIVE".to_owned(), "5s".to_owned())])
//!     .flag("listen", "--listen", Some("127.0.0.1:9000".to_owned()));
//! let config: Config = shared::config::load(&sources)?;
//! assert_eq!(config, Config { listen: "127.0.0.1:9000".to_owned(), keep_alive: Duration::from_secs(5) });
//! # Ok::<(), shared::config::ConfigError>(())
//! ```

pub mod duration;

mod differences;
mod effective;
mod error;
mod keys;
mod layers;
mod lines;
mod path;
mod ranges;
mod read;
mod secrets;
mod settle;
mod sources;
mod text;

#[cfg(test)]
mod tests;

pub use differences::differences;
pub use effective::{Effective, Origin, Setting};
pub use error::ConfigError;
pub use ranges::{between, within};
pub use sources::Sources;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use error::Problem;
use keys::Keys;
use settle::{Settled, Settler};

/// Loads `T` from all layers of `sources`.
///
/// # Errors
///
/// [`ConfigError`] with every problem of every layer: a file that cannot be read or is no TOML (with line and column),
/// unknown keys, values of the wrong type or that `T` refuses, and variables one underscore short.
pub fn load<T>(sources: &Sources) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    load_with(sources, &[])
}

/// As [`load`], for a `T` whose default does not show all of its keys.
///
/// Each pair of `taught` names a key, and gives an example of what is in it: of one element where the key holds an array
/// of tables, of the section where the key is `None` by default. An example shows every key, with `null` for an optional
/// one: `&[("channels", serde_json::json!({"prefix": "", "history": 0}))]`. It teaches names and types only; no value of
/// it ends up in `T`.
///
/// Elements of an array of tables that nobody taught are checked by `T` alone (`#[serde(deny_unknown_fields)]`). They can
/// be written in files only. An enum whose variants hold data is a section; teach the keys of all variants.
///
/// # Errors
///
/// As [`load`]; and when `taught` names a key that `T` has not, or whose default is neither an array nor `None`.
pub fn load_with<T>(sources: &Sources, taught: &[(&str, Json)]) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    load_checked(sources, taught, |_| Vec::new())
}

/// As [`load_with`], then `check`: the ranges and the rules between keys that types do not hold.
///
/// What `check` returns ([`ConfigError::invalid`]) is reported together, each with the place where that key was said.
/// `check` runs only on a configuration that is otherwise sound.
///
/// # Errors
///
/// As [`load_with`], or the errors of `check`.
pub fn load_checked<T>(
    sources: &Sources,
    taught: &[(&str, Json)],
    check: impl FnOnce(&T) -> Vec<ConfigError>,
) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    settle(sources, taught, check).map(|settled| settled.config)
}

/// As [`load_checked`], with each value and who said it, to be shown to people: no secret is in it. What sounds like one (a text
/// whose key has `secret`, `password`, `token` or `key` in its name) is hidden whole, unless the key ends in `_file` or is one
/// of `plain`; of a URL its password and its query are.
///
/// # Errors
///
/// As [`load_checked`].
pub fn load_effective<T>(
    sources: &Sources,
    taught: &[(&str, Json)],
    plain: &[&str],
    check: impl FnOnce(&T) -> Vec<ConfigError>,
) -> Result<Effective<T>, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let settled = settle(sources, taught, check)?;
    Effective::new(settled, sources, plain)
        .map_err(|error| Problem::new(None, format!("the values cannot be written: {error}")).into())
}

/// The configuration, and what it was read from.
fn settle<T>(
    sources: &Sources,
    taught: &[(&str, Json)],
    check: impl FnOnce(&T) -> Vec<ConfigError>,
) -> Result<Settled<T>, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let defaults = serde_json::to_value(T::default())
        .map_err(|error| Problem::new(None, format!("the defaults cannot be written: {error}")))?;
    let keys = Keys::learn(&defaults, taught)?;

    let mut settler = Settler::new(&keys, &defaults);
    for path in &sources.files {
        settler.lay::<T>(layers::file(path, &keys));
    }
    settler.lay::<T>(layers::environment(&sources.prefix, &sources.variables, &keys));
    settler.lay::<T>(layers::flags(&sources.flags, &keys));
    settler.refuse(sources.unreadable.iter().cloned());
    let settled = settler.finish::<T>()?;

    let errors = check(&settled.config).into_iter().map(|error| error.placed_by(&settled.tree));
    ConfigError::all(errors)?;
    Ok(settled)
}
