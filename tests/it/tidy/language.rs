//! Rules for the language: no words that hide the actor or the count, and short names of tests.

use std::path::Path;

use super::{
    Complaint, Source, assert_no_complaint, sources_in,
    text::{Kind, Text, texts},
};

/// Words that stand for an unnamed actor, thing or number. Name it instead.
const BANNED_WORDS: [&str; 11] = [
    "somebody",
    "nobody",
    "anybody",
    "whoever",
    "whom",
    "so many",
    "so long",
    "such a one",
    "as ever",
    "is had",
    "any more",
];
const TEST_NAME_LEN_MAX: usize = 60;

/// Returns the banned words in a text, with a `Who` or `What` that begins a statement.
fn banned_words(text: &str, is_comment: bool) -> Vec<&'static str> {
    let spaced = format!(" {} ", text.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != '\'', " "));
    let mut found: Vec<&str> = BANNED_WORDS.into_iter().filter(|word| spaced.contains(&format!(" {word} "))).collect();
    for sentence in sentences(text) {
        if sentence.ends_with('?') {
            continue;
        }
        if sentence.starts_with("Who ") || sentence.starts_with("who ") {
            found.push("who");
        }
        if is_comment && sentence.starts_with("What ") {
            found.push("What");
        }
    }
    found
}

/// Splits a text after each period, question mark and exclamation mark that a space follows.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(". ")
        .flat_map(|part| part.split_inclusive("? "))
        .flat_map(|part| part.split_inclusive("! "))
        .map(str::trim)
}

/// Joins the lines of each comment, so that sentences across lines are seen whole.
fn joined(texts: Vec<Text>) -> Vec<Text> {
    let mut joined: Vec<Text> = Vec::new();
    let mut last_line = 0;
    for text in texts {
        let continues = text.kind != Kind::Literal && text.line == last_line + 1 && !text.text.is_empty();
        last_line = if text.kind == Kind::Literal { 0 } else { text.line };
        match joined.last_mut().filter(|last| continues && last.kind == text.kind) {
            Some(last) => last.text = format!("{} {}", last.text, text.text),
            None => joined.push(text),
        }
    }
    joined
}

/// Complains about banned words in comments and, outside tests, in string literals. `heads_only` limits the rule to the
/// heads of modules.
fn language_complaints(source: &Source, heads_only: bool) -> Vec<Complaint> {
    let tests_start = source.tests_start();
    let is_checked = |text: &Text| match text.kind {
        Kind::ModuleHead => true,
        Kind::Comment => !heads_only,
        Kind::Literal => !heads_only && text.line < tests_start,
    };
    let mut complaints = Vec::new();
    for text in joined(texts(&source.text)).into_iter().filter(is_checked) {
        for word in banned_words(&text.text, text.kind != Kind::Literal) {
            complaints.push(source.complain(text.line, format!("`{word}`: name the actor, the thing or the number")));
        }
    }
    complaints
}

/// Returns each test function of a source file with its line. Functions that run on both drivers are tests too.
pub(crate) fn test_functions(text: &str) -> Vec<(usize, String)> {
    let mut functions = Vec::new();
    let (mut is_test, mut is_list) = (false, false);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        let list = line.strip_prefix("test_on_both_drivers!(");
        is_list |= list.is_some();
        if is_list {
            let names = list.unwrap_or(line).trim_end_matches(");").split([',', ' ']).filter(|name| !name.is_empty());
            functions.extend(names.map(|name| (number, name.to_owned())));
            is_list = !line.ends_with(");");
            continue;
        }
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && !line.starts_with("#[") && !line.starts_with("//") {
            let head = line.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ");
            functions.extend(head.and_then(|head| Some((number, head.split('(').next()?.to_owned()))));
            is_test = false;
        }
    }
    functions
}

fn test_name_complaints(source: &Source) -> Vec<Complaint> {
    let names = test_functions(&source.text).into_iter().filter(|(_, name)| name.len() > TEST_NAME_LEN_MAX);
    names
        .map(|(line, name)| {
            source.complain(line, format!("`{name}` has {} letters, at most {TEST_NAME_LEN_MAX}", name.len()))
        })
        .collect()
}

#[test]
fn comments_and_messages_name_actors_and_counts() {
    let mut complaints: Vec<_> =
        sources_in("src").iter().flat_map(|source| language_complaints(source, false)).collect();
    complaints.extend(sources_in("tests").iter().flat_map(|source| language_complaints(source, true)));
    assert_no_complaint(&complaints);
}

#[test]
fn test_names_are_short() {
    let sources = ["src", "tests"].into_iter().flat_map(sources_in);
    let complaints: Vec<_> = sources.flat_map(|source| test_name_complaints(&source)).collect();
    assert_no_complaint(&complaints);
}

/// Asserts that each name that a script runs or skips is part of the path of a test.
fn assert_tests_exist(script: &str, names: &[&str]) {
    let paths = |source: Source| {
        let module = source.path.with_extension("").to_str().unwrap().replace('/', "::");
        test_functions(&source.text).into_iter().map(move |(_, name)| format!("{module}::{name}"))
    };
    let tests: Vec<String> = ["src", "tests"].into_iter().flat_map(sources_in).flat_map(paths).collect();
    let missing: Vec<_> = names.iter().filter(|name| !tests.iter().any(|test| test.contains(**name))).collect();
    assert!(!names.is_empty() && missing.is_empty(), "{script} names no such tests: {missing:?}");
}

fn script(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn slow_tests_of_the_quick_run_exist() {
    let script = script("tools/test");
    let (_, list) = script.split_once("readonly SLOW=(").expect("a list of slow tests");
    let names: Vec<&str> = list.split(')').next().unwrap().split_whitespace().collect();
    assert_tests_exist("tools/test", &names);
}

#[test]
fn tests_of_the_sanitizers_exist() {
    let script = script("tools/sanitize");
    let commands = script.lines().filter(|line| line.contains(" -- ") || line.trim_start().starts_with("--skip"));
    let is_name = |word: &&str| {
        word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | ':'))
            && (word.contains('_') || word.contains("::"))
    };
    let names: Vec<&str> = commands.flat_map(str::split_whitespace).filter(is_name).collect();
    assert_tests_exist("tools/sanitize", &names);
}

#[test]
fn banned_language_is_found() {
    let bad = "//! Who asks first, is served.\n/// Takes so\n/// many peers. What is left, is\n/// kept.\nfn f() {\n    \
               print(\"nobody listens\"); // As ever.\n}\n";
    let source = Source { path: "src/bad.rs".into(), text: bad.into() };
    let lines = |heads_only| -> Vec<usize> {
        language_complaints(&source, heads_only).iter().map(|complaint| complaint.line).collect()
    };
    assert_eq!(lines(false), [1, 2, 2, 6, 6]);
    assert_eq!(lines(true), [1]);
    let good = "/// What does it cost? The peer that asks first is served. Knows whomsoever. So-manyfold.\nfn f() {\n    \
                print(\"What to do\");\n}\n#[cfg(test)]\nmod tests {\n    const A: &str = \"nobody\";\n}\n";
    assert_eq!(language_complaints(&Source { path: "src/good.rs".into(), text: good.into() }, false), []);
}

#[test]
fn long_test_names_are_found() {
    let (long, short) = ("x".repeat(TEST_NAME_LEN_MAX + 1), "x".repeat(TEST_NAME_LEN_MAX));
    let text =
        format!("fn {long}() {{}}\n#[test]\nfn {short}() {{}}\n#[tokio::test]\n#[ignore]\nasync fn {long}() {{}}\n");
    let complaints = test_name_complaints(&Source { path: "src/a.rs".into(), text });
    assert_eq!(complaints.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [6]);
    let names = test_functions("test_on_both_drivers!(\n    one,\n    two, three,\n);\nfn one() {}\n");
    assert_eq!(names, [(2, "one".to_owned()), (3, "two".to_owned()), (3, "three".to_owned())]);
    assert_eq!(test_functions("test_on_both_drivers!(one,);\nfn two() {}\n"), [(1, "one".to_owned())]);
}
