//! Where a configuration comes from. Collects only; nothing is read or judged before the load.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::error::Problem;

/// The layers above the defaults. In whatever order they are added, files come before environment and environment before
/// flags.
#[derive(Clone, Debug)]
pub struct Sources {
    pub(super) prefix: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) unreadable: Vec<Problem>,
    pub(super) flags: Vec<Flag>,
}

/// A flag that was given.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Sources {
    /// No layers yet. `env_prefix` is what names in the environment begin with, without underscores at its end
    /// (`"SSE_GATEWAY"`).
    pub fn new(env_prefix: &str) -> Self {
        Self {
            prefix: env_prefix.to_owned(),
            files: Vec::new(),
            variables: Vec::new(),
            unreadable: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Adds a TOML file, which must exist. Of several, the one added later wins.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Adds environment variables, name and value. Those of other programs are ignored.
    #[must_use]
    pub fn env(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(vars);
        self
    }

    /// Adds the environment of this process. A variable of ours that is not UTF-8 is reported by the load; any other such
    /// variable is ignored.
    #[must_use]
    pub fn process_env(self) -> Self {
        self.os_env(std::env::vars_os())
    }

    fn os_env(mut self, vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let ours = format!("{}__", self.prefix);
        for (name, value) in vars {
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) => self.variables.push((name.to_owned(), value.to_owned())),
                _ if !OsStr::as_encoded_bytes(&name).starts_with(ours.as_bytes()) => {}
                (name_read, _) => {
                    let what = if name_read.is_some() { "the value" } else { "the name" };
                    let problem = Problem::new(Some(&name.to_string_lossy()), format!("{what} is not UTF-8"));
                    self.unreadable.push(problem);
                }
            }
        }
        self
    }

    /// Adds a flag: the key it sets (`"redis.url"`), its own name for messages (`"--redis-url"`), and what was given, if
    /// it was. The text is read as that of an environment variable.
    #[must_use]
    pub fn flag(mut self, key: &'static str, flag: &'static str, value: Option<String>) -> Self {
        self.flags.extend(value.map(|value| Flag { key, name: flag, value }));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_our_own_variables_must_be_utf8() {
        use std::os::unix::ffi::OsStringExt;

        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let sources = Sources::new("SSE_GATEWAY").os_env([
            (os(b"SSE_GATEWAY__LISTEN"), os(b"caf\xe9")),
            (os(b"SSE_GATEWAY__\xff"), os(b"x")),
            (os(b"OTHER"), os(b"caf\xe9")),
            (os(b"\xff"), os(b"x")),
            (os(b"SSE_GATEWAY__NODE"), os("é".as_bytes())),
        ]);
        assert_eq!(sources.variables, [("SSE_GATEWAY__NODE".to_owned(), "é".to_owned())]);
        let problems: Vec<String> = sources.unreadable.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["SSE_GATEWAY__LISTEN: the value is not UTF-8", "SSE_GATEWAY__\u{fffd}: the name is not UTF-8"]
        );
    }

    #[test]
    fn the_process_environment_is_read() {
        let names: Vec<String> = Sources::new("X").process_env().variables.into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"PATH".to_owned()));
    }
}
