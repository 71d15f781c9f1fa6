//! On which line of a file each key stands, for people who are told who said a value. Must not judge what is there.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::path::Path;

/// The lines of one file, from 1, by the keys as they are written in messages: `channels[1].prefix`.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<String, usize>);

impl Lines {
    /// None of a text that is no TOML.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = Self::default();
        if let Ok(table) = DeTable::parse(text) {
            lines.table(text, table.get_ref(), &Path::default());
        }
        lines
    }

    /// That of the key, or of what is around it.
    pub(super) fn line(&self, path: &Path) -> Option<usize> {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(line) = self.0.get(&path.to_string()) {
                return Some(*line);
            }
            at = path.parent();
        }
        None
    }

    fn table(&mut self, text: &str, table: &DeTable<'_>, at: &Path) {
        for (name, value) in table {
            let path = at.key(name.get_ref());
            self.note(text, &path, &name.span());
            self.value(text, value.get_ref(), &path);
        }
    }

    fn value(&mut self, text: &str, value: &DeValue<'_>, path: &Path) {
        match value {
            DeValue::Table(table) => self.table(text, table, path),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = path.index(index);
                    self.note(text, &path, &item.span());
                    self.value(text, item.get_ref(), &path);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, text: &str, path: &Path, span: &Range<usize>) {
        let before = text.get(..span.start).unwrap_or_default();
        self.0.insert(path.to_string(), before.matches('\n').count() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_every_form() {
        let text = "a = 1\n\n[redis]\nurl = \"x\"\n# more\nwait = \"1s\"\n[[channels]]\nprefix = \"p\"\n[[channels]]\n\
                    prefix = \"q\"\nlist = [\n  1,\n  2,\n]\n[deep.er]\nx.y = 1\nz = { w = 2 }\n";
        let lines = Lines::of(text);
        for (key, line) in [
            ("a", 1),
            ("redis.url", 4),
            ("redis.wait", 6),
            ("channels[0].prefix", 8),
            ("channels[1].prefix", 10),
            ("channels[1].list", 11),
            ("deep.er.x.y", 16),
            ("deep.er.z.w", 17),
        ] {
            assert_eq!(lines.line(&Path::parse(key)), Some(line), "{key}");
        }
        // What an element does not have is said with the element.
        assert_eq!(lines.line(&Path::parse("channels[1].history")), Some(9));
        assert_eq!(lines.line(&Path::parse("b")), None);
        assert_eq!(Lines::of("a = ").line(&Path::parse("a")), None);
    }
}
