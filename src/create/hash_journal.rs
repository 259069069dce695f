//! The hashes of content whose hashing takes long, kept while it goes on: a run that was interrupted is taken up again.
//!
//! A journal is `MAGIC` with its version, its key, and records that follow each other in the content: first piece, number of
//! pieces (32 bits, the lowest byte first), a hash for each, and the SHA-1 of all that. The key stands for the files as
//! they were seen, so that the hashes of files that have changed since are never found. Whatever is wrong with a journal,
//! it is as if it ended there; whatever is wrong with its folder, nothing is kept.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use super::observation::Observation;
use super::open::open_regular;
use super::verified_cache::forget_oldest;
use crate::base::limits::{HASH_JOURNAL_STEP_LEN, HASH_JOURNALS_MAX};
use crate::base::{Geometry, PieceHash};
use crate::hash::sha1;

/// Its last byte is the version.
const MAGIC: [u8; 16] = *b"bt-fast hashes\n\x01";
const EXTENSION: &str = "hashes";
const HASH_LEN: usize = size_of::<PieceHash>();
const HEAD_LEN: usize = MAGIC.len() + HASH_LEN;
const RECORD_HEAD_LEN: usize = 2 * size_of::<u32>();
/// A piece that is not wholly there. No content is known that has this hash; of such a piece it would be said that it
/// is missing.
const NO_HASH: PieceHash = PieceHash([0; HASH_LEN]);

/// Where the hashes of one content are kept until all are known.
pub struct HashJournal {
    /// `None` where nothing is kept.
    path: Option<PathBuf>,
    key: PieceHash,
    /// Content bytes of a record.
    step_len: u64,
    /// To be appended to, once it has been read.
    file: Option<File>,
}

impl HashJournal {
    /// Keeps nothing.
    fn none() -> Self {
        Self { path: None, key: NO_HASH, step_len: u64::MAX, file: None }
    }

    /// The journal in `folder` of the content that was seen at `started` (seconds since 1970). It keeps nothing of content
    /// that is hashed in no time, or was written to so shortly before that another write could look the same.
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
        let cut: Vec<u8> = [geometry.piece_len().into()].into_iter().chain(lens).flat_map(u64::to_le_bytes).collect();
        let key = sha1(&[&cut, &seen.encode()]);
        let path = Some(folder.join(format!("{key}.{EXTENSION}")));
        Self { path, key, step_len, file: None }
    }

    /// Pieces that are hashed between two records.
    pub(super) fn step(&self, geometry: &Geometry) -> u32 {
        let pieces = self.step_len / u64::from(geometry.piece_len());
        u32::try_from(pieces).unwrap_or(u32::MAX).max(1)
    }

    /// The hashes that are kept, from the first piece on. What comes after them can be appended from then on.
    pub(super) fn read(&mut self, piece_count: u32) -> Vec<Option<PieceHash>> {
        let mut hashes = Vec::new();
        let Some(path) = &self.path else { return hashes };
        let good_len = match open_regular(path) {
            Ok((file, _)) => read_records(file, &self.key, piece_count, &mut hashes),
            Err(_) => 0,
        };
        match begin_behind(path, good_len, &self.key) {
            Ok(file) => self.file = Some(file),
            Err(error) => tracing::info!("the progress of hashing is not kept: {error}"),
        }
        hashes
    }

    /// Keeps the hashes of the pieces from `start` on.
    pub(super) fn append(&mut self, start: u32, hashes: &[Option<PieceHash>]) {
        let Some(file) = &mut self.file else { return };
        let count = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(RECORD_HEAD_LEN + (hashes.len() + 1) * HASH_LEN);
        record.extend([start, count].into_iter().flat_map(u32::to_le_bytes));
        record.extend(hashes.iter().flat_map(|hash| hash.unwrap_or(NO_HASH).0));
        let check = sha1(&[&record]);
        record.extend(check.0);
        if let Err(error) = file.write_all(&record) {
            tracing::info!("the progress of hashing is kept no longer: {error}");
            self.file = None;
        }
    }

    /// All is hashed and kept elsewhere.
    pub fn remove(self) {
        if let Some(path) = self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Reads records for as long as they are whole and follow each other; returns where they end in the file.
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

/// The next record without its check, if it is right and begins with the piece `next`.
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

/// Opens the journal to append behind its first `good_len` bytes; begins it where there are none.
fn begin_behind(path: &Path, good_len: u64, key: &PieceHash) -> io::Result<File> {
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
