//! That the table, the folder and what the files say of each other are the same.

use std::collections::BTreeSet;
use std::fs;

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/demo");
const MAX_LINES: usize = 400;

fn extension(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

/// What stands between `before` and the next `end`, each time.
fn after<'a>(text: &'a str, before: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(end).next())
}

/// Paths of this origin that a file names: links, scripts, styles, imports, and files that it shows the source of.
fn named(text: &str) -> BTreeSet<&str> {
    let mut named = BTreeSet::new();
    for before in ["href=", "src=", "from ", "import ", "import(", "fetch(", "url("] {
        for (quote, end) in [("\"", '"'), ("'", '\'')] {
            let before = format!("{before}{quote}");
            named.extend(after(text, &before, end).map(|path| {
                // Borrowed from the text, not from `before`.
                let start = path.as_ptr().addr() - text.as_ptr().addr();
                &text[start..start + path.len()]
            }));
        }
    }
    named.extend(after(text, "data-files=\"", '"').flat_map(str::split_whitespace));
    named.extend(after(text, "'/demo/", '\''));
    named
}

/// The file that such a path is, unless it is another route's, or somewhere else.
fn file_of(path: &str) -> Option<&str> {
    let path = path.split(['?', '#']).next().unwrap();
    let name = path.strip_prefix("/demo/").or(path.strip_prefix("./")).unwrap_or(path);
    let is_file = ["html", "js", "css"].contains(&extension(name)) && !name.contains([' ', '$', '{']);
    is_file.then_some(name)
}

#[test]
fn every_file_of_the_folder_is_in_the_table_and_no_other() {
    let in_table: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let in_folder: BTreeSet<_> = entries.filter(|name| extension(name) != "rs").collect();
    assert_eq!(in_table, in_folder);
    assert_eq!(in_table.len(), FILES.len(), "none is there twice");
    for file in FILES {
        assert_eq!(file.text, fs::read_to_string(format!("{FOLDER}/{}", file.name)).unwrap(), "{}", file.name);
        let expected = match extension(file.name) {
            "html" => HTML,
            "css" => CSS,
            "js" => SCRIPT,
            other => panic!("what is {other}?"),
        };
        assert_eq!(file.media_type, expected, "{}", file.name);
    }
}

#[test]
fn files_name_only_files_that_are_there() {
    let mut found = 0;
    for file in FILES {
        for name in named(file.text).into_iter().filter_map(file_of) {
            found += 1;
            assert!(FILES.iter().any(|other| other.name == name), "{} names {name}", file.name);
        }
    }
    let pages = FILES.iter().filter(|file| file.media_type == HTML).count();
    assert!(found > 2 * pages, "only {found} names found: this test does not read them any more");
    let names =
        named("<a href=\"/demo/x.html?a#b\"> import { a } from './y.js'; import './z.js' data-files=\"p.js q.css\"");
    let names: Vec<_> = names.into_iter().filter_map(file_of).collect();
    assert_eq!(names, ["y.js", "z.js", "x.html", "p.js", "q.css"]);
}

#[test]
fn no_file_is_long_and_no_page_has_script_or_style_in_its_text() {
    for file in FILES {
        let lines = file.text.lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines", file.name);
        if file.media_type != HTML {
            continue;
        }
        assert!(!file.text.contains("<style"), "{}", file.name);
        assert!(after(file.text, "<script", '>').all(|tag| tag.contains(" src=\"/")), "{}", file.name);
        for attribute in [" style=\"", " onclick=\"", " onload=\"", " onsubmit=\"", "javascript:"] {
            assert!(!file.text.contains(attribute), "{}: {attribute}", file.name);
        }
        for elsewhere in ["src=\"http", "<link rel=\"stylesheet\" href=\"http"] {
            assert!(!file.text.contains(elsewhere), "{}: {elsewhere}", file.name);
        }
    }
}
