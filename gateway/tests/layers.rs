//! Rules about the source itself: who may import whom, how long a file may be, which libraries may not come in.
//!
//! It reads paths in the text, `crate::x` and `super::x`; it knows no macros and no re-exports.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down: each may import what stands below it, never what stands above.
const LAYERS: [&str; 5] = ["http", "lane", "connection", "hub", "broker"];
/// Outside of the layers: they put everything together, and no layer of the first three may know them.
const OUTSIDE: [&str; 9] = ["app", "cli", "config", "demo", "fuzzing", "main", "metrics", "shutdown", "status"];
/// What no layer but `http` may know; `http` asks `shutdown` whether the node stops, and shows `status`.
const ABOVE_ALL: [&str; 7] = ["app", "cli", "config", "demo", "fuzzing", "shutdown", "status"];
const MAX_LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every `.rs` file below `folder`, sorted.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The path of a file's module below the crate: `hub/log.rs` is `hub`, `log`.
fn module(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let name = module.pop().unwrap_or_default();
    if !matches!(name.as_str(), "mod.rs" | "lib.rs" | "main.rs") {
        module.push(name.trim_end_matches(".rs").to_owned());
    }
    module
}

/// May code of top-level module `from` name `to`?
fn may_import(from: &str, to: &str, path: &str) -> bool {
    if from == to {
        return true;
    }
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    match (rank(from), rank(to)) {
        (Some(from), Some(to)) => from < to,
        (Some(_), None) if from == "http" && ["shutdown", "status"].contains(&to) => true,
        (Some(_), None) => !ABOVE_ALL.contains(&to),
        (None, Some(_)) if from == "metrics" => path.starts_with("connection::CloseReason"),
        (None, Some(_)) if from == "shutdown" => false,
        (None, Some(_)) if from == "status" => !["http", "lane"].contains(&to),
        (None, _) => true,
    }
}

/// `a::b` of a text that begins with a path; of `{a::b, c::{d}}` each.
fn paths(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let Some(group) = text.strip_prefix('{') else {
        return vec![text.chars().take_while(|c| is_path(*c)).collect()];
    };
    let (mut paths, mut depth, mut path) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => paths.push(std::mem::take(&mut path)),
            c if depth == 0 && is_path(c) => path.push(c),
            _ => {}
        }
    }
    paths.push(path);
    paths.retain(|path| !path.is_empty());
    paths
}

/// The paths from the root of the crate that `line` names, `rest` being what follows it.
fn named(line: &str, rest: &str, module: &[String]) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        named.extend(paths(&rest[at + "crate::".len()..]));
    }
    let mut end = 0;
    for (at, _) in line.match_indices("super::") {
        if at < end {
            continue;
        }
        let mut up = 0;
        end = at;
        while rest[end..].starts_with("super::") {
            up += 1;
            end += "super::".len();
        }
        // Only what climbs to the root leaves the top-level module.
        if up == module.len() {
            named.extend(paths(&rest[end..]));
        }
    }
    named
}

/// `file:line: why` for each import that goes upward. `file` is below `gateway/src`.
fn upward(file: &Path, text: &str) -> Vec<String> {
    let mut module = module(file);
    let Some(from) = module.first().cloned() else { return Vec::new() };
    let mut found = Vec::new();
    let mut at = 0;
    for (number, line) in text.split('\n').enumerate() {
        let rest = &text[at..];
        at += line.len() + 1;
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if code.starts_with("mod tests {") {
            module.push("tests".to_owned());
        }
        for path in named(line, rest, &module) {
            let to = path.split("::").next().unwrap_or_default();
            let known = LAYERS.contains(&to) || OUTSIDE.contains(&to);
            if known && !may_import(&from, to, &path) {
                found.push(format!("gateway/src/{}:{}: {from} may not use {path}", file.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn no_import_goes_upward() {
    let folder = root().join("gateway/src");
    let files = sources(&folder);
    for name in LAYERS.iter().chain(&OUTSIDE) {
        let there = files.iter().any(|file| {
            let module = module(file.strip_prefix(&folder).unwrap());
            module.first().is_some_and(|first| first == name) || file.ends_with(format!("{name}.rs"))
        });
        assert!(there, "no module {name}: this test has to be told what it is called now");
    }
    let mut found = Vec::new();
    for file in &files {
        found.extend(upward(file.strip_prefix(&folder).unwrap(), &fs::read_to_string(file).unwrap()));
    }
    assert!(found.is_empty(), "{} > ..., never back:\n{}", LAYERS.join(" > "), found.join("\n"));
}

#[test]
fn an_import_that_goes_upward_is_found() {
    for (file, text) in [
        ("hub/log.rs", "use crate::connection::Guard;"),
        ("hub/log.rs", "    let x = crate::http::problem();"),
        ("hub/mod.rs", "use super::lane::Transport;"),
        ("hub/log.rs", "use super::super::lane::Transport;"),
        ("hub/log.rs", "mod tests {\n    use super::super::super::lane::Transport;\n}"),
        ("broker/memory/history.rs", "use crate::{\n    broker::Last,\n    hub::{Hub, log},\n};"),
        ("broker/mod.rs", "use crate::{broker::memory, config::Config};"),
        ("connection/mod.rs", "pub(crate) use crate::shutdown::Lifecycle;"),
        ("hub/mod.rs", "use crate::status::Feed;"),
        ("status/gather.rs", "use crate::http::Node;"),
        ("lane/hyper.rs", "use crate::http::Node;"),
        ("metrics.rs", "use crate::connection::Gate;"),
        ("metrics.rs", "use crate::hub::Hub;"),
    ] {
        assert_eq!(upward(Path::new(file), text).len(), 1, "{file}: {text}");
    }
    for (file, text) in [
        ("hub/log.rs", "// as crate::connection::Guard\n//! [`crate::http`]"),
        ("hub/log.rs", "use super::super::broker::Stamp;\nuse super::encoded::Order;\nuse crate::hub::Hub;"),
        ("hub/log.rs", "mod tests {\n    use super::super::encoded::Order;\n}"),
        ("http/mod.rs", "use crate::shutdown::Lifecycle;\nuse crate::lane::Transport;\nuse crate::{hub, connection};"),
        ("metrics.rs", "use crate::connection::CloseReason;"),
        ("status/gather.rs", "use crate::hub::Hub;\nuse crate::connection::Gate;"),
        ("app.rs", "use crate::{http, broker};"),
    ] {
        assert_eq!(upward(Path::new(file), text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn no_file_is_long() {
    let mut long = Vec::new();
    for member in ["shared", "publisher", "gateway", "loadtest", "chaos", "testkit"] {
        for file in sources(&root().join(member).join("src")) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > MAX_LINES {
                long.push(format!("{}: {lines} lines", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(long.is_empty(), "over {MAX_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn one_cryptography_library_at_most_and_none_of_the_system() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let packages: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(packages.contains(&"tokio"), "Cargo.lock is not read as it is written");
    let there = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| packages.contains(name)).collect()
    };
    let ours = there(&["ring", "aws-lc-rs"]);
    assert!(ours.len() <= 1, "{ours:?}: one is enough");
    assert_eq!(there(&["openssl-sys", "native-tls"]), Vec::<&str>::new());
}
