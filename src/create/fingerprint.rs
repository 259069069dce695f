//! The state of content as its names and file identities show it, without reading bytes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use super::error::CreateError;
use super::filters::Filters;
use super::scan::{Scan, scan};

/// A hash of 64 bits of the names and identities of all files of a content: states with different names, lengths,
/// inodes or times have different fingerprints, except by chance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Reads the names and identities of the files at `path`.
    pub fn read(path: &Path) -> Result<Self, CreateError> {
        Ok(Self::of(&scan(path, &Filters::default(), None)?))
    }

    pub fn of(scan: &Scan) -> Self {
        let mut hasher = DefaultHasher::new();
        scan.single_file.hash(&mut hasher);
        for file in &scan.files {
            (&file.elements, file.identity).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_change_of_a_file_or_name_shows() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), b"one").unwrap();
        let read = || Fingerprint::read(dir.path()).unwrap();
        let mut seen = vec![read()];
        assert_eq!(seen[0], read());
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(at("b"), b"").unwrap(),
            &|| fs::rename(at("b"), at("c")).unwrap(),
            &|| fs::write(at("a"), b"longer").unwrap(),
            &|| fs::File::open(at("a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap(),
            &|| fs::remove_file(at("c")).unwrap(),
        ];
        for change in changes {
            change();
            seen.push(read());
        }
        for (at, one) in seen.iter().enumerate() {
            assert!(!seen[at + 1..].contains(one), "{at}");
        }
        assert!(Fingerprint::read(&at("gone")).is_err());
    }
}
