//! What is wrong with a configuration: one or more problems, a line each. Must not decide what is wrong.

use std::error::Error;
use std::fmt::{self, Display};

use ::config::Value;

use super::path::Path;

/// One thing that is wrong, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// File name, full name of the environment variable, or flag. `None`: nobody said it, or it is not known who.
    place: Option<String>,
    /// The key, where the place is still to be found by it.
    key: Option<Path>,
    text: String,
}

impl Problem {
    pub(super) fn new(place: Option<&str>, text: impl Into<String>) -> Self {
        // A line a problem, whatever the type said.
        Self { place: place.map(str::to_owned), key: None, text: text.into().replace('\n', " ") }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Everything that is wrong with a configuration; never empty. Displays one problem a line, without a final newline.
///
/// ```text
/// config/gateway.toml: unknown key "limts.max_channels"; did you mean "limits.max_channels"?
/// SSE_GATEWAY__KEEP_ALIVE: invalid value for "keep_alive": expected a duration such as "20s", got "20"
/// ```
///
/// A value is shown, unless its key sounds like a secret or it is a URL with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    first: Problem,
    others: Vec<Problem>,
}

impl ConfigError {
    /// A value that has the right type and still will not do: `key` as in a file (`"limits.max_channels"`,
    /// `"channels[1].prefix"`), and why (lower case, no full stop, with the limit). [`load_checked`](super::load_checked)
    /// adds where the value was said.
    pub fn invalid(key: &str, reason: impl Display) -> Self {
        let text = format!("invalid value for {key:?}: {reason}");
        Self { first: Problem { key: Some(Path::parse(key)), ..Problem::new(None, text) }, others: Vec::new() }
    }

    /// Collects the errors of several checks into one.
    ///
    /// # Errors
    ///
    /// All of `errors` in their order; `Ok` when there are none.
    pub fn all(errors: impl IntoIterator<Item = Self>) -> Result<(), Self> {
        Self::of(errors.into_iter().flat_map(Self::into_problems))
    }

    /// `Ok` when there are no problems.
    pub(super) fn of(problems: impl IntoIterator<Item = Problem>) -> Result<(), Self> {
        let mut problems = problems.into_iter();
        let Some(first) = problems.next() else { return Ok(()) };
        Err(Self { first, others: problems.collect() })
    }

    fn into_problems(self) -> impl Iterator<Item = Problem> {
        std::iter::once(self.first).chain(self.others)
    }

    /// Adds the place where `tree` heard of each problem's key.
    pub(super) fn placed_by(mut self, tree: &Value) -> Self {
        for problem in std::iter::once(&mut self.first).chain(&mut self.others) {
            if let Some(key) = problem.key.take() {
                problem.place = key.origin(tree);
            }
        }
        self
    }
}

impl From<Problem> for ConfigError {
    fn from(first: Problem) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        for problem in &self.others {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl Error for ConfigError {}
