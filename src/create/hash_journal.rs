//! A journal of piece hashes, with which an interrupted run of long hashing can be resumed.
//!
//! A journal consists of `MAGIC` with its version, the key, and records of adjacent pieces. A record is the index of
//! its first piece and the number of pieces (32 bits, little-endian), a hash for each, and the SHA-1 of all that. The
//! key is derived from the identities of the files, so that the hashes of changed files are never found. A journal is
//! read up to its first invalid record. If its folder is unusable, nothing is recorded.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use super::observation::Observation;
use super::open::open_regular;
use super::verified_cache::forget_oldest;
use crate::base::limits::{HASH_JOURNAL_STEP_LEN, HASH_JOURNALS_MAX};
use crate::base::{Geometry, PieceHash};
use crate::hash::sha1;

/// The beginning of a journal. The last byte is the version.
const MAGIC: [u8; 16] = *b"bt-fast hashes\n\x01";
const EXTENSION: &str = "hashes";
const HASH_LEN: usize = size_of::<PieceHash>();
const HEAD_LEN: usize = MAGIC.len() + HASH_LEN;
const RECORD_HEAD_LEN: usize = 2 * size_of::<u32>();
/// Stands for a piece without a hash, as not all of its bytes exist. No content with this hash is known; a piece with
/// it would be reported as missing.
const NO_HASH: PieceHash = PieceHash([0; HASH_LEN]);

/// The journal of one torrent's content.
pub struct HashJournal {
    /// `None` if nothing is recorded.
    path: Option<PathBuf>,
    key: PieceHash,
    /// The number of content bytes covered by a record.
    step_len: u64,
    /// Open for appending after [`Self::read`].
    file: Option<File>,
}

impl HashJournal {
    /// A journal that records nothing.
    fn none() -> Self {
        Self { path: None, key: NO_HASH, step_len: u64::MAX, file: None }
    }

    /// The journal in `folder` of content whose identities were `seen` at `started`, in seconds since 1970.
    ///
    /// Records nothing for short content, which is hashed quickly, and for content that was written so shortly before
    /// `started` that a later write could have the same time stamp.
    pub fn of(folder: Option<&Path>, started: i64, seen: &Observation, geometry: &Geometry) -> Self {
        let step_len = HASH_JOURNAL_STEP_LEN;
        match folder {
            Some(folder) if geometry.total_len() > step_len && seen.is_settled(started) => {
                Self::with_step(folder, seen, geometry, step_len)
            }
            _ => Self::none(),
        }
    }

    fn with_step(folder: &Path, seen: &Observation, geometry: &Geometry, step_len: u64) -> Self {
        let lens = (0..geometry.file_count()).map(|file_index| geometry.file_len(file_index));
        let lens: Vec<u8> = [geometry.piece_len().into()].into_iter().chain(lens).flat_map(u64::to_le_bytes).collect();
        let key = sha1(&[&lens, &seen.encode()]);
        let path = Some(folder.join(format!("{key}.{EXTENSION}")));
        Self { path, key, step_len, file: None }
    }

    /// The number of pieces covered by a record.
    pub(super) fn step(&self, geometry: &Geometry) -> u32 {
        let pieces = self.step_len / u64::from(geometry.piece_len());
        u32::try_from(pieces).unwrap_or(u32::MAX).max(1)
    }

    /// Reads the recorded hashes, which start at the first piece, and opens the journal for appending.
    pub(super) fn read(&mut self, piece_count: u32) -> Vec<Option<PieceHash>> {
        let mut hashes = Vec::new();
        let Some(path) = &self.path else { return hashes };
        let good_len = match open_regular(path) {
            Ok((file, _)) => read_records(file, &self.key, piece_count, &mut hashes),
            Err(_) => 0,
        };
        match open_at(path, good_len, &self.key) {
            Ok(file) => self.file = Some(file),
            Err(error) => tracing::info!("hashing progress is not recorded: {error}"),
        }
        hashes
    }

    /// Appends a record with the hashes of the pieces from `start`.
    pub(super) fn append(&mut self, start: u32, hashes: &[Option<PieceHash>]) {
        let Some(file) = &mut self.file else { return };
        let count = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(RECORD_HEAD_LEN + (hashes.len() + 1) * HASH_LEN);
        record.extend([start, count].into_iter().flat_map(u32::to_le_bytes));
        record.extend(hashes.iter().flat_map(|hash| hash.unwrap_or(NO_HASH).0));
        let check = sha1(&[&record]);
        record.extend(check.0);
        if let Err(error) = file.write_all(&record) {
            tracing::info!("recording of hashing progress stopped: {error}");
            self.file = None;
        }
    }

    /// Removes the journal. Called when all hashes are stored elsewhere.
    pub fn remove(self) {
        if let Some(path) = self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Reads records while they are valid and adjacent. Returns the offset in the file at which they end.
fn read_records(file: File, key: &PieceHash, piece_count: u32, hashes: &mut Vec<Option<PieceHash>>) -> u64 {
    let mut reader = BufReader::new(file);
    let mut head = [0; HEAD_LEN];
    if reader.read_exact(&mut head).is_err() || head != head_of(key) {
        return 0;
    }
    let mut end = HEAD_LEN;
    while let Some(record) = read_record(&mut reader, hashes.len(), piece_count) {
        end += record.len() + HASH_LEN;
        let (kept, _) = record[RECORD_HEAD_LEN..].as_chunks();
        hashes.extend(kept.iter().map(|&hash| Some(PieceHash(hash)).filter(|hash| *hash != NO_HASH)));
    }
    end as u64
}

/// Reads the next record, and returns it without its checksum if it is valid and begins with the piece `next`.
fn read_record(reader: &mut impl Read, next: usize, piece_count: u32) -> Option<Vec<u8>> {
    let mut record = vec![0; RECORD_HEAD_LEN];
    reader.read_exact(&mut record).ok()?;
    let (numbers, _) = record.as_chunks();
    let [start, count] = *numbers else { return None };
    let (start, count) = (u32::from_le_bytes(start), u32::from_le_bytes(count));
    let follows = start as usize == next && start.checked_add(count).is_some_and(|end| end <= piece_count);
    if !follows || count == 0 {
        return None;
    }
    record.resize(RECORD_HEAD_LEN + count as usize * HASH_LEN, 0);
    reader.read_exact(&mut record[RECORD_HEAD_LEN..]).ok()?;
    let mut check = [0; HASH_LEN];
    reader.read_exact(&mut check).ok()?;
    (sha1(&[&record]).0 == check).then_some(record)
}

fn head_of(key: &PieceHash) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[MAGIC.len()..].copy_from_slice(&key.0);
    head
}

/// Opens the journal for appending after its first `good_len` bytes. Writes the header if there are none.
fn open_at(path: &Path, good_len: u64, key: &PieceHash) -> io::Result<File> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut file = File::options().create(true).append(true).open(path)?;
    file.set_len(good_len)?;
    if good_len == 0 {
        file.write_all(&head_of(key))?;
    }
    path.parent().map_or(Ok(()), |folder| forget_oldest(folder, EXTENSION, HASH_JOURNALS_MAX))?;
    Ok(file)
}

#[cfg(test)]
#[path = "hash_journal_tests.rs"]
mod tests;
