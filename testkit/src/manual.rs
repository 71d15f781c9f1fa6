//! Documents that say of settings what the code says: the columns of the tables that it knows, and the values of files of
//! defaults. A test compares; with [`WRITE`] in its environment it writes the file instead.

use std::path::Path;

/// The environment variable with which tests write what they otherwise compare.
pub const WRITE: &str = "WRITE_DOCS";

/// What the code says of one setting, as a row `| key | variable | default | range | what it is for |`.
#[derive(Debug, Clone)]
pub struct Row {
    /// Such as `limits.max_data`.
    pub key: String,
    /// The environment variable.
    pub variable: String,
    /// As JSON; `None` where it is not set.
    pub default: Option<String>,
    /// Of numbers and durations; the others' is the document's own.
    pub range: Option<String>,
    /// What it is for, where the document has no row yet.
    pub meaning: String,
}

impl Row {
    fn written(&self, range: &str, meaning: &str) -> String {
        let default = self.default.as_ref().map_or("not set".to_owned(), |default| format!("`{default}`"));
        let range = self.range.as_deref().unwrap_or(range);
        let range = if range.is_empty() { String::new() } else { format!("{range} ") };
        format!("| `{}` | `{}` | {default} | {range}| {meaning} |", self.key, self.variable)
    }

    fn section(&self) -> &str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

/// `text` with these rows among those whose variables begin with `prefix`: each says what the code says, and keeps its own
/// words; a row of no setting is gone, and one that there was not stands behind the last of its section.
///
/// # Panics
/// Where a section has no row at all: somebody has to say where its table is.
pub fn with_rows(text: &str, prefix: &str, rows: &[Row]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.splitn(6, '|').map(str::trim).collect();
        let ours = cells.len() == 6 && cells[2].trim_matches('`').starts_with(prefix);
        if !ours {
            lines.push(line.to_owned());
            continue;
        }
        let key = cells[1].trim_matches('`');
        if let Some(row) = rows.iter().find(|row| row.key == key && !seen.contains(&key)) {
            lines.push(row.written(cells[4], cells[5].trim_end_matches('|').trim()));
            seen.push(&row.key);
        }
    }
    for row in rows.iter().filter(|row| !seen.contains(&&*row.key)) {
        let is_beside = |line: &String| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let key = cells.get(1).map_or("", |cell| cell.trim_matches('`'));
            let ours = cells.get(2).is_some_and(|cell| cell.trim_matches('`').starts_with(prefix));
            ours && key.rsplit_once('.').map_or("", |(section, _)| section) == row.section()
        };
        let at = lines.iter().rposition(is_beside);
        let at = at.unwrap_or_else(|| panic!("no table has a row of [{}], so none for {}", row.section(), row.key));
        lines.insert(at + 1, row.written("", &row.meaning));
    }
    lines.join("\n") + "\n"
}

/// A file of defaults, with these values, as JSON, for the keys that it has.
pub fn with_values(text: &str, defaults: &[(String, String)]) -> String {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        }
        let key = line.split_once(" = ").map(|(name, _)| (name, joined(&section, name)));
        let default = key.and_then(|(name, key)| Some((name, defaults.iter().find(|(known, _)| *known == key)?)));
        lines.push(default.map_or_else(|| line.to_owned(), |(name, (_, value))| format!("{name} = {value}")));
    }
    lines.join("\n") + "\n"
}

/// The first sentence of what a file of defaults says above a key; empty where it says nothing.
pub fn meaning(text: &str, key: &str) -> String {
    let (mut section, mut comment) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        }
        let shown = line.strip_prefix("# ").unwrap_or(line);
        if shown.split_once(" = ").is_some_and(|(name, _)| joined(&section, name) == key) {
            break;
        }
        match line.strip_prefix('#') {
            Some(words) => comment.push_str(words),
            None => comment.clear(),
        }
    }
    let sentence = comment.split_once(". ").map_or(&*comment, |(first, _)| first);
    sentence.trim().trim_end_matches('.').to_owned()
}

fn joined(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Compares the file with what it is to be, or writes that.
///
/// # Panics
/// With the first lines that differ, and how to write the file.
pub fn hold(path: &Path, wanted: &str, how: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    if text == wanted {
        return;
    }
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(path, wanted).unwrap();
    }
    let mut pairs = text.lines().zip(wanted.lines()).enumerate();
    let differ = pairs.find(|(_, (is, wanted))| is != wanted);
    let (line, (is, wanted)) = differ.unwrap_or((text.lines().count(), ("its end", "a line more, or fewer")));
    panic!("{}:{}: is\n{is}\nand the code says\n{wanted}\nTo write it: {WRITE}=1 {how}", path.display(), line + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "text\n\n| key | variable | default | range | what it is for |\n|---|---|---|---|---|\n\
                         | `a` | `X__A` | `1` | 1 to 2 | What `a|b` is |\n| `s.old` | `X__S__OLD` | `1` | | Gone |\n\
                         | `s.b` | `X__B` | `0` | words | It |\n| `a` | `Y__A` | `9` | | Another's |\n";

    fn row(key: &str, default: Option<&str>, range: Option<&str>) -> Row {
        let variable = format!("X__{}", key.to_uppercase().replace('.', "__"));
        let [default, range] = [default, range].map(|text| text.map(str::to_owned));
        Row { key: key.to_owned(), variable, default, range, meaning: "New".to_owned() }
    }

    #[test]
    fn rows_say_what_the_code_says_and_keep_their_words() {
        let rows = [row("a", Some("2"), Some("1 to 3")), row("s.b", None, None), row("s.c", Some("[]"), None)];
        let expected = "text\n\n| key | variable | default | range | what it is for |\n|---|---|---|---|---|\n\
                        | `a` | `X__A` | `2` | 1 to 3 | What `a|b` is |\n| `s.b` | `X__S__B` | not set | words | It |\n\
                        | `s.c` | `X__S__C` | `[]` | | New |\n| `a` | `Y__A` | `9` | | Another's |\n";
        assert_eq!(with_rows(TABLE, "X__", &rows), expected);
        assert_eq!(with_rows(expected, "X__", &rows), expected);
    }

    #[test]
    fn values_and_what_stands_above_them() {
        let file =
            "# All.\n\n# What it is. 1 to 2.\na = 1\n[s]\n# Of b, in\n# two lines. More.\n# b = 1\n\nc = 2\nd = 3\n";
        let defaults = [("a".to_owned(), "5".to_owned()), ("s.c".to_owned(), "\"x\"".to_owned())];
        assert_eq!(with_values(file, &defaults), file.replace("a = 1", "a = 5").replace("c = 2", "c = \"x\""));
        let meanings = ["a", "s.b", "s.c", "s.z"].map(|key| meaning(file, key));
        assert_eq!(meanings, ["What it is", "Of b, in two lines", "", ""]);
    }
}
