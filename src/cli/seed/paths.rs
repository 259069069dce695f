//! The paths that `seed` serves: those of the command line, and those that its patterns match.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::path_kind::PathKind;
use super::refusals::warn_of_duplicate;
use super::served::ServedTorrent;
use crate::base::{InfoHash, limits};
use crate::cli::options::is_pattern;
use crate::cli::output::Output;
use crate::create::Fingerprint;
use crate::create::open::shown;

/// A path, and the torrent that is served of it.
pub(super) struct SeededPath {
    pub(super) path: PathBuf,
    pub(super) kind: PathKind,
    pub(super) state: PathState,
}

pub(super) enum PathState {
    /// The content has to be hashed before it is served.
    Unhashed,
    Served(Version),
    /// Not served, for this reason, which has been reported.
    Refused(String),
    /// Another path has the same torrent, and serves it. The files were in this state, or could not be listed.
    Duplicate {
        info_hash: InfoHash,
        fingerprint: Option<Fingerprint>,
    },
}

/// The state of the content at a path that is served.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) info_hash: InfoHash,
    /// Printable.
    pub(super) name: String,
    /// Bytes of the content.
    pub(super) len: u64,
    /// The files at the path when they were read; `None` if they could not be listed.
    pub(super) fingerprint: Option<Fingerprint>,
}

impl Version {
    pub(super) fn new(torrent: &ServedTorrent, fingerprint: Option<Fingerprint>) -> Self {
        let ServedTorrent { info_hash, name, total_len, .. } = torrent;
        Self { info_hash: *info_hash, name: name.clone(), len: *total_len, fingerprint }
    }
}

/// A path of the command line.
pub(super) enum Matched {
    Path(PathBuf),
    Pattern { pattern: PathBuf, matches: Vec<PathBuf> },
}

/// Finds the paths that the patterns match.
pub(super) fn search(paths: &[PathBuf]) -> Vec<Matched> {
    let search = |path: &PathBuf| {
        if is_pattern(path) {
            Matched::Pattern { pattern: path.clone(), matches: matches(path) }
        } else {
            Matched::Path(path.clone())
        }
    };
    paths.iter().map(search).collect()
}

/// Returns the paths of the command line, each pattern replaced by the paths that it matches, without duplicates.
/// Reports patterns that match nothing, and paths that are given more than once.
pub(super) fn expand(matched: Vec<Matched>, output: &Output) -> Vec<PathBuf> {
    let mut expanded: Vec<PathBuf> = Vec::new();
    for path in matched {
        let (path, matches) = match path {
            Matched::Path(path) => {
                expanded.push(path);
                continue;
            }
            Matched::Pattern { pattern, matches } => (pattern, matches),
        };
        if matches.is_empty() {
            let line = "no path matches: put content there, then send SIGHUP (systemctl reload bt-fast)";
            output.message(format_args!("waiting for content: {}: {line}", shown(&path)));
        }
        if matches.len() > limits::PATTERN_MATCHES_MAX {
            let (count, max) = (matches.len() - limits::PATTERN_MATCHES_MAX, limits::PATTERN_MATCHES_MAX);
            output.warning(format_args!("{}: {count} paths are not served: at most {max} are", shown(&path)));
        }
        expanded.extend(matches.into_iter().take(limits::PATTERN_MATCHES_MAX));
    }
    let mut known = HashSet::new();
    expanded.retain(|path| {
        let is_new = known.insert(path.clone());
        if !is_new {
            warn_of_duplicate(path, output);
        }
        is_new
    });
    expanded
}

/// Returns the paths that match a pattern, sorted. As in a shell, `*`, `?` and `[…]` match within one element of the
/// path, and hidden names only if the pattern's element begins with a dot. An element that is no valid glob matches
/// itself alone.
fn matches(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for element in pattern.components() {
        let glob = if let Component::Normal(name) = element { glob(name.as_bytes()) } else { None };
        found = match glob {
            None => found.into_iter().map(|folder| folder.join(element)).collect(),
            Some(glob) => found.iter().flat_map(|folder| matching_entries(folder, &glob)).collect(),
        };
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found
}

/// A pattern for one element of a path.
struct ElementGlob {
    glob: GlobMatcher,
    with_hidden: bool,
}

/// Returns `None` if the element has no wildcard or is no valid glob.
fn glob(element: &[u8]) -> Option<ElementGlob> {
    let text = str::from_utf8(element).ok().filter(|text| text.contains(['*', '?', '[']))?;
    let glob = GlobBuilder::new(text).literal_separator(true).build().ok()?.compile_matcher();
    Some(ElementGlob { glob, with_hidden: text.starts_with('.') })
}

fn matching_entries(folder: &Path, glob: &ElementGlob) -> Vec<PathBuf> {
    let read = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names = fs::read_dir(read).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let is_match = |name: &OsString| {
        (glob.with_hidden || !name.as_bytes().starts_with(b".")) && glob.glob.is_match(Path::new(name))
    };
    let mut names: Vec<OsString> = names.filter(is_match).collect();
    names.sort_unstable();
    names.into_iter().map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_those_of_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden", "c.iso", "sub/x.iso", "sub/.y.iso", "other/z.iso"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let list = |pattern: &str| {
            let found = matches(&dir.path().join(pattern));
            found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(list("*"), ["a", "b", "c.iso", "other", "sub"]);
        assert_eq!(list("*.iso"), ["c.iso"]);
        assert_eq!(list("*/*.iso"), ["other/z.iso", "sub/x.iso"]);
        assert_eq!(list("[ab]"), ["a", "b"]);
        assert_eq!(list(".h*"), [".hidden"]);
        assert_eq!(list("sub/?.iso"), ["sub/x.iso"]);
        assert_eq!(list("none/*"), [""; 0]);
        assert_eq!(list("*/none"), [""; 0]);
    }
}
