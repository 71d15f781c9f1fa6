//! The values in use, key by key, and who said each: for people who ask. Shows no secret.

use std::collections::HashMap;
use std::fmt::{self, Display, Write as _};

use ::config::Value;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::lines::Lines;
use super::path::Path;
use super::secrets::hide;
use super::settle::Settled;
use super::sources::Sources;

/// Where the comment behind a value begins; a longer line has it right behind.
const COLUMN: usize = 44;

/// Who said a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A file, on this line, where that is known.
    File(String, Option<usize>),
    /// The environment variable of that name.
    Environment(String),
    /// The flag of that name.
    Flag(String),
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, Some(line)) => write!(f, "{path}:{line}"),
            Self::File(name, None) | Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As in a file: `redis.url`, `channels[0].prefix`.
    pub key: String,
    /// With `***` for what is secret of it; `null`: not set.
    pub value: Json,
    /// Whether something of the value is hidden.
    pub hidden: bool,
    /// Who said it.
    pub origin: Origin,
}

/// A configuration, and each value of it.
#[derive(Debug)]
pub struct Effective<T> {
    /// To be used.
    pub config: T,
    /// To be shown: what has no section first, then the sections.
    pub settings: Vec<Setting>,
}

impl<T: Serialize> Effective<T> {
    /// `plain`: keys that only sound like secrets.
    pub(super) fn new(settled: Settled<T>, sources: &Sources, plain: &[&str]) -> Result<Self, serde_json::Error> {
        let Settled { config, tree, files } = settled;
        let lines = files.iter().map(|(name, text)| (&**name, Lines::of(text))).collect();
        let mut teller = Teller { tree: &tree, sources, plain, lines, settings: Vec::new() };
        teller.tell(serde_json::to_value(&config)?, &Path::default());
        let settings = teller.settings;
        Ok(Self { config, settings })
    }

    /// Files, variables and flags that said something that is in use, each once; files without lines.
    #[must_use]
    pub fn places(&self) -> Vec<&str> {
        let mut places = Vec::new();
        for setting in &self.settings {
            let (Origin::File(name, _) | Origin::Environment(name) | Origin::Flag(name)) = &setting.origin else {
                continue;
            };
            if !places.contains(&&**name) {
                places.push(name);
            }
        }
        places
    }

    /// As a TOML file that would say the same, but for what is hidden, which stands behind a `#` as what is not set does. Each
    /// line ends with who said it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let (mut out, mut section) = (String::new(), Path::default());
        for Setting { key, value, hidden, origin } in &self.settings {
            let path = Path::parse(key);
            let parent = path.parent().unwrap_or_default();
            if parent != section {
                let name = parent.general();
                let header = name.strip_suffix("[]").map_or(format!("[{name}]"), |name| format!("[[{name}]]"));
                // Writing to a String cannot fail.
                let _ = writeln!(out, "\n{header}");
                section = parent;
            }
            let name = path.name();
            let line = match value {
                Json::Null => format!("# {name} is not set"),
                value if *hidden => format!("# {name} = {}", toml(value)),
                value => format!("{name} = {}", toml(value)),
            };
            let hidden = if *hidden { ", hidden" } else { "" };
            let _ = writeln!(out, "{line:COLUMN$} # {origin}{hidden}");
        }
        out
    }

    /// As a JSON object by keys. Each has `value`, `from` (`default`, `file`, `environment` or `flag`), and where there are
    /// any `name` (of the file, the variable or the flag), `line`, and `hidden`, which is true.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let entry = |setting: &Setting| {
            let (from, name, line) = match &setting.origin {
                Origin::Default => ("default", None, None),
                Origin::File(path, line) => ("file", Some(path), *line),
                Origin::Environment(name) => ("environment", Some(name), None),
                Origin::Flag(name) => ("flag", Some(name), None),
            };
            let mut entry = Map::from_iter([("value".into(), setting.value.clone()), ("from".into(), from.into())]);
            entry.extend(name.map(|name| ("name".into(), json!(name))));
            entry.extend(line.map(|line| ("line".into(), line.into())));
            entry.extend(setting.hidden.then(|| ("hidden".into(), true.into())));
            (setting.key.clone(), Json::Object(entry))
        };
        Json::Object(self.settings.iter().map(entry).collect())
    }
}

/// What a string of JSON has escaped TOML has too, and one character more.
fn toml(value: &Json) -> String {
    value.to_string().replace('\u{7f}', "\\u007F")
}

struct Teller<'s> {
    tree: &'s Value,
    sources: &'s Sources,
    plain: &'s [&'s str],
    /// Of each file, by its name.
    lines: HashMap<&'s str, Lines>,
    settings: Vec<Setting>,
}

impl Teller<'_> {
    /// TOML takes what stands behind a section for a part of it.
    fn tell(&mut self, value: Json, path: &Path) {
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                let is_section = |value: &Json| match value {
                    Json::Object(fields) => !fields.is_empty(),
                    Json::Array(items) => matches!(items.first(), Some(Json::Object(_))),
                    _ => false,
                };
                let (sections, plain): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(_, value)| is_section(value));
                for (name, value) in plain.into_iter().chain(sections) {
                    self.tell(value, &path.key(&name));
                }
            }
            Json::Array(items) if matches!(items.first(), Some(Json::Object(_))) => {
                for (index, item) in items.into_iter().enumerate() {
                    self.tell(item, &path.index(index));
                }
            }
            value => self.note(value, path),
        }
    }

    fn note(&mut self, value: Json, path: &Path) {
        let (key, origin) = (path.to_string(), self.origin(path));
        let shown = hide(&key, &value, self.plain);
        self.settings.push(Setting { key, hidden: shown.is_some(), value: shown.unwrap_or(value), origin });
    }

    fn origin(&self, path: &Path) -> Origin {
        let Some(name) = path.origin(self.tree) else { return Origin::Default };
        if let Some(lines) = self.lines.get(&*name) {
            let line = lines.line(path);
            return Origin::File(name, line);
        }
        let is_flag = self.sources.flags.iter().any(|flag| flag.name == name);
        if is_flag { Origin::Flag(name) } else { Origin::Environment(name) }
    }
}
