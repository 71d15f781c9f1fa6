//! Lays layer upon layer and asks the type about each result. Where it refuses a value, the value is reported and replaced
//! by one that will do, and the type is asked again: so every problem is found, not the first of each run. Must not read
//! sources.

use ::config::{Config, ConfigError as MergeError, Value, ValueKind};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::error::{ConfigError, Problem};
use super::keys::{self, Keys};
use super::layers::{Layer, Text};
use super::path::Path;
use super::read::{Fault, Reader, What};
use super::text;

/// After so many nobody reads on, and each costs a run over the whole tree.
const MAX_PROBLEMS: usize = 100;

pub(super) struct Settler<'k> {
    keys: &'k Keys,
    /// All layers so far, merged.
    tree: Value,
    /// The last tree that the type accepted.
    good: Value,
    /// Texts in the tree that may still be read another way.
    texts: Vec<Text>,
    /// Keys that were taken away because of what they held; they are not missing.
    removed: Vec<Path>,
    /// As in [`Settled`].
    files: Vec<(String, String)>,
    problems: Vec<Problem>,
}

/// A configuration without a problem, and what it came from.
pub(super) struct Settled<T> {
    pub(super) config: T,
    /// All layers, merged.
    pub(super) tree: Value,
    /// The names of the files, and what each held.
    pub(super) files: Vec<(String, String)>,
}

impl<'k> Settler<'k> {
    pub(super) fn new(keys: &'k Keys, defaults: &Json) -> Self {
        let tree = text::plain_value(defaults);
        let (texts, removed, files, problems) = Default::default();
        Self { keys, good: tree.clone(), tree, texts, removed, files, problems }
    }

    pub(super) fn refuse(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// Lays one more layer on top.
    pub(super) fn lay<T: DeserializeOwned>(&mut self, layer: Layer) {
        self.problems.extend(layer.problems);
        self.files.extend(layer.file);
        match merged(&self.tree, &layer.tree) {
            Ok(tree) => self.tree = tree,
            Err(error) => self.problems.push(Problem::new(None, error.to_string())),
        }
        self.texts.retain(|text| !layer.texts.iter().any(|newer| newer.path == text.path));
        self.texts.extend(layer.texts);
        self.settle::<T>(false);
    }

    /// The configuration, and what it was read from.
    pub(super) fn finish<T: DeserializeOwned>(mut self) -> Result<Settled<T>, ConfigError> {
        let config = self.settle::<T>(true);
        ConfigError::of(self.problems)?;
        // Without problems the type accepted the tree.
        let config = config.ok_or_else(|| Problem::new(None, "the configuration cannot be read"))?;
        Ok(Settled { config, tree: self.tree, files: self.files })
    }

    /// `last`: nothing can come any more to supply a key that is missing; until then an example stands in for it.
    fn settle<T: DeserializeOwned>(&mut self, last: bool) -> Option<T> {
        let mut mended = Vec::new();
        let mut stopgaps: Vec<(Path, Value)> = Vec::new();
        while self.problems.len() < MAX_PROBLEMS {
            let mut asked = self.tree.clone();
            for (path, value) in &stopgaps {
                path.put(&mut asked, value.clone());
            }
            let fault = match T::deserialize(Reader(&asked)) {
                Ok(value) => {
                    self.good = asked;
                    return Some(value);
                }
                Err(fault) => fault,
            };
            if let (false, What::Missing(name)) = (last, &fault.what) {
                let path = fault.path.key(name);
                let example = self.keys.example(&path).filter(|_| !stopgaps.iter().any(|(other, _)| *other == path));
                stopgaps.push((path, example?));
                continue;
            }
            // An example need not satisfy the type; what is there can be judged when the rest has come.
            let stands_in = |path: &Path| path.is_within(&fault.path) || fault.path.is_within(path);
            if !matches!(fault.what, What::Unknown { .. }) && stopgaps.iter().any(|(path, _)| stands_in(path)) {
                return None;
            }
            let Some(fault) = self.read_otherwise(fault) else { continue };
            if !self.is_consequence(&fault, &mended) {
                let problem = self.describe(&fault);
                self.problems.push(problem);
            }
            if !self.mend(&fault, &mut mended) {
                return None;
            }
        }
        None
    }

    /// Where the fault is in a text, tries the next reading of it. When none is left, puts back the text as it was given,
    /// and returns what was wrong with that.
    fn read_otherwise(&mut self, fault: Fault) -> Option<Fault> {
        let Some(index) = self.texts.iter().position(|text| fault.path.is_within(&text.path)) else {
            return Some(fault);
        };
        let text = &mut self.texts[index];
        // The first reading is the plain one; a fault inside a list tells more than that there is no list.
        let fault = text.fault.take().filter(|_| fault.path == text.path).unwrap_or(fault);
        if let Some(reading) = text.others.pop() {
            text.path.put(&mut self.tree, reading);
            text.fault = Some(fault);
            return None;
        }
        let text = self.texts.swap_remove(index);
        text.path.put(&mut self.tree, text.given);
        Some(fault)
    }

    /// Whether a fault may be there only because of what was replaced within it.
    fn is_consequence(&self, fault: &Fault, mended: &[Path]) -> bool {
        match &fault.what {
            What::Missing(name) => self.removed.contains(&fault.path.key(name)),
            What::Unknown { key, .. } => mended.contains(&fault.path.key(key)),
            _ => mended.iter().any(|path| path.is_within(&fault.path)),
        }
    }

    /// Replaces the value at fault, or what is around it when that was tried before. False when nothing is left to try.
    fn mend(&mut self, fault: &Fault, mended: &mut Vec<Path>) -> bool {
        let mut next = Some(match &fault.what {
            What::Unknown { key, .. } => fault.path.key(key),
            What::Missing(name) => fault.path.key(name),
            _ => fault.path.clone(),
        });
        while let Some(path) = next {
            next = path.parent();
            if mended.contains(&path) {
                continue;
            }
            mended.push(path.clone());
            let place = path.origin(&self.tree);
            match path.get(&self.good).cloned().or_else(|| self.keys.example(&path)) {
                Some(good) => {
                    let good = place.map_or_else(|| good.clone(), |place| text::said_at(good.clone(), &place));
                    path.put(&mut self.tree, good);
                    return true;
                }
                // Not an element of an array: the others must keep their numbers.
                None if path.remove(&mut self.tree) => {
                    self.removed.push(path);
                    return true;
                }
                None => {}
            }
        }
        false
    }

    fn describe(&self, fault: &Fault) -> Problem {
        let place = fault.path.origin(&self.tree);
        let key = fault.path.to_string();
        let text = match &fault.what {
            What::Missing(name) => format!("missing key {:?}", fault.path.key(name).to_string()),
            What::Unknown { key: name, known } => {
                let hint = keys::nearest(name, known.iter().copied()).map(|known| fault.path.key(known).to_string());
                let hint = hint.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
                format!("unknown key {:?}{hint}", fault.path.key(name).to_string())
            }
            What::Unfit { expected, got } => text::mismatch(&fault.path, expected, got),
            What::Said(reason) if key.is_empty() => reason.clone(),
            What::Said(reason) => {
                let value = fault.path.get(&self.tree).and_then(|value| text::word(&fault.path, &value.kind));
                let value = value.map(|value| format!("{value} ")).unwrap_or_default();
                format!("invalid value {value}for {key:?}: {reason}")
            }
        };
        Problem::new(place.as_deref(), text)
    }
}

/// Tables merge, anything else is replaced.
fn merged(under: &Value, over: &Value) -> Result<Value, MergeError> {
    let source = |cache: &Value| {
        let mut source = Config::default();
        source.cache = cache.clone();
        source
    };
    let merged = Config::builder().add_source(source(under)).add_source(source(over)).build()?;
    let mut tree = merged.cache;
    keep_origins(&mut tree, over);
    Ok(tree)
}

/// The merge makes tables anew, so that an empty one would have been said by nobody.
fn keep_origins(tree: &mut Value, over: &Value) {
    let (ValueKind::Table(fields), ValueKind::Table(said)) = (&mut tree.kind, &over.kind) else { return };
    if fields.is_empty() {
        *tree = over.clone();
        return;
    }
    for (name, inner) in said {
        if let Some(field) = fields.get_mut(name) {
            keep_origins(field, inner);
        }
    }
}
