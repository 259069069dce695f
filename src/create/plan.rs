//! The plan of a torrent, which is known before hashing, and the torrent built from it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::error::{ContentError, CreateError};
use super::filters::Filters;
use super::hash_journal::HashJournal;
use super::observation::Observation;
use super::open::open_regular;
use super::piece_len;
use super::pieces::{hash_pieces, hash_pieces_with};
use super::scan::{Scan, scan};
use super::sweep::{Content, Control, Source};
use crate::base::{FileIdentity, Geometry, InfoHash, PieceHash, PieceIndex, limits};
use crate::codec::metainfo::{Attributes, Draft, DraftFiles, FileEntry, Info, Metainfo, MetainfoLimits};

/// The settings of a torrent other than its content.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The default is the last element of the content's path.
    pub name: Option<Vec<u8>>,
    pub filters: Filters,
    /// In bytes, a power of two. The default is [`piece_len::automatic`].
    pub piece_len: Option<u32>,
    pub attributes: Attributes,
}

impl Settings {
    /// The name of a torrent of the content at `path`.
    pub fn name_for(&self, path: &Path) -> Result<Vec<u8>, CreateError> {
        let name = self.name.clone().or_else(|| name_of(path));
        name.ok_or_else(|| CreateError::NoName { path: path.to_owned() })
    }
}

/// Files, name and geometry of a torrent, before its content is hashed.
#[derive(Debug)]
pub struct Plan {
    pub scan: Scan,
    pub name: Vec<u8>,
    pub geometry: Geometry,
}

/// A finished torrent.
#[derive(Debug)]
pub struct Created {
    /// The whole `.torrent`.
    pub bytes: Vec<u8>,
    pub info_hash: InfoHash,
    /// The decoded info dictionary.
    pub info: Info,
}

impl Plan {
    /// Walks the content at `path`. The file `output`, a `.torrent` that will be replaced, is skipped.
    pub fn new(path: &Path, settings: &Settings, output: Option<&Path>) -> Result<Self, CreateError> {
        let name = settings.name_for(path)?;
        let output = output.and_then(|output| fs::metadata(output).ok());
        let scan = scan(path, &settings.filters, output.as_ref())?;
        if scan.total_len == 0 {
            return Err(CreateError::NoBytes { path: path.to_owned() });
        }
        if scan.total_len > limits::CONTENT_LEN_MAX {
            return Err(CreateError::TooLong { path: path.to_owned() });
        }
        let piece_len = settings.piece_len.unwrap_or_else(|| piece_len::automatic(scan.total_len));
        let piece_count = scan.total_len.div_ceil(u64::from(piece_len.max(1)));
        let geometry = Geometry::new(piece_len, scan.files.iter().map(|file| file.identity.len))
            .filter(|geometry| geometry.piece_count() <= limits::PIECE_COUNT_MAX)
            .ok_or(CreateError::TooManyPieces { piece_len, piece_count })?;
        Ok(Self { scan, name, geometry })
    }

    /// The identities of the files, as found by the walk.
    pub fn observation(&self) -> Observation {
        Observation::of_identities(self.scan.files.iter().map(|file| file.identity).collect())
    }

    /// Hashes the content and builds the torrent. Fails if a file has changed after the walk.
    pub fn build(&self, settings: &Settings, control: Control<'_>) -> Result<Created, CreateError> {
        self.put_together(hash_pieces(self, control)?, settings)
    }

    /// [`Self::build`] that resumes an interrupted run.
    pub fn build_with(
        &self,
        settings: &Settings,
        journal: &mut HashJournal,
        control: Control<'_>,
    ) -> Result<Created, CreateError> {
        self.put_together(hash_pieces_with(self, journal, control)?, settings)
    }

    fn put_together(&self, hashes: Vec<Option<PieceHash>>, settings: &Settings) -> Result<Created, CreateError> {
        let pieces = hashes.into_iter().flatten().collect();
        self.check_unchanged()?;
        let files = if self.scan.single_file {
            DraftFiles::Single(self.scan.total_len)
        } else {
            let entry = |file: &super::scan::ScannedFile| FileEntry {
                path: file.elements.clone(),
                len: file.identity.len,
                pad: false,
                symlink: None,
            };
            DraftFiles::Many(self.scan.files.iter().map(entry).collect())
        };
        finish(self.name.clone(), &self.geometry, files, pieces, settings)
    }

    fn check_unchanged(&self) -> Result<(), ContentError> {
        self.scan.files.par_iter().try_for_each(|file| {
            let path = || file.path.clone();
            let metadata = fs::metadata(&file.path).map_err(|error| ContentError::Read { path: path(), error })?;
            let is_same = FileIdentity::from(&metadata) == file.identity;
            if is_same { Ok(()) } else { Err(ContentError::Changed { path: path() }) }
        })
    }
}

/// Builds the torrent of hashed content.
pub(super) fn finish(
    name: Vec<u8>,
    geometry: &Geometry,
    files: DraftFiles,
    pieces: Vec<PieceHash>,
    settings: &Settings,
) -> Result<Created, CreateError> {
    let attributes = settings.attributes.clone();
    let bytes = Draft { name, piece_len: geometry.piece_len(), files, pieces, attributes }.encode();
    if bytes.len() as u64 > limits::METAINFO_LEN_MAX {
        return Err(CreateError::MetainfoTooLong { len: bytes.len() as u64 });
    }
    // Decode the result as a client would, so that an invalid torrent is never written.
    let Metainfo { info_hash, info, .. } = Metainfo::decode(&bytes, &MetainfoLimits::default())?;
    Ok(Created { bytes, info_hash, info })
}

impl Content for Plan {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn wants(&self, _: PieceIndex) -> bool {
        true
    }

    fn open(&self, file_index: usize) -> Result<Source, ContentError> {
        let path = self.path(file_index);
        let (file, metadata) = open_regular(&path).map_err(|error| ContentError::Read { path: path.clone(), error })?;
        if self.scan.files.get(file_index).is_none_or(|scanned| scanned.identity != FileIdentity::from(&metadata)) {
            return Err(ContentError::Changed { path });
        }
        Ok(Source::File(file.into()))
    }

    fn path(&self, file_index: usize) -> PathBuf {
        self.scan.files.get(file_index).map(|file| file.path.clone()).unwrap_or_default()
    }
}

/// The last element of the path. A path that ends in `.` or `..` is canonicalized first.
fn name_of(path: &Path) -> Option<Vec<u8>> {
    let ends_in_dot = path.as_os_str().as_bytes().rsplit(|&byte| byte == b'/').find(|last| !last.is_empty());
    let real;
    let path = if matches!(ends_in_dot, Some(b"." | b"..")) {
        real = fs::canonicalize(path).ok()?;
        &real
    } else {
        path
    };
    path.file_name().map(|name| name.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    fn build(path: &Path, settings: &Settings) -> Result<Created, CreateError> {
        let cancel = AtomicBool::new(false);
        Plan::new(path, settings, None)?.build(settings, Control { cancel: &cancel, progress: &|_| () })
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn pieces_cross_files_and_come_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = content(5 << 20);
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), &bytes[..100_000]).unwrap();
        fs::write(root.join("b"), b"").unwrap();
        fs::write(root.join("c"), &bytes[100_000..]).unwrap();
        for piece_len in [16 << 10, 2 << 20] {
            let settings = Settings { piece_len: Some(piece_len), ..Settings::default() };
            let metainfo =
                Metainfo::decode(&build(&root, &settings).unwrap().bytes, &MetainfoLimits::default()).unwrap();
            let expected: Vec<_> = bytes.chunks(piece_len as usize).map(|piece| crate::hash::sha1(&[piece])).collect();
            assert_eq!(metainfo.info.pieces.to_vec(), expected);
            assert_eq!(metainfo.info.name, b"tree");
            assert_eq!(metainfo.info.files.len(), 3);
        }
    }

    /// Drops the file from the page cache, if its file system supports that.
    fn evict(path: &Path) {
        let file = fs::File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    #[test]
    fn hashes_are_right_for_any_files_from_memory_and_disk() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        let piece_lens = [1, 1000, 16 << 10, 48 << 10, 64 << 10, 1 << 20, 3 << 20, 9 << 20];
        for (round, piece_len) in piece_lens.into_iter().enumerate() {
            let root = dir.path().join(round.to_string());
            fs::create_dir(&root).unwrap();
            let bytes = content(rng.usize(1..(piece_len * 37).min(64 << 20)));
            let mut rest = &bytes[..];
            for name in 0.. {
                let len_max = if rng.bool() { rest.len() } else { rest.len().min(20_000) };
                let (part, tail) = rest.split_at(rng.usize(..=len_max));
                fs::write(root.join(format!("{name:09}")), part).unwrap();
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            let settings = Settings { piece_len: Some(u32::try_from(piece_len).unwrap()), ..Settings::default() };
            let plan = Plan::new(&root, &settings, None).unwrap();
            let cancel = AtomicBool::new(false);
            for from in ["memory", "disk"] {
                if from == "disk" {
                    plan.scan.files.iter().for_each(|file| evict(&file.path));
                }
                let hashes = hash_pieces(&plan, Control { cancel: &cancel, progress: &|_| () }).unwrap();
                let expected = bytes.chunks(piece_len).map(|piece| Some(crate::hash::sha1(&[piece])));
                assert!(hashes.into_iter().eq(expected), "pieces of {piece_len} bytes from {from}");
            }
        }
    }

    #[test]
    fn progress_reaches_the_total_and_cancelling_ends_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, content(3_000_000)).unwrap();
        let settings = Settings::default();
        let plan = Plan::new(&path, &settings, None).unwrap();
        let cancel = AtomicBool::new(false);
        let most = AtomicU64::new(0);
        let progress = |done| {
            most.fetch_max(done, Ordering::Relaxed);
        };
        let control = Control { cancel: &cancel, progress: &progress };
        plan.build(&settings, control).unwrap();
        assert_eq!(most.load(Ordering::Relaxed), 3_000_000);
        cancel.store(true, Ordering::Relaxed);
        assert!(matches!(plan.build(&settings, control), Err(CreateError::Content(ContentError::Cancelled))));
    }

    #[test]
    fn a_file_that_changes_after_the_walk_ends_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, content(100_000)).unwrap();
        let settings = Settings::default();
        let plan = Plan::new(&path, &settings, None).unwrap();
        let cancel = AtomicBool::new(false);
        // The length changes while the pieces are read, so only the final check can notice it.
        let grow = |_| fs::write(&path, content(200_000)).unwrap();
        let error = plan.build(&settings, Control { cancel: &cancel, progress: &grow }).unwrap_err();
        assert!(matches!(&error, CreateError::Content(ContentError::Changed { .. })), "{error}");
        fs::remove_file(&path).unwrap();
        let error = plan.build(&settings, Control { cancel: &cancel, progress: &|_| () }).unwrap_err();
        assert!(error.to_string().contains("file: No such file"), "{error}");
    }

    #[test]
    fn the_name_of_a_path_that_ends_in_dots_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("some name");
        fs::create_dir(&sub).unwrap();
        assert_eq!(name_of(&sub).unwrap(), b"some name");
        assert_eq!(name_of(&sub.join(".")).unwrap(), b"some name");
        assert_eq!(name_of(Path::new("x/some name/")).unwrap(), b"some name");
        assert_eq!(name_of(Path::new("/")), None);
    }

    #[test]
    fn content_without_files_or_bytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(build(dir.path(), &Settings::default()), Err(CreateError::NoFiles { .. })));
        fs::write(dir.path().join("empty"), b"").unwrap();
        assert!(matches!(build(dir.path(), &Settings::default()), Err(CreateError::NoBytes { .. })));
    }
}
