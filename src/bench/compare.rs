//! Comparison of figures with those of an earlier run.

use std::collections::BTreeMap;

use serde_json::Value;

/// One number in both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The keys that lead to the number, joined by dots.
    pub name: String,
    pub old: Option<f64>,
    pub new: Option<f64>,
}

impl Change {
    /// Returns the new number divided by the old one. `None` unless both exist and the old one is not zero.
    pub fn ratio(&self) -> Option<f64> {
        let old = self.old.filter(|old| *old != 0.0)?;
        Some(self.new? / old)
    }
}

/// Returns the numbers of both runs, sorted by name. Lists are left out, because their members have no counterparts,
/// except for members that have a name (`work`).
pub fn compare(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes: BTreeMap<String, (Option<f64>, Option<f64>)> = BTreeMap::new();
    numbers("", old, &mut |name, number| changes.entry(name).or_default().0 = Some(number));
    numbers("", new, &mut |name, number| changes.entry(name).or_default().1 = Some(number));
    changes.into_iter().map(|(name, (old, new))| Change { name, old, new }).collect()
}

fn numbers(name: &str, value: &Value, found: &mut dyn FnMut(String, f64)) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Number(number) => number.as_f64().into_iter().for_each(|number| found(name.to_owned(), number)),
        Value::Object(members) => members.iter().for_each(|(key, member)| numbers(&inner(key), member, found)),
        Value::Array(members) => {
            for member in members {
                if let Some(work) = member.get("work").and_then(Value::as_str) {
                    numbers(&inner(work), member, found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_matched_by_name() {
        let old =
            json!({ "gb_per_s": 2.0, "gone": 1, "zero": 0, "seed": { "cpu": 4 }, "name": "x", "list": [1, [2, 3]] });
        let new = json!({ "gb_per_s": 3.0, "zero": 5, "seed": { "cpu": 1, "fresh": 7 }, "figures": [{ "work": "tcp", "gb": 1 }] });
        let changes = compare(&old, &new);
        let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["figures.tcp.gb", "gb_per_s", "gone", "seed.cpu", "seed.fresh", "zero"]);
        let of = |name| changes.iter().find(|change| change.name == name).unwrap();
        assert_eq!(of("gb_per_s").ratio(), Some(1.5));
        assert_eq!(of("seed.cpu").ratio(), Some(0.25));
        assert_eq!((of("gone").new, of("gone").ratio()), (None, None));
        assert_eq!((of("seed.fresh").old, of("seed.fresh").ratio()), (None, None));
        assert_eq!(of("zero").ratio(), None, "no ratio to zero");
        assert_eq!(compare(&Value::Null, &json!([1])), []);
    }
}
