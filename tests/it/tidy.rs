//! Rules for the sources that no lint checks: which layer uses which, the length of files, where the clock is read,
//! where `unsafe` may occur and which comment it needs, names, types, language, and what ring threads must not do.

pub(crate) mod language;
mod structure;
mod text;

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

/// Each module of the crate, and the modules that it may use.
const LAYERS: [(&str, &[&str]); 14] = [
    ("base", &[]),
    ("codec", &["base"]),
    ("announce", &["base", "codec"]),
    ("peer", &["base", "codec"]),
    ("tracker", &["base", "codec"]),
    ("swarm", &["base", "codec", "peer"]),
    ("hash", &["base"]),
    ("storage", &["base", "io"]),
    ("io", &["base"]),
    ("create", &["base", "codec", "storage", "hash", "io"]),
    ("engine", &["base", "codec", "announce", "peer", "tracker", "swarm", "hash", "storage", "io"]),
    ("web", &["base", "codec", "tracker", "storage", "io", "engine"]),
    (
        "bench",
        &["base", "codec", "announce", "peer", "tracker", "swarm", "hash", "storage", "io", "create", "engine", "web"],
    ),
    (
        "cli",
        &[
            "base", "codec", "announce", "peer", "tracker", "swarm", "hash", "storage", "io", "create", "engine",
            "web", "bench",
        ],
    ),
];
/// The parts of `base` that `io` may use, since it knows nothing of BitTorrent.
const IO_USES: [&str; 2] = ["crate::base::limits", "crate::base::lock"];

const FILE_LINES_MAX: usize = 600;
/// A longer file has its tests in a separate file.
const FILE_WITH_TESTS_LINES_MAX: usize = 400;

const CLOCK_READERS: [&str; 5] = ["bench", "cli", "create", "engine", "web"];
const UNSAFE_FENCES: [&str; 3] = ["hash", "storage", "io"];
/// The most lines between a SAFETY comment and its `unsafe`, such as attributes or the head of a long statement.
const SAFETY_DISTANCE_MAX: usize = 8;

const BANNED_MODULES: [&str; 9] = ["common", "data", "helper", "helpers", "manager", "misc", "util", "utils", "types"];
const BANNED_TYPE_ENDINGS: [&str; 3] = ["Helper", "Manager", "Handler"];

/// Licenses that are compatible with MIT OR Apache-2.0.
const LICENSES: [&str; 15] = [
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

/// A source file.
struct Source {
    /// Relative to the root of the package.
    path: PathBuf,
    text: String,
}

/// A violation of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Source {
    /// The module right below the crate root; `None` for `lib.rs` and `main.rs`.
    fn layer(&self) -> Option<&str> {
        self.path.parent()?.components().nth(1)?.as_os_str().to_str()
    }

    fn is_test(&self) -> bool {
        let stem = self.path.file_stem().unwrap().to_str().unwrap();
        stem == "tests" || stem.ends_with("_tests") || self.path.components().any(|part| part.as_os_str() == "tests")
    }

    /// Returns the number of the line at which the tests start, or a number past the end.
    fn tests_start(&self) -> usize {
        if self.is_test() {
            return 1;
        }
        let mut lines = self.text.lines();
        lines.position(|line| line.starts_with("mod tests {")).unwrap_or(usize::MAX - 1) + 1
    }

    /// Returns the lines with their number from 1, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines().map(|line| line.split("//").next().unwrap_or_default()))
    }

    /// Returns [`Source::code`] up to the tests, which may use upper layers, read the clock and have any name.
    fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = if self.is_test() { None } else { Some(self.code()) };
        all.into_iter().flatten().take_while(|(_, line)| !line.starts_with("mod tests {"))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn complain(&self, line: usize, message: String) -> Complaint {
        Complaint { path: self.path.clone(), line, message }
    }
}

/// The sources of the crate.
fn sources() -> Vec<Source> {
    sources_in("src")
}

/// The sources in a folder of the package.
fn sources_in(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = WalkDir::new(root.join(folder)).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"));
    let sources: Vec<Source> = files
        .map(|entry| Source {
            path: entry.path().strip_prefix(root).unwrap().to_owned(),
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

#[track_caller]
fn assert_no_complaint(complaints: &[Complaint]) {
    let lines = complaints.iter().map(|one| format!("{}:{}: {}", one.path.display(), one.line, one.message));
    assert_none(&lines.collect::<Vec<_>>());
}

/// Complains about each line of code that contains `word`, in layers that are not `allowed`.
fn uses_outside(word: &str, allowed: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.layer().is_some_and(|layer| allowed.contains(&layer)) {
            continue;
        }
        let lines = source.product_code().filter(|(_, line)| contains_word(line, word));
        complaints.extend(lines.map(|(number, _)| format!("{}: `{word}` is not allowed here", source.at(number))));
    }
    complaints
}

fn is_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether `line` contains `word` with no identifier character on either side.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_identifier) && !after.is_some_and(is_identifier)
    })
}

/// Returns the first path element after each `prefix` (`crate::`), including those in braces, such as
/// `crate::{base::x, codec::{y}}`.
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
                let is_of_io = |part: &&str| code[offset..].starts_with(*part);
                if layer == "io" && used == "base" && !IO_USES.iter().any(is_of_io) {
                    complaints.push(format!("{}: `io` may use only {IO_USES:?} of `base`", source.at(line)));
                }
            }
        }
        // In the root module of a layer `super::` is the root of the crate.
        let is_root = source.path.components().count() == 3 && source.path.ends_with("mod.rs");
        let bad = if is_root { "super::" } else { "super::super::super::" };
        if let Some(offset) = code.find(bad) {
            let line = code[..offset].matches('\n').count() + 1;
            complaints.push(format!("{}: `{bad}` hides a dependency: write `crate::`", source.at(line)));
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
    // `unsafe_code` is the name of a lint.
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
                complaints.push(format!("{}: `{module}` is too vague a name", source.at(1)));
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
                    complaints.push(format!("{}: `{name}` is too vague a name", source.at(number)));
                }
            }
            if line.contains("fn get_") {
                complaints.push(format!("{}: name a getter after its value, without `get_`", source.at(number)));
            }
        }
    }
    assert_none(&complaints);
}

/// A ring thread that yields or polls a channel starves its ring, except through `io::no_op`, and an unbounded queue has
/// no memory limit.
#[test]
fn no_code_yields_or_queues_without_bound() {
    let mut complaints = uses_outside("yield_now", &["io"]);
    complaints.extend(uses_outside("unbounded_channel", &[]));
    complaints.extend(uses_outside("unbounded", &[]));
    assert_none(&complaints);
}

/// Every package comes from the registry under a compatible license.
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
        let license = package["license"].as_str().unwrap_or_default();
        if !is_permitted(license) {
            complaints.push(format!("{name}: license {license:?}"));
        }
    }
    assert_none(&complaints);
}

/// Whether [`LICENSES`] satisfy an SPDX expression without nested parentheses.
fn is_permitted(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    let met = |license: &str| LICENSES.contains(&license.trim());
    flat.split(" AND ").all(|part| part.split(" OR ").any(met))
}
