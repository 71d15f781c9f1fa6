//! Which keys there are, learned from the defaults, and which one was meant. Must not read values.

use ::config::{Value, ValueKind};
use serde_json::Value as Json;

use super::error::Problem;
use super::path::Path;
use super::text;

/// The keys of a configuration. Values of `shape` stand for their types; `null` may be anything.
pub(super) struct Keys {
    shape: Json,
    /// Every key that holds a value, `redis.url`, `channels[].prefix`.
    values: Vec<String>,
    /// Every key that holds a section.
    sections: Vec<String>,
}

/// What a path of an environment variable or flag leads to.
pub(super) enum Found<'k> {
    /// A value whose default has this shape.
    Value(&'k Json),
    /// A section, with the path of a key in it if there is one.
    Section(Option<&'k str>),
    /// No such key.
    Nothing,
}

impl Keys {
    pub(super) fn learn(defaults: &Json, taught: &[(&str, Json)]) -> Result<Self, Problem> {
        if !defaults.is_object() {
            return Err(Problem::new(None, "the defaults are not a table"));
        }
        let mut shape = defaults.clone();
        for (key, example) in taught {
            let slot = key.split('.').try_fold(&mut shape, |at, name| at.get_mut(name));
            match slot {
                Some(Json::Array(items)) => *items = vec![example.clone()],
                Some(slot @ Json::Null) => *slot = example.clone(),
                Some(_) => {
                    return Err(Problem::new(
                        None,
                        format!("taught key {key:?} is neither an array nor empty by default"),
                    ));
                }
                None => return Err(Problem::new(None, format!("taught key {key:?} is not among the defaults"))),
            }
        }
        let mut keys = Self { shape: Json::Null, values: Vec::new(), sections: Vec::new() };
        keys.list(&shape, "");
        keys.shape = shape;
        Ok(keys)
    }

    fn list(&mut self, shape: &Json, path: &str) {
        match shape {
            Json::Object(fields) => {
                if !path.is_empty() && !path.ends_with("[]") {
                    self.sections.push(path.to_owned());
                }
                for (name, inner) in fields {
                    self.list(inner, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") });
                }
            }
            Json::Array(items) => {
                self.values.push(path.to_owned());
                if let Some(first @ Json::Object(_)) = items.first() {
                    self.list(first, &format!("{path}[]"));
                }
            }
            _ => self.values.push(path.to_owned()),
        }
    }

    /// Follows names that may differ in case; the path that comes back has the case of the keys.
    pub(super) fn find(&self, names: &[&str]) -> (Path, Found<'_>) {
        let (mut at, mut path) = (&self.shape, Path::default());
        for name in names {
            let Json::Object(fields) = at else { return (Path::default(), Found::Nothing) };
            if fields.is_empty() && !name.is_empty() {
                (at, path) = (&Json::Null, path.key(&name.to_lowercase()));
                continue;
            }
            let Some((name, inner)) = fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
                return (Path::default(), Found::Nothing);
            };
            (at, path) = (inner, path.key(name));
        }
        if !at.is_object() {
            return (path, Found::Value(at));
        }
        let inside = format!("{path}.");
        let example = self.values.iter().find(|key| key.starts_with(&inside)).map(String::as_str);
        (path, Found::Section(example))
    }

    /// The key that `name`, of an environment variable, spells when one underscore and two are not told apart.
    pub(super) fn spelled(&self, name: &str) -> Option<&str> {
        let flat = |text: &str| text.to_lowercase().replace("__", "_");
        let name = flat(name);
        self.values.iter().find(|key| flat(&key.replace('.', "_")) == name).map(String::as_str)
    }

    /// A value that shows the type at `path`: the default, or what was taught.
    pub(super) fn example(&self, path: &Path) -> Option<Value> {
        let mut at = &self.shape;
        for part in path.general().split('.') {
            let name = part.trim_end_matches("[]");
            at = at.get(name)?;
            for _ in 0..(part.len() - name.len()) / 2 {
                at = at.get(0)?;
            }
        }
        Some(text::plain_value(at))
    }

    /// Removes from a layer whatever no key is for, and says so.
    pub(super) fn sift(&self, layer: &mut Value, place: &str) -> Vec<Problem> {
        let mut sieve = Sieve { keys: self, place, problems: Vec::new() };
        sieve.keep(&self.shape, layer, &Path::default());
        sieve.problems
    }

    /// The refusal of a key that is not known, with the nearest that is.
    pub(super) fn unknown(&self, path: &Path, place: &str) -> Problem {
        let mut text = format!("unknown key {:?}", path.to_string());
        if let Some(meant) = self.nearest(path) {
            text.push_str(&format!("; did you mean {meant:?}?"));
        }
        Problem::new(Some(place), text)
    }

    fn nearest(&self, path: &Path) -> Option<String> {
        let known = self.values.iter().chain(&self.sections).map(String::as_str);
        let best = nearest(&path.general(), known)?;

        // Within an array of tables, name the same element.
        let parent = path.parent().unwrap_or_default();
        let inside = best.strip_prefix(&parent.general()).filter(|_| best.contains("[]"));
        Some(inside.map_or_else(|| best.to_owned(), |rest| format!("{parent}{rest}")))
    }
}

/// The known key that is fewest slips of the hand away: a third of its letters may differ; failing that, a key of that
/// name in another section.
pub(super) fn nearest<'k>(wrong: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (wrong.chars().count() / 3).max(1);
    let score = |known: &str| {
        let whole = strsim::damerau_levenshtein(wrong, known);
        if whole <= limit {
            return Some(whole);
        }
        let slips = strsim::damerau_levenshtein(last(wrong), last(known));
        (slips <= last(wrong).chars().count() / 4).then_some(limit + 1 + slips)
    };
    let (_, best) = known.filter_map(|key| Some((score(key)?, key))).min_by_key(|(score, _)| *score)?;
    Some(best)
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

struct Sieve<'k> {
    keys: &'k Keys,
    place: &'k str,
    problems: Vec<Problem>,
}

impl Sieve<'_> {
    /// False: the value is to be left out.
    fn keep(&mut self, shape: &Json, value: &mut Value, path: &Path) -> bool {
        match (shape, &mut value.kind) {
            (Json::Object(fields), ValueKind::Table(table)) if !fields.is_empty() => {
                for name in text::sorted(table) {
                    let path = path.key(&name);
                    let Some(inner) = table.get_mut(&name) else { continue };
                    let kept = match fields.get(&name) {
                        Some(shape) => self.keep(shape, inner, &path),
                        None => self.refuse(inner, &path),
                    };
                    if !kept {
                        table.remove(&name);
                    }
                }
                true
            }
            (Json::Object(_), kind) if !matches!(kind, ValueKind::Table(_)) => {
                let text = text::mismatch(path, "a table", &text::described(kind));
                self.problems.push(Problem::new(Some(self.place), text));
                false
            }
            (Json::Array(items), ValueKind::Array(values)) => {
                let shape = items.first().unwrap_or(&Json::Null);
                for (index, inner) in values.iter_mut().enumerate() {
                    // An element cannot be left out: the others would change their numbers. `T` refuses it.
                    if !shape.is_object() || matches!(inner.kind, ValueKind::Table(_)) {
                        self.keep(shape, inner, &path.index(index));
                    }
                }
                true
            }
            (_, ValueKind::Float(number)) if !number.is_finite() => {
                let text = text::mismatch(path, "a finite number", &number.to_string());
                self.problems.push(Problem::new(Some(self.place), text));
                false
            }
            _ => true,
        }
    }

    /// Says what is unknown key by key, so that a section misspelled names all that went astray.
    fn refuse(&mut self, value: &Value, path: &Path) -> bool {
        match &value.kind {
            ValueKind::Table(table) if !table.is_empty() => {
                for name in text::sorted(table) {
                    if let Some(inner) = table.get(&name) {
                        self.refuse(inner, &path.key(&name));
                    }
                }
            }
            _ => self.problems.push(self.keys.unknown(path, self.place)),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_the_section_is_nearer_than_another_section() {
        let known = ["quota.max", "limits.max", "listen"];
        let near = |wrong| nearest(wrong, known.into_iter());
        assert_eq!(near("limts.max"), Some("limits.max"));
        assert_eq!(near("max"), Some("quota.max"));
        assert_eq!(near("lsiten"), Some("listen"));
        assert_eq!(near("colour"), None);
        assert_eq!(near(""), None);
    }
}
