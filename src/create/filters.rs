//! Selects the files of a folder that become content: `GLOB` includes, `!GLOB` excludes, the last match wins. Files
//! that file managers create are included only if a glob matches them.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Names of files that file managers create in folders, case-insensitive. They change when a user browses a folder, and
/// the info-hash would change with them.
const JUNK: [&str; 3] = [".DS_Store", "Thumbs.db", "desktop.ini"];

/// An ordered list of include and exclude globs over paths relative to the folder.
///
/// A glob without `/` matches a file or folder of that name at any depth; one with `/` matches from the top folder. A
/// match of a folder applies to all files in it. `*` does not match `/`, `**` does. A path that no glob matches is
/// included unless there is an include glob.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// For each pattern in order, whether it includes.
    includes: Vec<bool>,
    /// Two globs for each pattern: one for the path itself, one for all paths below it.
    globs: GlobSet,
    includes_junk: bool,
}

/// The decision on one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Include,
    Exclude,
    /// Excluded because of its name.
    Junk,
}

/// Why a filter was refused.
#[derive(Debug, thiserror::Error)]
#[error("bad glob '{glob}': {reason}")]
pub struct FilterError {
    glob: String,
    reason: String,
}

impl Filters {
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, FilterError> {
        let mut includes = Vec::new();
        let mut globs = GlobSetBuilder::new();
        let mut all = String::new();
        let refuse =
            |glob: &str, error: globset::Error| FilterError { glob: glob.to_owned(), reason: error.kind().to_string() };
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let glob = pattern.strip_prefix('!').unwrap_or(pattern).trim_end_matches('/');
            includes.push(!pattern.starts_with('!'));
            let anchored = match glob.strip_prefix('/') {
                Some(rest) => rest.to_owned(),
                None if glob.contains('/') => glob.to_owned(),
                None => format!("**/{glob}"),
            };
            for glob in [format!("{anchored}/**"), anchored] {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                globs.add(glob.map_err(|error| refuse(pattern, error))?);
            }
            all.push_str(pattern);
        }
        let globs = globs.build().map_err(|error| refuse(&all, error))?;
        Ok(Self { includes, globs, includes_junk: false })
    }

    /// Sets whether files that file managers create are treated like other files.
    #[must_use]
    pub fn with_junk(self, includes_junk: bool) -> Self {
        Self { includes_junk, ..self }
    }

    /// Whether there are no globs.
    pub fn is_empty(&self) -> bool {
        self.includes.is_empty()
    }

    /// Decides on the file at this relative path.
    pub fn judge(&self, path: &Path) -> Verdict {
        let is_junk = |name: &std::ffi::OsStr| JUNK.iter().any(|junk| name.eq_ignore_ascii_case(junk));
        match self.last_match(path) {
            Some(rule) if self.includes[rule] => Verdict::Include,
            None if !self.includes.contains(&true) => match path.file_name() {
                Some(name) if !self.includes_junk && is_junk(name) => Verdict::Junk,
                _ => Verdict::Include,
            },
            _ => Verdict::Exclude,
        }
    }

    /// Whether no file below this folder can be included, so that the folder need not be read.
    pub fn prunes(&self, folder: &Path) -> bool {
        self.last_match(folder).is_some_and(|rule| !self.includes[rule..].contains(&true))
    }

    /// Position of the last rule that matches.
    fn last_match(&self, path: &Path) -> Option<usize> {
        self.globs.matches(path).last().map(|glob| glob / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(filters: &[&str], paths: &[&'static str]) -> Vec<&'static str> {
        let filters = Filters::new(filters).unwrap();
        paths.iter().copied().filter(|path| filters.judge(Path::new(path)) == Verdict::Include).collect()
    }

    const TREE: [&str; 6] = ["a.iso", "a.txt", "cache/b.iso", "cache/keep.txt", "deep/er/cache/c.txt", ".hidden"];

    #[test]
    fn the_last_match_wins() {
        for (filters, expected) in [
            (&[][..], &TREE[..]),
            (&["*.iso"], &["a.iso", "cache/b.iso"]),
            (&["!*.iso"], &["a.txt", "cache/keep.txt", "deep/er/cache/c.txt", ".hidden"]),
            (&["!cache"], &["a.iso", "a.txt", ".hidden"]),
            (&["!/cache/"], &["a.iso", "a.txt", "deep/er/cache/c.txt", ".hidden"]),
            (&["!cache", "cache/keep.txt"], &["cache/keep.txt"]),
            (&["*.txt", "!deep/**/cache"], &["a.txt", "cache/keep.txt"]),
            (&["*.{iso,txt}", "!a.*", "a.txt"], &["a.txt", "cache/b.iso", "cache/keep.txt", "deep/er/cache/c.txt"]),
        ] {
            assert_eq!(taken(filters, &TREE), expected, "{filters:?}");
        }
    }

    #[test]
    fn junk_is_included_only_on_request() {
        let junk = |filters: &[&str], path: &str| Filters::new(filters).unwrap().judge(Path::new(path));
        for path in [".DS_Store", "deep/Thumbs.db", "a/Desktop.ini"] {
            assert_eq!(junk(&[], path), Verdict::Junk, "{path}");
            assert_eq!(junk(&["!*.iso"], path), Verdict::Junk, "{path}");
            assert_eq!(Filters::default().with_junk(true).judge(Path::new(path)), Verdict::Include, "{path}");
        }
        assert_eq!(junk(&["*.db"], "deep/Thumbs.db"), Verdict::Include);
        assert_eq!(junk(&["!*.ini"], "desktop.ini"), Verdict::Exclude);
        assert_eq!(junk(&["*.iso"], "desktop.ini"), Verdict::Exclude);
        assert_eq!(junk(&[], "Thumbs.db/file"), Verdict::Include);
        assert_eq!(junk(&[], "not-Thumbs.db"), Verdict::Include);
    }

    #[test]
    fn a_folder_is_pruned_only_if_no_file_below_can_be_included() {
        assert!(Filters::new(["!cache"]).unwrap().prunes(Path::new("cache")));
        assert!(Filters::new(["!cache"]).unwrap().prunes(Path::new("deep/cache")));
        assert!(!Filters::new(["!cache", "keep.txt"]).unwrap().prunes(Path::new("cache")));
        assert!(!Filters::new(["keep.txt"]).unwrap().prunes(Path::new("cache")));
    }

    #[test]
    fn a_broken_glob_is_named() {
        assert!(Filters::new(["a["]).unwrap_err().to_string().contains("'a['"));
    }
}
