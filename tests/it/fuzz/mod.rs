//! Runs the fuzz targets on their corpus and on seeded mutations of it. For libFuzzer see `tools/README.md`.
//!
//! `TEST_FUZZ_SEED` repeats a run; `TEST_FUZZ_RUNS` sets the number of mutations.

#[allow(unreachable_pub, clippy::cast_possible_truncation, reason = "`tools/fuzz` makes a library of it")]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use targets::{TARGETS, Target};

/// The number of mutations per target.
const RUNS: u64 = 2000;
/// The number of mutations for the target `hash`, which is slow in a debug build.
const HASH_RUNS_SHARE: u64 = 10;
const INPUT_LEN_MAX: usize = 8 << 10;

/// Fragments of the formats, which reach more code than single bytes.
const TOKENS: [&[u8]; 16] = [
    b"e",
    b"d",
    b"l",
    b"i0e",
    b"i-1e",
    b"0:",
    b"1:a",
    b"99999999999:",
    b"i18446744073709551616e",
    b"4:path",
    b"..",
    b"\t",
    b"\n",
    b"&",
    b"%00",
    b"\0\0\0\x01",
];

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a target and saves the input if it panics.
fn run(target: Target, input: &[u8], what: &str) {
    let (name, body) = target;
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let saved = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        fs::write(&saved, input).unwrap();
        eprintln!("fuzz target {name}, {what}: the input is saved in {}", saved.display());
        std::panic::resume_unwind(panic);
    }
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut fastrand::Rng) {
    let at = rng.usize(..=input.len());
    let end = rng.usize(at..=input.len().min(at + 40));
    match rng.u8(..8) {
        0 if at < end => input[at] ^= 1 << rng.u8(..8),
        1 if at < end => input[at] = rng.u8(..),
        2 => drop(input.drain(at..end)),
        3 => drop(input.splice(at..at, input[at..end].to_vec())),
        4 => drop(input.splice(at..end, TOKENS[rng.usize(..TOKENS.len())].iter().copied())),
        5 => input.truncate(end),
        6 => drop(input.splice(at..at, (0..rng.usize(1..8)).map(|_| rng.u8(..)).collect::<Vec<_>>())),
        _ => {
            let other = &corpus[rng.usize(..corpus.len())];
            let from = rng.usize(..=other.len());
            drop(input.splice(at..end, other[from..].iter().copied()));
        }
    }
    input.truncate(INPUT_LEN_MAX);
}

#[test]
fn corpus_and_mutations_break_no_invariant() {
    let seed = from_env("TEST_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let runs = from_env("TEST_FUZZ_RUNS").unwrap_or(RUNS);
    for target in TARGETS {
        let (name, _) = target;
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name}");
        corpus.iter().for_each(|input| run(target, input, "corpus"));
        let runs = if name == "hash" { runs / HASH_RUNS_SHARE } else { runs };
        let rng = &mut fastrand::Rng::with_seed(seed);
        for at in 0..runs {
            let mut input = corpus[rng.usize(..corpus.len())].clone();
            (0..rng.usize(1..6)).for_each(|_| mutate(&mut input, &corpus, rng));
            run(target, &input, &format!("TEST_FUZZ_SEED={seed}, mutation {at}"));
        }
    }
}

#[test]
fn the_corpus_is_small_and_each_folder_has_a_target() {
    let mut names: Vec<String> = Vec::new();
    let mut len = 0;
    for entry in fs::read_dir(folder("")).unwrap() {
        names.push(entry.unwrap().file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
    for (name, _) in TARGETS {
        len += corpus(name).iter().map(Vec::len).sum::<usize>();
    }
    assert!(len < 200 << 10, "{len} bytes: keep what `cargo fuzz cmin` keeps");
}
