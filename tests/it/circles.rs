//! Source files form no circle, so each file can be read with only the files below it in mind. A path through a
//! `pub use` counts as a use of the file that defines the item.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use walkdir::WalkDir;

/// The elements of a module path, such as `engine`, `ring`, `connection`.
type Module = Vec<String>;

fn modules() -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for entry in WalkDir::new(&root).into_iter().map(Result::unwrap) {
        let path = entry.path().strip_prefix(&root).unwrap().with_extension("");
        let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let Some(stem) = module.last().cloned() else { continue };
        let is_test = stem == "tests" || stem.ends_with("_tests");
        if entry.path().extension().is_none_or(|extension| extension != "rs") || is_test || stem == "main" {
            continue;
        }
        if matches!(&*stem, "mod" | "lib") {
            module.pop();
        }
        modules.insert(module, product_code(&fs::read_to_string(entry.path()).unwrap()));
    }
    modules
}

/// Returns the code without comments and without `#[cfg(test)]` items.
fn product_code(text: &str) -> String {
    let mut code: String = text.lines().flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect();
    while let Some(start) = code.find("#[cfg(test)]") {
        let rest = &code[start..];
        let brace = rest.find('{').unwrap_or(rest.len());
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let len = if semicolon < brace { semicolon + 1 } else { brace + block_len(&rest[brace..]) };
        code.replace_range(start..start + len, "");
    }
    code
}

/// Returns the length of a block that begins with its brace.
fn block_len(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the paths of a `use` tree.
fn paths(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![format!("{prefix}{}", tree.split(" as ").next().unwrap_or_default().trim())];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let prefix = format!("{prefix}{}", head.trim());
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.extend(paths(&prefix, &inner[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        found.extend(paths(&prefix, &inner[start..]));
    }
    found
}

/// Returns the module that a path written in `from` leads to, and the first name after the module path.
fn resolve(modules: &BTreeMap<Module, String>, from: &Module, path: &str) -> Option<(Module, Option<String>)> {
    let mut parts = path.split("::").filter(|part| !part.is_empty()).peekable();
    let mut at: Module = match parts.peek().copied()? {
        "crate" => Vec::new(),
        "super" | "self" => from.clone(),
        child => {
            let is_child = modules.contains_key(&[&from[..], &[child.to_owned()]].concat());
            is_child.then(|| from.clone())?
        }
    };
    while let Some(part) = parts.next_if(|part| matches!(*part, "crate" | "super" | "self")) {
        if part == "super" {
            at.pop();
        }
    }
    while let Some(part) = parts.peek() {
        let deeper = [&at[..], &[(*part).to_owned()]].concat();
        if !modules.contains_key(&deeper) {
            break;
        }
        at = deeper;
        parts.next();
    }
    Some((at, parts.next().map(str::to_owned)))
}

struct Uses {
    own: Vec<String>,
    reexported: Vec<String>,
}

fn uses(code: &str) -> Uses {
    let mut uses = Uses { own: Vec::new(), reexported: Vec::new() };
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let Some((before, tree)) = statement.rsplit_once("use ").filter(|(before, _)| {
            let before = before.trim_end();
            before.is_empty() || before.ends_with(['{', '}', ';', ']', ')']) || before.ends_with("pub")
        }) else {
            rest.push_str(statement);
            continue;
        };
        let last = before.trim_end().rsplit(['\n', '}', ';']).next().unwrap_or_default().trim();
        let list = if last.starts_with("pub") { &mut uses.reexported } else { &mut uses.own };
        list.extend(paths("", tree.trim_end_matches(';')));
        rest.push_str(before);
    }
    for start in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if !rest[..at].ends_with(is_path) {
                uses.own.push(rest[at..].chars().take_while(|&c| is_path(c)).collect());
            }
        }
    }
    uses
}

fn graph(modules: &BTreeMap<Module, String>) -> BTreeMap<&Module, BTreeSet<Module>> {
    let all: BTreeMap<&Module, Uses> = modules.iter().map(|(module, code)| (module, uses(code))).collect();
    let mut reexported = BTreeMap::new();
    for (module, uses) in &all {
        for path in &uses.reexported {
            if let Some((from, Some(name))) = resolve(modules, module, path).filter(|(from, _)| from != *module) {
                reexported.insert(((*module).clone(), name), from);
            }
        }
    }
    let target = |module: &Module, path: &str| {
        let (mut at, name) = resolve(modules, module, path)?;
        while let Some(from) = name.as_ref().and_then(|name| reexported.get(&(at.clone(), name.clone()))) {
            at.clone_from(from);
        }
        (at != *module && !at.is_empty()).then_some(at)
    };
    all.iter()
        .map(|(module, uses)| (*module, uses.own.iter().filter_map(|path| target(module, path)).collect()))
        .collect()
}

fn reachable<'a>(graph: &'a BTreeMap<&Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flatten() {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

#[test]
fn source_files_form_no_circle() {
    let modules = modules();
    let graph = graph(&modules);
    let mut circles = BTreeSet::new();
    for module in modules.keys() {
        let below = reachable(&graph, module);
        if below.contains(module) {
            let circle = below.into_iter().filter(|other| reachable(&graph, other).contains(module));
            circles.insert(circle.map(|module| module.join("::")).collect::<Vec<_>>());
        }
    }
    assert_eq!(circles, BTreeSet::new());
    // The graph is not empty by mistake.
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > modules.len());
}

#[test]
fn use_trees_are_parsed() {
    let found = uses("use a::{b, c::{D, e as f}};\npub(crate) use super::x::Y;\nfn g() { crate::h::i(); }\n");
    assert_eq!(found.own, ["a::b", "a::c::D", "a::c::e", "crate::h::i"]);
    assert_eq!(found.reexported, ["super::x::Y"]);
    assert_eq!(product_code("a // b\n#[cfg(test)]\nmod tests { x{} }\nc").split_whitespace().collect::<String>(), "ac");
}
