//! Free disk space: whether downloads fit, before they write their first byte.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::layout::{FileSystem, Layout};
use crate::base::escape::printable;
use crate::base::units::Bytes;

/// The space that is promised to downloads, by device number. One value serves all torrents of a session, so that
/// together they fit as well.
#[derive(Debug, Default)]
pub struct PromisedSpace(BTreeMap<u64, Promised>);

/// Promises on one file system.
#[derive(Debug)]
struct Promised {
    len: u64,
    /// Free bytes before the first promise, and bytes of longer files that the downloads truncate. Downloads that have
    /// begun to write leave less and less, which must not count twice.
    free_before: u64,
}

/// A file that a download is going to write.
#[derive(Debug, Clone, Copy)]
pub struct WantedFile {
    pub file_index: usize,
    /// Length in the torrent.
    pub len: u64,
    /// Bytes of pieces that are not on the disk.
    pub missing: u64,
    /// Whether a longer file is truncated.
    pub is_replaced: bool,
}

/// The downloads do not fit on a file system.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpaceShortage {
    folder: PathBuf,
    needed: u64,
    free: u64,
    /// Bytes that other downloads of the session still need.
    promised: u64,
}

impl fmt::Display for SpaceShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = printable(self.folder.as_os_str().as_encoded_bytes());
        let (needed, free) = (Bytes(self.needed), Bytes(self.free));
        write!(f, "not enough space: {folder}: {needed} are needed and {free} are free")?;
        if self.promised > 0 {
            write!(f, " beside {} for the other torrents", Bytes(self.promised))?;
        }
        f.write_str(": free some space or choose another folder with -o")
    }
}

/// The space that one download needs on a file system.
struct Need {
    file_system: FileSystem,
    len: u64,
    /// Bytes of longer files that are truncated.
    released: u64,
}

impl PromisedSpace {
    /// Promises the space that these files need in addition to what is allocated to them. Promises nothing and fails if
    /// a file system has too little. A file system that does not report its free space is taken to be large enough.
    pub fn promise(
        &mut self,
        layout: &Layout,
        files: impl IntoIterator<Item = WantedFile>,
    ) -> Result<(), SpaceShortage> {
        let mut needs: BTreeMap<u64, Need> = BTreeMap::new();
        for file in files {
            let Some(file_system) = layout.file_system(file.file_index) else { continue };
            let allocated = layout.reserved_len(file.file_index);
            let need = needs.entry(file_system.device).or_insert(Need { file_system, len: 0, released: 0 });
            need.len = need.len.saturating_add(file.len.saturating_sub(allocated).min(file.missing));
            if file.is_replaced {
                need.released = need.released.saturating_add(allocated.saturating_sub(file.len));
            }
        }
        for need in needs.values() {
            self.check(need)?;
        }
        needs.into_values().for_each(|need| self.take(&need));
        Ok(())
    }

    fn take(&mut self, need: &Need) {
        let FileSystem { device, free, .. } = need.file_system;
        let promised = self.0.entry(device).or_insert(Promised { len: 0, free_before: free.unwrap_or(u64::MAX) });
        promised.len = promised.len.saturating_add(need.len);
        promised.free_before = promised.free_before.saturating_add(need.released);
    }

    fn check(&self, need: &Need) -> Result<(), SpaceShortage> {
        let Some(free_now) = need.file_system.free else { return Ok(()) };
        let promised = self.0.get(&need.file_system.device);
        let left = promised.map_or(u64::MAX, |promised| promised.free_before.saturating_sub(promised.len));
        let free = free_now.min(left).saturating_add(need.released);
        if need.len <= free {
            return Ok(());
        }
        Err(SpaceShortage {
            folder: need.file_system.folder.clone(),
            needed: need.len,
            free,
            promised: promised.map_or(0, |promised| promised.len),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn need(len: u64, free: Option<u64>) -> Need {
        Need { file_system: FileSystem { device: 1, free, folder: "/srv".into() }, len, released: 0 }
    }

    fn promised(len: u64, free_before: u64) -> PromisedSpace {
        PromisedSpace([(1, Promised { len, free_before })].into())
    }

    #[test]
    fn a_shortage_names_folder_need_and_free_space() {
        let refused = PromisedSpace::default().check(&need(300 << 20, Some(40 << 20))).unwrap_err().to_string();
        let remedy = "free some space or choose another folder with -o";
        assert_eq!(refused, format!("not enough space: /srv: 300 MiB are needed and 40 MiB are free: {remedy}"));
        let refused = promised(30, 40).check(&need(20, Some(40))).unwrap_err().to_string();
        assert!(refused.contains("20 B are needed and 10 B are free beside 30 B for the other torrents"), "{refused}");
    }

    #[test]
    fn promised_bytes_count_once() {
        // The other torrent was promised 30 bytes and has written 25 of them.
        assert!(promised(30, 40).check(&need(10, Some(15))).is_ok());
        assert!(promised(30, 40).check(&need(11, Some(15))).is_err());
        assert!(PromisedSpace::default().check(&need(u64::MAX, None)).is_ok());
    }

    #[test]
    fn truncated_bytes_are_free_for_all_downloads() {
        let replacing = Need { released: 5, ..need(20, Some(15)) };
        let mut space = PromisedSpace::default();
        assert!(space.check(&replacing).is_ok());
        assert!(space.check(&Need { len: 21, ..replacing }).is_err());
        space = promised(10, 15);
        let replacing = Need { released: 5, ..need(10, Some(15)) };
        assert!(space.check(&replacing).is_ok());
        space.take(&replacing);
        assert_eq!(space.check(&need(1, Some(20))).unwrap_err().free, 0);
        space = PromisedSpace::default();
        space.take(&Need { released: 5, ..need(10, Some(15)) });
        assert!(space.check(&need(10, Some(20))).is_ok());
    }

    #[test]
    fn allocated_and_verified_bytes_are_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("full"), vec![1; 1 << 20]).unwrap();
        fs::File::create(folder.path().join("sparse")).unwrap().set_len(1 << 20).unwrap();
        let paths = ["full", "sparse", "new/file"];
        let path = |path: &str| path.split('/').map(|element| element.as_bytes().to_vec()).collect();
        let layout = Layout::open(folder.path(), paths.map(path)).unwrap();
        let promised = |file_index: usize, missing: u64| {
            let mut space = PromisedSpace::default();
            space.promise(&layout, [WantedFile { file_index, len: 1 << 20, missing, is_replaced: false }]).unwrap();
            space.0.values().map(|promised| promised.len).sum::<u64>()
        };
        assert_eq!((promised(0, 1 << 20), promised(1, 1 << 20), promised(2, 1 << 20)), (0, 1 << 20, 1 << 20));
        assert_eq!((promised(1, 1000), promised(2, 0)), (1000, 0));
        let mut space = PromisedSpace::default();
        let endless = WantedFile { file_index: 2, len: u64::MAX, missing: u64::MAX, is_replaced: false };
        let refused = space.promise(&layout, [endless]).unwrap_err();
        assert_eq!((refused.folder, refused.needed), (folder.path().to_owned(), u64::MAX));
        assert!(space.0.is_empty());
    }
}
