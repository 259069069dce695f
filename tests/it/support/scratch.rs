//! Temporary folders that are removed with their test.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A temporary folder under `target/`, because `/tmp` may be too small for large content.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scratch");
        std::fs::create_dir_all(&parent).unwrap();
        Self(tempfile::Builder::new().prefix("t").tempdir_in(parent).unwrap())
    }

    /// Creates a folder that every user may read.
    pub(crate) fn public() -> Self {
        let scratch = Self::new();
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of `name` in this folder.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Creates the folder `name` in this folder and returns its path.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}
