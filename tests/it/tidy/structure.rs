//! Rules for types and functions: where methods are defined, how large a struct may be, and how parameters are named.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Complaint, Source, assert_no_complaint, is_identifier, leading_identifier, sources_in, text::code};

const FIELDS_MAX: usize = 16;
/// Structs with more fields that are plain records, as `layer::Name`, with the reason for their size.
const RECORDS: [(&str, &str); 6] = [
    ("bench::Ended", "the JSON record that a seed or a download prints at its end"),
    ("bench::Figures", "the JSON record of `bench loopback`"),
    ("bench::Outcome", "the JSON record of `bench swarm --simulate`"),
    ("cli::Transfer", "the JSON record of a transfer"),
    ("engine::Config", "the options of a session, one field per flag"),
    ("engine::Status", "the snapshot of a session that `/api` serializes"),
];

/// The product code of a file: without comments, literals and tests.
fn product_code(source: &Source) -> String {
    if source.is_test() {
        return String::new();
    }
    code(&source.text).lines().take(source.tests_start() - 1).flat_map(|line| [line, "\n"]).collect()
}

fn line_of(code: &str, offset: usize) -> usize {
    code[..offset].matches('\n').count() + 1
}

/// Returns the offsets at which `keyword` is a whole word, each with the code after it.
fn occurrences<'a>(code: &'a str, keyword: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(keyword).filter_map(move |(start, _)| {
        let rest = &code[start + keyword.len()..];
        let is_word = !code[..start].ends_with(is_identifier) && !rest.starts_with(is_identifier);
        is_word.then_some((start, rest))
    })
}

/// Returns the length of the bracketed text at the start of `text`, brackets included. `->` and `=>` close nothing.
fn bracketed_len(text: &str, open: char, close: char) -> usize {
    let (mut depth, mut last) = (0, ' ');
    for (at, character) in text.char_indices() {
        if character == open {
            depth += 1;
        } else if character == close && !(close == '>' && matches!(last, '-' | '=')) {
            depth -= 1;
        }
        if depth == 0 {
            return at + character.len_utf8();
        }
        last = character;
    }
    text.len()
}

/// Splits a list at the commas that are in no brackets.
fn items(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start, mut last) = (Vec::new(), 0, 0, ' ');
    for (at, character) in list.char_indices() {
        match character {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if !matches!(last, '-' | '=') => depth -= 1,
            ',' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        last = character;
    }
    items.push(list[start..].trim());
    items.retain(|item| !item.is_empty());
    items
}

/// Skips generic parameters at the start of `text`.
fn after_generics(text: &str) -> &str {
    let text = text.trim_start();
    if text.starts_with('<') { text[bracketed_len(text, '<', '>')..].trim_start() } else { text }
}

/// Returns the name of each struct, enum and union with the files that define one of this name.
fn definitions(sources: &[Source]) -> BTreeMap<String, Vec<PathBuf>> {
    let mut definitions: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for source in sources {
        let code = product_code(source);
        for keyword in ["struct", "enum", "union"] {
            for (_, rest) in occurrences(&code, keyword) {
                let name = leading_identifier(rest.trim_start()).to_owned();
                definitions.entry(name).or_default().push(source.path.clone());
            }
        }
    }
    definitions
}

/// Whether `file` is `definer` or one of its child modules.
fn is_inside(file: &Path, definer: &Path) -> bool {
    let is_root = ["mod.rs", "lib.rs", "main.rs"].iter().any(|root| definer.ends_with(root));
    let children = if is_root { definer.parent().unwrap().to_owned() } else { definer.with_extension("") };
    file == definer || file.starts_with(children)
}

/// Complains about methods of a type outside its file and child modules: they make one type out of several files.
fn foreign_impl_complaints(sources: &[Source]) -> Vec<Complaint> {
    let definitions = definitions(sources);
    let mut complaints = Vec::new();
    for source in sources {
        let code = product_code(source);
        for (start, rest) in occurrences(&code, "impl") {
            // Only an item: `impl` in a type or a bound follows other code on its line.
            let line_start = code[..start].rfind('\n').map_or(0, |at| at + 1);
            if !matches!(code[line_start..start].trim(), "" | "unsafe") {
                continue;
            }
            let head = after_generics(rest);
            let head = &head[..head.find('{').unwrap_or(head.len())];
            if occurrences(head, "for").any(|(_, after)| !after.trim_start().starts_with('<')) {
                continue;
            }
            let path = head.split(['<', ' ', '\n']).next().unwrap_or_default();
            let name = path.rsplit("::").next().unwrap_or_default();
            let Some(definers) = definitions.get(name) else { continue };
            if !definers.iter().any(|definer| is_inside(&source.path, definer)) {
                // Several types may have one name: the nearest is meant.
                let shared =
                    |a: &Path| a.components().zip(source.path.components()).take_while(|(a, b)| a == b).count();
                let definer = definers.iter().max_by_key(|definer| shared(definer)).unwrap();
                let message = format!("methods of `{name}`, which {} defines", definer.display());
                complaints.push(source.complain(line_of(&code, start), message));
            }
        }
    }
    complaints
}

/// Complains about structs with too many fields: they hold several things that each want a type.
fn field_complaints(source: &Source) -> Vec<Complaint> {
    let code = product_code(source);
    let mut complaints = Vec::new();
    for (start, rest) in occurrences(&code, "struct") {
        let name = leading_identifier(rest.trim_start());
        let Some(end) = rest.find(['{', ';', '(']).filter(|&end| rest[end..].starts_with('{')) else { continue };
        let body = &rest[end..];
        let body = &body[1..bracketed_len(body, '{', '}') - 1];
        let count = items(body).len();
        let full_name = format!("{}::{name}", source.layer().unwrap_or_default());
        let is_record = RECORDS.iter().any(|(record, reason)| *record == full_name && !reason.is_empty());
        if count > FIELDS_MAX && !is_record {
            let message = format!("`{name}` has {count} fields, at most {FIELDS_MAX}");
            complaints.push(source.complain(line_of(&code, start), message));
        }
    }
    complaints
}

/// Complains about parameters that are tuple patterns: they hide a struct, or the number of parameters.
fn tuple_parameter_complaints(source: &Source) -> Vec<Complaint> {
    let code = product_code(source);
    let mut complaints = Vec::new();
    for (start, rest) in occurrences(&code, "fn") {
        let name = leading_identifier(rest.trim_start());
        if name.is_empty() {
            continue;
        }
        let rest = after_generics(&rest.trim_start()[name.len()..]);
        if !rest.starts_with('(') {
            continue;
        }
        let parameters = items(&rest[1..bracketed_len(rest, '(', ')') - 1]);
        if parameters.iter().any(|parameter| parameter.trim_start_matches('&').starts_with('(')) {
            complaints.push(source.complain(line_of(&code, start), format!("`{name}` takes a tuple pattern")));
        }
    }
    complaints
}

#[test]
fn methods_are_in_the_module_of_their_type() {
    assert_no_complaint(&foreign_impl_complaints(&sources_in("src")));
}

#[test]
fn structs_have_few_fields() {
    let complaints: Vec<_> = sources_in("src").iter().flat_map(field_complaints).collect();
    assert_no_complaint(&complaints);
}

#[test]
fn functions_take_no_tuple_patterns() {
    let sources = ["src", "tests"].into_iter().flat_map(sources_in);
    let complaints: Vec<_> = sources.flat_map(|source| tuple_parameter_complaints(&source)).collect();
    assert_no_complaint(&complaints);
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

#[test]
fn foreign_impls_are_found() {
    let sources = [
        source("src/a/b.rs", "pub struct B<T>(T);\nimpl<T: Fn() -> u8> B<T> {}\nenum E { X }\n"),
        source("src/a/b/child.rs", "impl super::B<u8> {}\n"),
        source("src/a/mod.rs", "struct M;\n"),
        source(
            "src/a/c.rs",
            "impl M {}\nimpl<T> B<T>\nwhere\n    T: Copy,\n{\n}\nimpl Clone for E {}\nfn f(x: impl E) {}\n",
        ),
        source("src/d.rs", "// impl M {}\nimpl a::E {}\nmod tests {\n    impl M {}\n}\n"),
    ];
    let found: Vec<_> =
        foreign_impl_complaints(&sources).into_iter().map(|complaint| (complaint.path, complaint.line)).collect();
    assert_eq!(found, [("src/a/c.rs".into(), 2), ("src/d.rs".into(), 2)]);
}

#[test]
fn large_structs_are_found() {
    let fields = |count: usize| "    /// Doc, with a comma.\n    pub a: Vec<(u8, u8)>,\n".repeat(count);
    let text = format!(
        "struct A {{\n{}}}\npub struct B<T> {{\n{}}}\nstruct C(u8, u8);\nstruct D;\n",
        fields(FIELDS_MAX),
        fields(FIELDS_MAX + 1)
    );
    let complaints = field_complaints(&source("src/a.rs", &text));
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].message.contains("`B`"), "{complaints:?}");
}

#[test]
fn tuple_parameters_are_found() {
    let text = "fn a<F: Fn((u8, u8)) -> u8>(f: F, b: (u8, u8)) {}\nfn b(x: u8, (y, z): (u8, u8)) {}\n\
                fn c() { d(|(a, b)| a) }\nfn e(\n    &(a, b): &(u8, u8),\n) {\n}\n";
    let lines: Vec<_> = tuple_parameter_complaints(&source("src/a.rs", text)).iter().map(|found| found.line).collect();
    assert_eq!(lines, [2, 4]);
}
