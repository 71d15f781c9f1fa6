//! Where a value is in a tree: `channels[1].prefix`. Must not know which paths are allowed.

use std::fmt::{self, Display};

use ::config::{Map, Value, ValueKind};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// A path from the root of a tree; the empty path is the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// Reads what [`Display`] writes. Whatever has not that form is taken as the name of a key.
    pub(super) fn parse(text: &str) -> Self {
        let mut path = Self::default();
        for part in text.split('.') {
            let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
            let numbers: Option<Vec<usize>> =
                indexes.split_terminator('[').map(|index| index.strip_suffix(']')?.parse().ok()).collect();
            let Some(numbers) = numbers else {
                path = path.key(part);
                continue;
            };
            path = path.key(name);
            for number in numbers {
                path = path.index(number);
            }
        }
        path
    }

    pub(super) fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// Puts a key in front: errors learn their path on the way up.
    pub(super) fn under_key(mut self, name: &str) -> Self {
        self.0.insert(0, Step::Key(name.to_owned()));
        self
    }

    /// Puts an index in front.
    pub(super) fn under_index(mut self, index: usize) -> Self {
        self.0.insert(0, Step::Index(index));
        self
    }

    /// The last step: a key, or an index in its brackets; empty at the root.
    pub(super) fn name(&self) -> String {
        self.0.last().map(|step| Self(vec![step.clone()]).to_string()).unwrap_or_default()
    }

    /// `None` at the root.
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    /// Whether this is `ancestor` or below it.
    pub(super) fn is_within(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// The path with every index left out, `channels[].prefix`: as known keys are written.
    pub(super) fn general(&self) -> String {
        self.write(|_| "[]".to_owned())
    }

    fn write(&self, index: impl Fn(usize) -> String) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(name) if text.is_empty() => text.push_str(name),
                Step::Key(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(number) => text.push_str(&index(*number)),
            }
        }
        text
    }

    pub(super) fn get<'v>(&self, tree: &'v Value) -> Option<&'v Value> {
        let mut at = tree;
        for step in &self.0 {
            at = match (step, &at.kind) {
                (Step::Key(name), ValueKind::Table(table)) => table.get(name)?,
                (Step::Index(index), ValueKind::Array(array)) => array.get(*index)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// Sets the value here; tables that lack on the way are made, and so is the key. False when something else is in the
    /// way.
    pub(super) fn put(&self, tree: &mut Value, value: Value) -> bool {
        let mut at = tree;
        for step in &self.0 {
            if matches!((step, &at.kind), (Step::Key(_), ValueKind::Nil)) {
                at.kind = ValueKind::Table(Map::new());
            }
            let next = match (step, &mut at.kind) {
                (Step::Key(name), ValueKind::Table(table)) => Some(table.entry(name.clone()).or_default()),
                (Step::Index(index), ValueKind::Array(array)) => array.get_mut(*index),
                _ => None,
            };
            let Some(next) = next else { return false };
            at = next;
        }
        *at = value;
        true
    }

    /// Removes the key here; false when there is none, or this is an element of an array.
    pub(super) fn remove(&self, tree: &mut Value) -> bool {
        let Some((Step::Key(last), parent)) = self.0.split_last() else { return false };
        let mut at = tree;
        for step in parent {
            let next = match (step, &mut at.kind) {
                (Step::Key(name), ValueKind::Table(table)) => table.get_mut(name),
                (Step::Index(index), ValueKind::Array(array)) => array.get_mut(*index),
                _ => None,
            };
            let Some(next) = next else { return false };
            at = next;
        }
        match &mut at.kind {
            ValueKind::Table(table) => table.remove(last).is_some(),
            _ => false,
        }
    }

    /// Who said the value here, or the nearest value around it. `None` when that is a default, or several said parts of
    /// it.
    pub(super) fn origin(&self, tree: &Value) -> Option<String> {
        let mut path = self.clone();
        while path.get(tree).is_none() {
            path = path.parent()?;
        }
        let mut origins = Vec::new();
        gather_origins(path.get(tree)?, &mut origins);
        match origins.as_slice() {
            [origin] => Some((*origin).to_owned()),
            _ => None,
        }
    }
}

/// Merging leaves tables without an origin of their own, so theirs is that of what is in them.
fn gather_origins<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    if let Some(origin) = value.origin() {
        if !into.contains(&origin) {
            into.push(origin);
        }
        return;
    }
    match &value.kind {
        ValueKind::Table(table) => table.values().for_each(|inner| gather_origins(inner, into)),
        ValueKind::Array(array) => array.iter().for_each(|inner| gather_origins(inner, into)),
        _ => {}
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(|index| format!("[{index}]")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_writes() {
        for text in ["listen", "redis.url", "channels[1].prefix", "a[0][12].b"] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
        assert_eq!(Path::parse("channels[1].prefix").general(), "channels[].prefix");
        assert_eq!(Path::parse("channels[x].prefix").to_string(), "channels[x].prefix");
    }

    #[test]
    fn puts_gets_and_removes() {
        let mut tree = Value::from(Map::<String, Value>::new());
        let path = Path::parse("redis.url");
        assert!(path.put(&mut tree, Value::from("x")));
        assert_eq!(path.get(&tree), Some(&Value::from("x")));
        assert!(!Path::parse("redis.url.port").put(&mut tree, Value::from(1)));
        assert!(!Path::parse("redis.url[0]").put(&mut tree, Value::from(1)));
        assert!(path.remove(&mut tree));
        assert_eq!(path.get(&tree), None);
        assert!(!path.remove(&mut tree));
    }

    #[test]
    fn a_merged_table_has_the_origin_its_parts_agree_on() {
        let mut tree = Value::from(Map::<String, Value>::new());
        let (one, two) = ("one.toml".to_owned(), "two.toml".to_owned());
        assert!(Path::parse("redis.url").put(&mut tree, Value::new(Some(&one), "x")));
        assert!(Path::parse("redis.db").put(&mut tree, Value::from(1)));
        assert_eq!(Path::parse("redis").origin(&tree), Some(one));
        assert!(Path::parse("redis.db").put(&mut tree, Value::new(Some(&two), 1)));
        assert_eq!(Path::parse("redis").origin(&tree), None);
        assert_eq!(Path::parse("redis.db.nothing").origin(&tree), Some(two));
    }
}
