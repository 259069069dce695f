//! Rules that the sources keep and no lint knows: which layer uses which, file length, where the clock is read, where
//! `unsafe` may stand and what stands above it, names, and what ring threads must not do.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use walkdir::WalkDir;

use crate::support::process::run;

/// Each module of the crate and the modules it may use.
const LAYERS: [(&str, &[&str]); 14] = [
    ("base", &[]),
    ("codec", &["base"]),
    ("announce", &["base", "codec"]),
    ("peer", &["base", "codec"]),
    ("tracker", &["base", "codec"]),
    ("swarm", &["base", "codec", "peer"]),
    ("hash", &["base"]),
    ("storage", &["base", "uring"]),
    ("uring", &["base"]),
    ("create", &["base", "codec", "storage", "hash", "uring"]),
    ("engine", &["base", "codec", "announce", "peer", "tracker", "swarm", "hash", "storage", "uring"]),
    ("web", &["base", "codec", "tracker", "storage", "engine"]),
    (
        "bench",
        &[
            "base", "codec", "announce", "peer", "tracker", "swarm", "hash", "storage", "uring", "create", "engine",
            "web",
        ],
    ),
    (
        "cli",
        &[
            "base", "codec", "announce", "peer", "tracker", "swarm", "hash", "storage", "uring", "create", "engine",
            "web", "bench",
        ],
    ),
];
/// What `uring` may use of `base`: it knows no BitTorrent.
const URING_USES: &str = "crate::base::limits";

const FILE_LINES_MAX: usize = 600;
/// From here on tests stand in a file of their own.
const FILE_WITH_TESTS_LINES_MAX: usize = 400;

const CLOCK_READERS: [&str; 4] = ["bench", "cli", "engine", "web"];
const UNSAFE_FENCES: [&str; 3] = ["hash", "storage", "uring"];
/// Lines between a SAFETY comment and its `unsafe`: attributes, the head of a long statement.
const SAFETY_DISTANCE_MAX: usize = 8;

const BANNED_MODULES: [&str; 9] = ["common", "data", "helper", "helpers", "manager", "misc", "util", "utils", "types"];
const BANNED_TYPE_ENDINGS: [&str; 3] = ["Helper", "Manager", "Handler"];

/// Licences that go together with MIT OR Apache-2.0.
const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "MIT-0",
];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A source file of the crate.
struct Source {
    /// Relative to `src/`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module right below the crate root; `None` for `lib.rs` and `main.rs`.
    fn layer(&self) -> Option<&str> {
        self.path.parent()?.components().next()?.as_os_str().to_str()
    }

    fn is_test(&self) -> bool {
        let stem = self.path.file_stem().unwrap().to_str().unwrap();
        stem == "tests" || stem.ends_with("_tests") || self.path.components().any(|part| part.as_os_str() == "tests")
    }

    /// Lines with their number from 1, comments cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines().map(|line| line.split("//").next().unwrap_or_default()))
    }

    /// [`Source::code`] up to the tests, which may reach up, read the clock and name themselves as they like.
    fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = if self.is_test() { None } else { Some(self.code()) };
        all.into_iter().flatten().take_while(|(_, line)| !line.starts_with("mod tests {"))
    }

    fn at(&self, line: usize) -> String {
        format!("src/{}:{line}", self.path.display())
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let entries = WalkDir::new(&root).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"));
    let sources: Vec<Source> = files
        .map(|entry| Source {
            path: entry.path().strip_prefix(&root).unwrap().to_owned(),
            text: fs::read_to_string(entry.path()).unwrap(),
        })
        .collect();
    assert!(!sources.is_empty());
    sources
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// A complaint for each line of code that contains `word`, in layers that are not `allowed`.
fn uses_outside(word: &str, allowed: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.layer().is_some_and(|layer| allowed.contains(&layer)) {
            continue;
        }
        let lines = source.product_code().filter(|(_, line)| contains_word(line, word));
        complaints.extend(lines.map(|(number, _)| format!("{}: `{word}` has no place here", source.at(number))));
    }
    complaints
}

fn is_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// `word` with no identifier character on either side.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_identifier) && !after.is_some_and(is_identifier)
    })
}

/// The first path element after each `prefix` (`crate::`), the ones in braces included: `crate::{base::x, codec::{y}}`.
fn first_elements<'a>(code: &'a str, prefix: &str) -> Vec<(usize, &'a str)> {
    let mut elements = Vec::new();
    for (start, _) in code.match_indices(prefix) {
        if code[..start].chars().next_back().is_some_and(is_identifier) {
            continue;
        }
        let rest = &code[start + prefix.len()..];
        if !rest.starts_with('{') {
            elements.push((start, leading_identifier(rest)));
            continue;
        }
        let mut depth = 0;
        for (offset, character) in rest.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && (character == '{' || character == ',') {
                elements.push((start, leading_identifier(rest[offset + 1..].trim_start())));
            }
        }
    }
    elements.retain(|(_, element)| !element.is_empty());
    elements
}

fn leading_identifier(text: &str) -> &str {
    text.split(|character| !is_identifier(character)).next().unwrap_or_default()
}

#[test]
fn modules_use_only_lower_layers() {
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(layer) = source.layer() else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            complaints.push(format!("{}: module `{layer}` has no layer", source.at(1)));
            continue;
        };
        let code = source.product_code().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        for prefix in ["crate::", "bt_fast::"] {
            for (offset, used) in first_elements(&code, prefix) {
                let line = code[..offset].matches('\n').count() + 1;
                if used != layer && !allowed.contains(&used) {
                    complaints.push(format!("{}: `{layer}` must not use `{used}`", source.at(line)));
                }
                if layer == "uring" && used == "base" && !code[offset..].starts_with(URING_USES) {
                    complaints.push(format!("{}: `uring` uses `{URING_USES}` alone", source.at(line)));
                }
            }
        }
        // A module that is its layer's root reaches the crate's root by `super::`.
        let is_root = source.path.components().count() == 2 && source.path.ends_with("mod.rs");
        let bad = if is_root { "super::" } else { "super::super::super::" };
        if let Some(offset) = code.find(bad) {
            let line = code[..offset].matches('\n').count() + 1;
            complaints.push(format!("{}: `{bad}` hides an arrow: write `crate::`", source.at(line)));
        }
    }
    assert_none(&complaints);
}

#[test]
fn paths_in_braces_are_found() {
    let code = "use crate::{\n    base::{units, geometry::{a, b}}, codec,\n};\nlet x = crate::peer::y; not_crate::z";
    let elements: Vec<&str> = first_elements(code, "crate::").into_iter().map(|(_, element)| element).collect();
    assert_eq!(elements, ["base", "codec", "peer"]);
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let has_tests = source.text.contains("mod tests {");
        let max = if has_tests && !source.is_test() { FILE_WITH_TESTS_LINES_MAX } else { FILE_LINES_MAX };
        if lines > max {
            complaints.push(format!("{}: {lines} lines, at most {max}", source.at(1)));
        }
    }
    assert_none(&complaints);
}

#[test]
fn only_the_upper_layers_read_the_clock() {
    let mut complaints = uses_outside("Instant::now", &CLOCK_READERS);
    complaints.extend(uses_outside("SystemTime::now", &CLOCK_READERS));
    assert_none(&complaints);
}

#[test]
fn unsafe_is_confined_to_three_modules() {
    // `unsafe_code` is the lint's name.
    assert_none(&uses_outside("unsafe", &UNSAFE_FENCES));
}

#[test]
fn unsafe_has_a_safety_comment() {
    let mut complaints = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, code) in source.code() {
            let needs = ["unsafe {", "unsafe impl"].iter().any(|start| code.contains(start));
            if !needs {
                continue;
            }
            let first = number.saturating_sub(SAFETY_DISTANCE_MAX + 1);
            let mut above = lines[first..number].iter();
            if !above.any(|line| line.contains("SAFETY:")) {
                complaints.push(format!("{}: no SAFETY comment", source.at(number)));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn vague_names_are_refused() {
    let mut complaints = Vec::new();
    for source in sources() {
        for part in &source.path {
            let module = Path::new(part).file_stem().unwrap().to_str().unwrap();
            if BANNED_MODULES.contains(&module) {
                complaints.push(format!("{}: `{module}` says nothing", source.at(1)));
            }
        }
        for (number, line) in source.product_code() {
            for keyword in ["struct ", "enum ", "trait ", "type ", "mod "] {
                let Some((before, rest)) = line.split_once(keyword) else { continue };
                if before.chars().next_back().is_some_and(is_identifier) {
                    continue;
                }
                let name = leading_identifier(rest);
                let banned = BANNED_TYPE_ENDINGS.iter().any(|ending| name.ends_with(ending))
                    || keyword == "mod " && BANNED_MODULES.contains(&name);
                if banned {
                    complaints.push(format!("{}: `{name}` says nothing", source.at(number)));
                }
            }
            if line.contains("fn get_") {
                complaints
                    .push(format!("{}: a getter is named for what it returns, without `get_`", source.at(number)));
            }
        }
    }
    assert_none(&complaints);
}

/// A ring thread that yields or loops on a channel starves its ring; a queue without a bound has no memory limit.
#[test]
fn no_code_yields_or_queues_without_bound() {
    let mut complaints = uses_outside("yield_now", &[]);
    complaints.extend(uses_outside("unbounded_channel", &[]));
    complaints.extend(uses_outside("unbounded", &[]));
    assert_none(&complaints);
}

/// Every package comes from the registry under a licence that permits what ours permits.
#[test]
fn dependencies_are_free_and_from_the_registry() {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let metadata: Value = serde_json::from_str(&run(&command, Duration::from_secs(60)).success()).unwrap();
    let used: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().filter_map(|node| node["id"].as_str()).collect();
    let mut complaints = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == env!("CARGO_PKG_NAME") || !used.contains(package["id"].as_str().unwrap()) {
            continue;
        }
        if package["source"] != REGISTRY {
            complaints.push(format!("{name}: from {}", package["source"]));
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_permitted(licence) {
            complaints.push(format!("{name}: licence {licence:?}"));
        }
    }
    assert_none(&complaints);
}

/// Whether an SPDX expression without nested parentheses can be met by [`LICENCES`].
fn is_permitted(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    let met = |licence: &str| LICENCES.contains(&licence.trim());
    flat.split(" AND ").all(|part| part.split(" OR ").any(met))
}
