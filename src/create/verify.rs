//! Verifies content on disk against its metainfo.
//!
//! Only reads. File lengths show which content is missing; every piece whose bytes all exist is hashed.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rayon::prelude::*;

use super::error::ContentError;
use super::hash_journal::HashJournal;
use super::observation::Observation;
use super::open::{Kind, open_regular};
use super::pieces::{hash_pieces, hash_pieces_with};
use super::sweep::{Content, Control, Source};
use crate::base::lock::lock;
use crate::base::{Bitfield, FileIdentity, FileSpan, Geometry, PieceHash, PieceIndex};
use crate::codec::metainfo::{FileEntry, Info};

/// The result of [`verify`].
#[derive(Debug)]
pub struct Report {
    /// The pieces with the right hash.
    pub have: Bitfield,
    /// Total length of the hashed pieces, in bytes.
    pub hashed_len: u64,
    /// The problems in the order of the torrent's files. A file may have two.
    pub problems: Vec<FileProblem>,
    /// The identity of each file; `None` if it changed while it was hashed, or if it has content of which no byte was
    /// hashed.
    pub files: Vec<Option<FileIdentity>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileProblem {
    /// Position in the torrent's file list.
    pub file_index: usize,
    pub problem: Problem,
}

/// A mismatch between one file and the torrent. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    Missing,
    /// The path exists but is not a regular file.
    NotAFile(Kind),
    /// The file is too short.
    Short {
        found_len: u64,
    },
    /// The file is too long.
    Long {
        found_len: u64,
    },
    /// `piece_count` pieces that contain bytes of the file have the wrong hash.
    Altered {
        piece_count: u32,
    },
}

impl Report {
    /// The report of content that is known to be right and needs no hashing.
    pub fn all_right(info: &Info) -> Self {
        let files = vec![None; info.files.len()];
        Self { have: Bitfield::full(info.geometry.piece_count()), hashed_len: 0, problems: Vec::new(), files }
    }

    /// Whether all pieces are right and no file has a problem.
    pub fn is_match(&self) -> bool {
        self.have.is_full() && self.problems.is_empty()
    }

    /// The identities of the hashed files of `info`, or `None` if one of them changed while it was hashed.
    pub fn observation(&self, info: &Info) -> Option<Observation> {
        let files = info.files.iter().zip(&self.files).filter(|(file, _)| !file.pad);
        files.map(|(_, identity)| *identity).collect::<Option<_>>().map(Observation::of_identities)
    }

    /// The pieces that are missing or wrong, as ascending ranges of indices.
    pub fn bad_ranges(&self, geometry: &Geometry) -> Vec<RangeInclusive<u32>> {
        let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
        for piece in geometry.pieces().filter(|&piece| !self.have.contains(piece)) {
            let index = piece.get();
            match ranges.last_mut() {
                Some(range) if range.end() + 1 == index => *range = *range.start()..=index,
                _ => ranges.push(index..=index),
            }
        }
        ranges
    }
}

/// Checks the content in `dir`, the folder that contains the torrent's file or folder.
///
/// If `only` is given, checks just these pieces. A missing or wrong file is reported as a problem; a file that cannot
/// be read is an error.
pub fn verify(info: &Info, dir: &Path, only: Option<&Bitfield>, control: Control<'_>) -> Result<Report, ContentError> {
    let (found, problems) = check_lengths(info, dir)?;
    let check = Check { info, dir, found, only, hashed: Mutex::new(vec![Hashed::Nothing; info.files.len()]) };
    let hashes = hash_pieces(&check, control)?;
    Ok(report(&check, hashes, problems))
}

/// [`verify`] of all pieces that resumes an interrupted run. `seen` are the files whose hashes the journal contains.
pub fn verify_with(
    info: &Info,
    dir: &Path,
    seen: &Observation,
    journal: &mut HashJournal,
    control: Control<'_>,
) -> Result<Report, ContentError> {
    let (found, problems) = check_lengths(info, dir)?;
    // These were the identities of the files when the pieces in the journal were hashed.
    let hashed = seen.by_file(info).iter().map(|file| file.map_or(Hashed::Nothing, Hashed::File)).collect();
    let check = Check { info, dir, found, only: None, hashed: Mutex::new(hashed) };
    let hashes = hash_pieces_with(&check, journal, control)?;
    Ok(report(&check, hashes, problems))
}

fn report(check: &Check<'_>, hashes: Vec<Option<PieceHash>>, mut problems: Vec<FileProblem>) -> Report {
    let info = check.info;
    let mut have = Bitfield::new(info.geometry.piece_count());
    let (mut hashed_len, mut altered) = (0, vec![0u32; info.files.len()]);
    for ((piece, hash), expected) in info.geometry.pieces().zip(hashes).zip(&info.pieces) {
        hashed_len += hash.map_or(0, |_| u64::from(info.geometry.len_of(piece)));
        if hash == Some(*expected) {
            have.insert(piece);
        } else if hash.is_some() {
            for span in info.geometry.piece_spans(piece) {
                altered[span.file_index] += 1;
            }
        }
    }
    for ((file_index, &piece_count), file) in altered.iter().enumerate().zip(&info.files) {
        if piece_count > 0 && !file.pad {
            problems.push(FileProblem { file_index, problem: Problem::Altered { piece_count } });
        }
    }
    problems.sort_by_key(|problem| problem.file_index);
    Report { have, hashed_len, problems, files: check.unchanged_files() }
}

/// The current identities of the files of `info` in `dir`, or `None` if a path is not a regular file.
pub fn observe(info: &Info, dir: &Path) -> Option<Observation> {
    let files = info.files.iter().filter(|file| !file.pad);
    Observation::of(&files.map(|file| file_path(dir, file)).collect::<Vec<_>>())
}

/// The path of a file of a torrent in the data folder `dir`.
pub fn file_path(dir: &Path, file: &FileEntry) -> PathBuf {
    let mut path = dir.to_owned();
    path.extend(file.path.iter().map(|element| OsStr::from_bytes(element)));
    path
}

/// Returns the number of bytes that exist of each file, at most its length in the torrent, and the problems that the
/// lengths show.
fn check_lengths(info: &Info, dir: &Path) -> Result<(Vec<u64>, Vec<FileProblem>), ContentError> {
    let mut found = Vec::with_capacity(info.files.len());
    let mut problems = Vec::new();
    for (file_index, file) in info.files.iter().enumerate() {
        if file.pad {
            found.push(file.len);
            continue;
        }
        let (found_len, problem) = match fs::metadata(file_path(dir, file)) {
            Ok(metadata) => match Kind::from(metadata.file_type()) {
                Kind::File if metadata.len() < file.len => {
                    (metadata.len(), Some(Problem::Short { found_len: metadata.len() }))
                }
                Kind::File if metadata.len() > file.len => {
                    (file.len, Some(Problem::Long { found_len: metadata.len() }))
                }
                Kind::File => (file.len, None),
                kind => (0, Some(Problem::NotAFile(kind))),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                (0, Some(Problem::Missing))
            }
            Err(error) => return Err(ContentError::Read { path: file_path(dir, file), error }),
        };
        found.push(found_len);
        problems.extend(problem.map(|problem| FileProblem { file_index, problem }));
    }
    Ok((found, problems))
}

struct Check<'a> {
    info: &'a Info,
    dir: &'a Path,
    /// The number of bytes that exist of each file, at most its length in the torrent.
    found: Vec<u64>,
    only: Option<&'a Bitfield>,
    /// The state of each file.
    hashed: Mutex<Vec<Hashed>>,
}

/// The file that was opened to be hashed under one path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hashed {
    Nothing,
    File(FileIdentity),
    /// Different files, or one that was written to.
    Several,
}

impl Check<'_> {
    fn hashed(&self) -> MutexGuard<'_, Vec<Hashed>> {
        lock(&self.hashed)
    }

    fn handle_opened(&self, file_index: usize, identity: FileIdentity) {
        if let Some(hashed) = self.hashed().get_mut(file_index) {
            let same = matches!(*hashed, Hashed::Nothing) || *hashed == Hashed::File(identity);
            *hashed = if same { Hashed::File(identity) } else { Hashed::Several };
        }
    }

    /// The identities of the files that have not changed after they were opened to be hashed. An empty file is never
    /// opened, so its current identity counts.
    fn unchanged_files(&self) -> Vec<Option<FileIdentity>> {
        let now = |file: &FileEntry| {
            let metadata = fs::metadata(file_path(self.dir, file)).ok().filter(Metadata::is_file)?;
            Some(FileIdentity::from(&metadata))
        };
        let hashed = self.hashed();
        let files = self.info.files.par_iter().zip(&hashed[..]);
        let unchanged = files.map(|(file, hashed)| match *hashed {
            Hashed::Nothing if file.len == 0 && !file.pad => now(file),
            Hashed::File(identity) => now(file).filter(|now| *now == identity),
            Hashed::Nothing | Hashed::Several => None,
        });
        unchanged.collect()
    }
}

impl Content for Check<'_> {
    fn geometry(&self) -> &Geometry {
        &self.info.geometry
    }

    /// Whether all bytes of the piece exist, and it is selected.
    fn wants(&self, piece: PieceIndex) -> bool {
        let exists =
            |span: FileSpan| self.found.get(span.file_index).is_some_and(|&found| span.offset + span.len <= found);
        self.only.is_none_or(|only| only.contains(piece)) && self.info.geometry.piece_spans(piece).all(exists)
    }

    fn open(&self, file_index: usize) -> Result<Source, ContentError> {
        if self.info.files.get(file_index).is_none_or(|file| file.pad) {
            return Ok(Source::Zeros);
        }
        let path = self.path(file_index);
        match open_regular(&path) {
            Ok((file, metadata)) => {
                self.handle_opened(file_index, FileIdentity::from(&metadata));
                Ok(Source::File(file.into()))
            }
            Err(error) => Err(ContentError::Read { path, error }),
        }
    }

    fn path(&self, file_index: usize) -> PathBuf {
        self.info.files.get(file_index).map(|file| file_path(self.dir, file)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha1;
    use std::sync::atomic::AtomicBool;

    const PIECE_LEN: u32 = 16 << 10;

    /// Three files, `a` and `c` on disk and a pad file between them; `a` ends inside the second piece.
    fn info_on_disk(dir: &Path) -> Info {
        let bytes: Vec<u8> = (0..100_000u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let (first, second) = bytes.split_at(20_000);
        let pad_len = 2 * PIECE_LEN as usize - first.len();
        fs::create_dir(dir.join("t")).unwrap();
        fs::write(dir.join("t/a"), first).unwrap();
        fs::write(dir.join("t/c"), second).unwrap();
        let content = [first, &vec![0; pad_len], second].concat();
        let pieces: Vec<PieceHash> = content.chunks(PIECE_LEN as usize).map(|piece| sha1(&[piece])).collect();
        let file = |name: &[u8], len: usize, pad| FileEntry {
            path: vec![b"t".to_vec(), name.to_vec()],
            len: len as u64,
            pad,
            symlink: None,
        };
        let files = vec![file(b"a", first.len(), false), file(b".pad", pad_len, true), file(b"c", second.len(), false)];
        Info {
            name: b"t".to_vec(),
            geometry: Geometry::new(PIECE_LEN, files.iter().map(|file| file.len)).unwrap(),
            pieces: pieces.into(),
            files,
            single_file: false,
            private: false,
            source: None,
        }
    }

    fn check(info: &Info, dir: &Path) -> Report {
        let cancel = AtomicBool::new(false);
        verify(info, dir, None, Control { cancel: &cancel, progress: &|_| () }).unwrap()
    }

    fn problem(file_index: usize, problem: Problem) -> FileProblem {
        FileProblem { file_index, problem }
    }

    #[test]
    fn right_content_matches_with_pad_files_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let info = info_on_disk(dir.path());
        let report = check(&info, dir.path());
        assert!(report.is_match(), "{report:?}");
        assert_eq!(report.bad_ranges(&info.geometry), []);
    }

    #[test]
    fn each_problem_is_reported_for_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let info = info_on_disk(dir.path());
        let c = dir.path().join("t/c");
        let mut bytes = fs::read(&c).unwrap();
        bytes[PIECE_LEN as usize] ^= 1;
        bytes.truncate(79_000);
        fs::write(&c, &bytes).unwrap();
        let report = check(&info, dir.path());
        assert_eq!(
            report.problems,
            [problem(2, Problem::Short { found_len: 79_000 }), problem(2, Problem::Altered { piece_count: 1 })]
        );
        assert_eq!(report.bad_ranges(&info.geometry), [3..=3, 6..=6]);

        fs::remove_file(&c).unwrap();
        fs::write(dir.path().join("t/a"), [0; 30_000]).unwrap();
        let report = check(&info, dir.path());
        assert_eq!(
            report.problems,
            [
                problem(0, Problem::Long { found_len: 30_000 }),
                problem(0, Problem::Altered { piece_count: 2 }),
                problem(2, Problem::Missing)
            ]
        );
        assert_eq!(report.bad_ranges(&info.geometry), [0..=6]);
        assert!(report.have.is_empty());
        assert_eq!(report.hashed_len, 2 * u64::from(PIECE_LEN));

        fs::create_dir(&c).unwrap();
        assert_eq!(check(&info, dir.path()).problems[2], problem(2, Problem::NotAFile(Kind::Folder)));
    }

    #[test]
    fn a_file_that_is_too_long_is_no_match() {
        let dir = tempfile::tempdir().unwrap();
        let info = info_on_disk(dir.path());
        let a = dir.path().join("t/a");
        let mut bytes = fs::read(&a).unwrap();
        bytes.push(0);
        fs::write(&a, bytes).unwrap();
        let report = check(&info, dir.path());
        assert!(report.have.is_full() && !report.is_match());
        assert_eq!(report.problems, [problem(0, Problem::Long { found_len: 20_001 })]);
    }
}
