//! That the table, the folder and what the files say of each other are the same, and that nothing of a stranger becomes markup.

use std::collections::BTreeSet;
use std::fs;

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/status");
const MAX_LINES: usize = 400;

fn all() -> impl Iterator<Item = &'static File> {
    std::iter::once(&PAGE).chain(&FILES)
}

/// What stands between `before` and the next `end`, each time.
fn after<'a>(text: &'a str, before: &str, end: char) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

#[test]
fn every_file_of_the_folder_is_in_the_table_and_no_other() {
    let in_table: BTreeSet<_> = all().map(|file| file.name.to_owned()).collect();
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let in_folder: BTreeSet<_> = entries.filter(|name| !name.ends_with(".rs")).collect();
    assert_eq!(in_table, in_folder);
    for file in all() {
        assert_eq!(file.text, fs::read_to_string(format!("{FOLDER}/{}", file.name)).unwrap(), "{}", file.name);
        let expected = match file.name.rsplit_once('.').unwrap().1 {
            "html" => HTML,
            "css" => CSS,
            "js" => SCRIPT,
            other => panic!("what is {other}?"),
        };
        assert_eq!(file.media_type, expected, "{}", file.name);
        assert!(file.text.lines().count() <= MAX_LINES, "{} is long", file.name);
    }
}

#[test]
fn files_name_only_files_that_are_there_and_load_nothing_from_elsewhere() {
    let scripts: Vec<_> = FILES.iter().flat_map(|file| after(file.text, " from './", '\'')).collect();
    let loaded =
        [after(PAGE.text, " src=\"/", '"'), after(PAGE.text, "rel=\"stylesheet\" href=\"/", '"'), scripts].concat();
    assert_eq!(loaded.len(), FILES.len(), "{loaded:?}");
    for name in loaded {
        assert!(FILES.iter().any(|file| file.name == name), "{name}");
    }
    for elsewhere in ["src=\"http", "href=\"http", "url(", "import("] {
        assert!(all().all(|file| !file.text.contains(elsewhere)), "{elsewhere}");
    }
    let opened = FILES.iter().flat_map(|file| after(file.text, "new EventSource('", '\'')).collect::<Vec<_>>();
    assert_eq!(opened, ["/status"]);
}

#[test]
fn no_script_or_style_in_the_page_and_no_text_becomes_markup() {
    assert!(after(PAGE.text, "<script", '>').iter().all(|tag| tag.contains(" src=\"/")));
    for inline in ["<style", " style=\"", " onclick=\"", " onload=\"", "javascript:"] {
        assert!(!PAGE.text.contains(inline), "{inline}");
    }
    for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
        assert!(FILES.iter().all(|file| !file.text.contains(markup)), "{markup}");
    }
}

/// Each element that a script asks for by its id.
#[test]
fn ids_that_scripts_ask_for_are_on_the_page() {
    let ids: BTreeSet<_> = after(PAGE.text, " id=\"", '"').into_iter().collect();
    let asked: Vec<_> = FILES.iter().flat_map(|file| after(file.text, "byId('", '\'')).collect();
    assert!(asked.len() > 30, "this test does not read them any more");
    for id in asked {
        assert!(ids.contains(id), "{id}");
    }
    let named = FILES.iter().flat_map(|file| after(file.text, "'), '", '\''));
    let templates: Vec<_> = named.filter(|id| id.ends_with("-row")).collect();
    assert_eq!(templates, ["node-row", "top-row", "log-row"]);
    assert!(templates.iter().all(|id| ids.contains(id)));
}
