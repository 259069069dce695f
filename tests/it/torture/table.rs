//! The table in `docs/torture.md`: every named test exists, and the README has the sums.

use std::{collections::BTreeSet, fs, path::Path};

use walkdir::WalkDir;

use crate::tidy::language::test_functions;

struct Row {
    id: String,
    tests: Vec<String>,
    outcome: String,
}

fn text(relative: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)).unwrap()
}

fn rows() -> Vec<Row> {
    let table = text("docs/torture.md");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| row |");
    let rows: Vec<Row> = table
        .lines()
        .filter(is_row)
        .map(|line| match cells(line).as_slice() {
            [id, _, tests, outcome] => {
                let tests =
                    tests.split('`').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
                Row { id: id.clone(), tests, outcome: outcome.clone() }
            }
            other => panic!("{} columns: {line}", other.len()),
        })
        .collect();
    assert!(rows.len() > 50, "{}", rows.len());
    rows
}

/// Returns the names of all test functions.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests"] {
        for entry in WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(path).unwrap();
                names.extend(test_functions(&source).into_iter().map(|(_, name)| name));
            }
        }
    }
    names
}

#[test]
fn every_test_in_the_table_exists() {
    let tests = tests();
    for row in rows() {
        let missing: Vec<_> = row.tests.iter().filter(|name| !tests.contains(*name)).collect();
        assert!(missing.is_empty(), "{}: no such tests: {missing:?}", row.id);
        assert!(!row.tests.is_empty() || row.outcome != "held", "{}: held, by no test", row.id);
    }
}

#[test]
fn each_row_has_an_outcome_and_the_readme_has_the_sums() {
    let (mut held, mut in_part) = (0, 0);
    let rows = rows();
    for row in &rows {
        match row.outcome.split(':').next().unwrap() {
            "held" => held += 1,
            "in part" => in_part += 1,
            "open" => {}
            other => panic!("{}: {other}", row.id),
        }
    }
    let ids: BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
    assert_eq!(ids.len(), rows.len(), "duplicate row");
    let sums = format!("Of {} rows {} were tried: {held} held, {in_part} held in part", rows.len(), held + in_part);
    assert!(text("README.md").contains(&sums), "README.md lacks the sentence: {sums}");
}
