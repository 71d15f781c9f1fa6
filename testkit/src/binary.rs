//! Binaries of other crates of this workspace, for tests of one crate against another. Cargo itself names only a crate's own.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What cargo tells of the crate it runs the tests of. A build that saw it would take it for a change of its environment, and
/// build anew what reads it; so would the next build without it.
const OF_THIS_TEST: [&str; 6] =
    ["CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR"];

/// Set by `make test`, where cargo has just built every binary of the workspace beside the tests. A build of one package alone
/// would unite fewer features of its dependencies, and compile most of them once more.
const BUILT: &str = "TESTKIT_BUILT";

/// Path of a binary of this workspace, such as `binary("publisher", "sse-publisher")`. Builds it, once a process, as the
/// running test was built: the same profile, into the same target folder. With `TESTKIT_BUILT` set, what is there is taken.
///
/// It blocks until that is done, which may take minutes; nothing else may have to go on meanwhile on this thread.
///
/// # Panics
/// With cargo's words when it does not build.
pub fn binary(package: &str, name: &str) -> PathBuf {
    static FOUND: OnceLock<Mutex<HashMap<(String, String), PathBuf>>> = OnceLock::new();
    // One at a time: cargo would make the others wait anyway. A build that failed leaves the map as it was.
    let mut found = FOUND.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    found.entry((package.to_owned(), name.to_owned())).or_insert_with(|| build(package, name)).clone()
}

fn build(package: &str, name: &str) -> PathBuf {
    let (target, profile) = target_and_profile(&env::current_exe().unwrap());
    let folder = if profile == "dev" { "debug" } else { &profile };
    let path = target.join(folder).join(name);
    if env::var_os(BUILT).is_some() && path.exists() {
        return path;
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    for (key, _) in env::vars_os() {
        if OF_THIS_TEST.iter().any(|prefix| key.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(key);
        }
    }
    cargo.args(["build", "--quiet", "--locked", "--package", package, "--bin", name, "--profile", &profile]);
    cargo.arg("--target-dir").arg(&target).current_dir(crate::workspace()).stdin(Stdio::null());
    let output = cargo.output().expect("cargo cannot be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo did not build {name} of {package}: {}\n{errors}", output.status);
    path
}

/// The target folder and the profile that a test's executable tells of by its place: `<target>/<folder of the profile>/deps/<test>`.
fn target_and_profile(test: &Path) -> (PathBuf, String) {
    let place = test.ancestors().skip_while(|path| !path.ends_with("deps")).nth(1);
    let place = place.unwrap_or_else(|| panic!("{} is not in cargo's target folder", test.display()));
    let folder = place.file_name().unwrap().to_str().unwrap();
    // The one profile whose folder has another name.
    let profile = if folder == "debug" { "dev" } else { folder };
    (place.parent().unwrap().to_owned(), profile.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_tells_of_its_profile() {
        let of = |path: &str| target_and_profile(Path::new(path));
        assert_eq!(of("/w/target/debug/deps/kit-0a1b"), (PathBuf::from("/w/target"), "dev".to_owned()));
        assert_eq!(of("/w/target/release/deps/kit-0a1b"), (PathBuf::from("/w/target"), "release".to_owned()));
        assert_eq!(of("/t/some-triple/bench/deps/kit"), (PathBuf::from("/t/some-triple"), "bench".to_owned()));
    }

    #[test]
    #[should_panic(expected = "not in cargo's target folder")]
    fn a_test_elsewhere_is_refused() {
        target_and_profile(Path::new("/usr/bin/kit"));
    }
}
