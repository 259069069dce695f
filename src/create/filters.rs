//! Which files of a folder take part: `GLOB` includes, `!GLOB` excludes, the last match wins. What file managers leave
//! behind takes part only where a glob includes it.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Names of files that file managers leave in folders, whatever the case of their letters. They change when a folder is
/// looked at, and the info-hash with them.
const JUNK: [&str; 3] = [".DS_Store", "Thumbs.db", "desktop.ini"];

/// An ordered list of include and exclude globs over paths relative to the folder.
///
/// A glob without `/` matches a file or folder of that name at any depth; one with `/` matches from the folder down. A
/// folder that matches stands for all that is in it. `*` does not cross `/`, `**` does. A path that nothing matches
/// takes part unless there is an include glob.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// True for an include, in the order given.
    includes: Vec<bool>,
    /// Two globs for each: the path itself, and what is below it.
    globs: GlobSet,
    includes_junk: bool,
}

/// What becomes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Take,
    LeaveOut,
    /// Left out for its name alone.
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

    /// Junk takes part like anything else.
    #[must_use]
    pub fn with_junk(self, includes_junk: bool) -> Self {
        Self { includes_junk, ..self }
    }

    /// Whether there is no glob.
    pub fn is_empty(&self) -> bool {
        self.includes.is_empty()
    }

    /// What becomes of the file at this relative path.
    pub fn judge(&self, path: &Path) -> Verdict {
        let is_junk = |name: &std::ffi::OsStr| JUNK.iter().any(|junk| name.eq_ignore_ascii_case(junk));
        match self.last_match(path) {
            Some(rule) if self.includes[rule] => Verdict::Take,
            None if !self.includes.contains(&true) => match path.file_name() {
                Some(name) if !self.includes_junk && is_junk(name) => Verdict::Junk,
                _ => Verdict::Take,
            },
            _ => Verdict::LeaveOut,
        }
    }

    /// Whether nothing below this folder can take part, so that it need not be read.
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
        paths.iter().copied().filter(|path| filters.judge(Path::new(path)) == Verdict::Take).collect()
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
    fn junk_takes_part_only_where_it_is_asked_for() {
        let junk = |filters: &[&str], path: &str| Filters::new(filters).unwrap().judge(Path::new(path));
        for path in [".DS_Store", "deep/Thumbs.db", "a/Desktop.ini"] {
            assert_eq!(junk(&[], path), Verdict::Junk, "{path}");
            assert_eq!(junk(&["!*.iso"], path), Verdict::Junk, "{path}");
            assert_eq!(Filters::default().with_junk(true).judge(Path::new(path)), Verdict::Take, "{path}");
        }
        assert_eq!(junk(&["*.db"], "deep/Thumbs.db"), Verdict::Take);
        assert_eq!(junk(&["!*.ini"], "desktop.ini"), Verdict::LeaveOut);
        assert_eq!(junk(&["*.iso"], "desktop.ini"), Verdict::LeaveOut);
        assert_eq!(junk(&[], "Thumbs.db/file"), Verdict::Take);
        assert_eq!(junk(&[], "not-Thumbs.db"), Verdict::Take);
    }

    #[test]
    fn a_folder_is_skipped_only_when_nothing_below_can_come_back() {
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
