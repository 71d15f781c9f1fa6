//! Each target on its seeds and on mutations of them: 20,000, the same each time, or others for as long as `FUZZ_SECONDS` says.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::{TARGETS, target};

/// Mutations where nothing else is said.
const CASES: u64 = 20_000;
const MAX_BYTES: usize = 8 << 10;
/// Of heads, whose bound is 64 KiB: some are beyond it. `scripts/fuzz` has the same.
const MAX_HEAD_BYTES: usize = 72 << 10;
/// One in so many that would be long stays so: they take their time.
const LONG: u32 = 16;
/// What has a meaning to one of the readers, and chance would rarely write.
const WORDS: [&str; 40] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    ": ",
    "\r\n\r\n",
    " HTTP/1.1\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "GET /events",
    "channel=",
    "&",
    "%0a",
    "%FF",
    "{",
    "}",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "18446744073709551615",
    "-1",
    "data:",
    "id:",
    "\u{feff}",
    "\x1E",
    "~",
    ",",
    "\\",
    "for=",
    ";",
    "10.0.0.9",
    "203.0.113.7",
    "::ffff:10.0.0.9",
    "unknown",
    "\"channel\":\"a\"",
    "\"data\":",
    "\"once\":\"k\"",
    "\"ephemeral\":true",
];

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{name} has too few seeds");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A seed with one to eight changes.
fn mutated(rng: &mut Rng, seeds: &[Vec<u8>], most: usize) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    while bytes.len() > MAX_BYTES && rng.u32(..LONG) != 0 {
        bytes.clone_from(&seeds[rng.usize(..seeds.len())]);
    }
    for _ in 0..rng.usize(1..=8) {
        let at = rng.usize(..=bytes.len());
        let end = rng.usize(at..=bytes.len().min(at + 64));
        match rng.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            1 if at < bytes.len() => bytes[at] = rng.u8(..),
            2 => bytes.insert(at, rng.u8(..)),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => bytes.extend_from_within(at..end),
            6 => {
                let other = &seeds[rng.usize(..seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
            }
            _ => {
                let word = WORDS[rng.usize(..WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
    }
    bytes.truncate(most);
    bytes
}

fn run(name: &str, bytes: &[u8]) {
    let target = target(name);
    let told = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(String::new, ToString::to_string),
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        panic!("{name} of b\"{}\": {}", bytes.escape_ascii(), told(panic));
    }
}

fn fuzz(name: &str) {
    let (seeds, most) = (seeds(name), if name == "head" { MAX_HEAD_BYTES } else { MAX_BYTES });
    seeds.iter().for_each(|seed| run(name, seed));
    let seconds = std::env::var("FUZZ_SECONDS").ok().map(|text| text.parse().expect("FUZZ_SECONDS is a number"));
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // The same each time, unless there is time to look elsewhere.
    let seed = if until.is_some() { fastrand::u64(..) } else { 1 };
    let mut rng = Rng::with_seed(seed);
    let mut cases = 0;
    while until.map_or(cases < CASES, |until| Instant::now() < until) {
        run(name, &mutated(&mut rng, &seeds, most));
        cases += 1;
    }
    println!("{name}: {} executions from seed {seed}, crashes 0", cases + seeds.len() as u64);
}

/// A test for each, which run beside each other.
macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_target_has_one() {
            let mut tested = [$(stringify!($name)),*];
            let mut targets = TARGETS.map(|(name, _)| name);
            tested.sort_unstable();
            targets.sort_unstable();
            assert_eq!(tested, targets);
            for name in targets {
                let file = format!("../fuzz/fuzz_targets/{name}.rs");
                let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect(&file);
                assert!(text.contains(&format!("target(\"{name}\")")), "{file} runs another target");
            }
        }
    };
}

tests! { head query client publish cursor envelope message order event_stream_decode token }
