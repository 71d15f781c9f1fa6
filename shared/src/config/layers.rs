//! One layer each out of a file, the environment and the flags: only keys that are known, and what was wrong with the
//! rest. Must not judge values.

use std::fs;
use std::path::Path as FilePath;

use ::config::{ConfigError as ReadError, File, FileFormat, Map, Source, Value};

use super::error::Problem;
use super::keys::{Found, Keys};
use super::path::Path;
use super::read::Fault;
use super::sources::Flag;
use super::text;

/// What Kubernetes begins the value of an injected `..._PORT` with.
const SERVICE_ADDRESSES: [&str; 3] = ["tcp://", "udp://", "sctp://"];

/// A tree to lay over what is there, and what is wrong so far.
pub(super) struct Layer {
    pub(super) tree: Value,
    pub(super) texts: Vec<Text>,
    /// The name of the file, and what it holds. Kept for whoever is told on which line a key stands, since a pipe is read once.
    pub(super) file: Option<(String, String)>,
    pub(super) problems: Vec<Problem>,
}

/// A text that may mean more than one thing.
pub(super) struct Text {
    pub(super) path: Path,
    /// As it was given.
    pub(super) given: Value,
    /// Readings that were not tried, the best last.
    pub(super) others: Vec<Value>,
    /// Why it was not to be read as it was given.
    pub(super) fault: Option<Fault>,
}

impl Layer {
    fn new() -> Self {
        Self { tree: Value::from(Map::<String, Value>::new()), texts: Vec::new(), file: None, problems: Vec::new() }
    }

    fn refuse(&mut self, place: &str, text: impl Into<String>) {
        self.problems.push(Problem::new(Some(place), text));
    }

    /// Sets one key to what was given as text. Returns its path when the key holds a value.
    fn set(&mut self, keys: &Keys, names: &[&str], given: &str, place: &str) -> Option<Path> {
        let (path, shape) = match keys.find(names) {
            (path, Found::Value(shape)) => (path, shape),
            (path, Found::Section(example)) => {
                let hint = example.map(|key| format!("; set one of its keys, such as {key:?}")).unwrap_or_default();
                self.refuse(place, format!("{:?} is a section{hint}", path.to_string()));
                return None;
            }
            (_, Found::Nothing) => {
                let path = names.iter().fold(Path::default(), |path, name| path.key(&name.to_lowercase()));
                self.problems.push(keys.unknown(&path, place));
                return None;
            }
        };
        let Some(mut reading) = text::read(shape, given, place) else {
            self.refuse(
                place,
                format!("{:?} is an array of tables, which can be set in a file only", path.to_string()),
            );
            return None;
        };
        self.texts.retain(|text| text.path != path);
        if !reading.others.is_empty() {
            reading.others.reverse();
            let (path, given) = (path.clone(), reading.value.clone());
            self.texts.push(Text { path, given, others: reading.others, fault: None });
        }
        path.put(&mut self.tree, reading.value);
        Some(path)
    }
}

/// Reads one TOML file.
pub(super) fn file(path: &FilePath, keys: &Keys) -> Layer {
    let place = path.display().to_string();
    let mut layer = Layer::new();
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes),
        Err(error) => {
            layer.refuse(&place, format!("cannot be read: {error}"));
            return layer;
        }
    };
    let Ok(text) = text else {
        layer.refuse(&place, "is not UTF-8");
        return layer;
    };
    // Read here rather than by the crate, which would look for other file names too and replace what is not UTF-8.
    match File::from_str(&text, FileFormat::Toml).collect() {
        Ok(table) => {
            layer.tree = text::said_at(Value::from(table), &place);
            layer.problems = keys.sift(&mut layer.tree, &place);
        }
        Err(error) => layer.refuse(&place, syntax(&error)),
    }
    layer.file = Some((place, text));
    layer
}

/// The parser's picture of several lines, in one: `TOML error at line 3, column 9: ...`.
fn syntax(error: &ReadError) -> String {
    let picture = match error {
        ReadError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let mut lines = picture.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let Some(position) = first.strip_prefix("TOML parse error at ") else {
        return format!("TOML error: {}", picture.trim().replace('\n', ", "));
    };
    // Below the position the source is quoted, each line with a bar after its number.
    let quoted =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let message: Vec<&str> = lines.skip_while(quoted).collect();
    format!("TOML error at {position}: {}", message.join(", "))
}

/// Reads the variables that begin with the prefix, in the order of their names.
pub(super) fn environment(prefix: &str, variables: &[(String, String)], keys: &Keys) -> Layer {
    let mut layer = Layer::new();
    let mut set: Vec<(Path, &str)> = Vec::new();
    let mut ours: Vec<(&str, &str, &str)> = variables
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str(), name.strip_prefix(prefix)?.strip_prefix('_')?, value.as_str()))
        })
        .collect();
    ours.sort_by_key(|(name, _, _)| *name);

    for (name, rest, value) in ours {
        let Some(key) = rest.strip_prefix('_') else {
            if let Some(problem) = one_underscore_short(prefix, name, rest, value, keys) {
                layer.problems.push(problem);
            }
            continue;
        };
        let names: Vec<&str> = key.split("__").collect();
        let Some(path) = layer.set(keys, &names, value, name) else { continue };
        // Names that differ in case only: neither comes later, so neither may win.
        match set.iter().find(|(other, _)| *other == path) {
            Some((_, other)) if *other != name => {
                layer.refuse(name, format!("sets {:?}, which {other} sets too", path.to_string()));
            }
            _ => set.push((path, name)),
        }
    }
    layer
}

fn one_underscore_short(prefix: &str, name: &str, rest: &str, value: &str, keys: &Keys) -> Option<Problem> {
    let key = keys.spelled(rest)?;
    if SERVICE_ADDRESSES.iter().any(|scheme| value.starts_with(scheme)) {
        return None;
    }
    let meant = key.to_uppercase().replace('.', "__");
    Some(Problem::new(Some(name), format!("unknown variable; did you mean {prefix}__{meant}?")))
}

/// Reads the flags that were given, in their order; the later of two for one key wins.
pub(super) fn flags(flags: &[Flag], keys: &Keys) -> Layer {
    let mut layer = Layer::new();
    for flag in flags {
        let names: Vec<&str> = flag.key.split('.').collect();
        layer.set(keys, &names, &flag.value, flag.name);
    }
    layer
}
