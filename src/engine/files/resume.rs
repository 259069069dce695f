//! Reads the resume record of an earlier run, and decides which of its claims still hold for the files on disk.

use std::path::Path;

use crate::base::escape::printable;
use crate::base::{Bitfield, FileIdentity, PieceIndex, Rng, limits};
use crate::codec::metainfo::{FileEntry, Info, Metainfo};
use crate::codec::resume::{ResumeError, ResumeRecord};
use crate::engine::files::clock::seconds_since_1970;
use crate::storage::{Layout, Presence, Sidecar, StorageError, Target};

/// The granularity of the coarsest file system clock: a record is from the future only if it is newer than now by more.
const CLOCK_GRAIN_S: i64 = 2;

/// The result of [`recall`].
#[derive(Debug)]
pub enum Recalled {
    /// There is no record: all existing content must be hashed.
    Nothing,
    /// The record can't be used. Holds a message with the reason.
    Refused(String),
    Claimed(Claims),
}

/// The claims of a record that match the files.
#[derive(Debug)]
pub struct Claims {
    /// Pieces of files that are exactly as the record says.
    pub have: Bitfield,
    /// A sample of `have`, to be hashed before the rest is trusted.
    pub samples: Bitfield,
    /// Pieces outside `have` that must be hashed: those of files that differ from the record, and those that may have
    /// been written after it.
    pub unknown: Bitfield,
    /// By file: the run of the record has created it or written to it.
    pub known_files: Vec<bool>,
    /// A message about files that another program has changed.
    pub warning: Option<String>,
}

/// Pieces that were on disk before a download.
#[derive(Debug)]
pub struct Earlier {
    /// Pieces that were hashed, or that a record claims.
    pub pieces: Bitfield,
    /// Those that only a record claims: they were not hashed.
    pub unhashed: Bitfield,
    /// The identity of each file before any of it was hashed or trusted; the default if it did not exist with its full
    /// length.
    pub files: Vec<FileIdentity>,
}

impl Earlier {
    /// Observes the files. No piece is known yet.
    pub fn observe(layout: &Layout, info: &Info) -> Self {
        let observe = |(file_index, file): (usize, &FileEntry)| {
            let found = layout.identity(file_index).ok().filter(|found| !file.pad && found.len == file.len);
            found.unwrap_or_default()
        };
        Self {
            pieces: Bitfield::new(info.geometry.piece_count()),
            unhashed: Bitfield::new(info.geometry.piece_count()),
            files: info.files.iter().enumerate().map(observe).collect(),
        }
    }
}

/// Why a record is not used.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("can't read: {0}")]
    Read(std::io::Error),
    #[error(transparent)]
    Record(#[from] ResumeError),
    #[error("it is from the future")]
    Future,
    #[error("it claims pieces of {0}, which it left out")]
    Deselected(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads the record beside the content in `folder`, and compares it with the files.
pub fn recall(target: &Target, metainfo: &Metainfo, folder: &Path, rng: &mut Rng) -> Recalled {
    let info = &metainfo.info;
    let file_count = info.files.iter().filter(|file| !file.pad).count();
    let piece_count = info.geometry.piece_count();
    let record = match target.load(Sidecar::Record, ResumeRecord::encoded_len(file_count, piece_count as usize)) {
        Ok(None) => return Recalled::Nothing,
        Ok(Some(bytes)) => {
            ResumeRecord::decode(&bytes, metainfo.info_hash, file_count, piece_count).map_err(Refusal::from)
        }
        Err(error) => Err(Refusal::Read(error)),
    };
    match record.and_then(|record| claims(record, metainfo, folder, seconds_since_1970(), rng)) {
        Ok(claims) => Recalled::Claimed(claims),
        Err(refusal) => {
            let path = target.path(Sidecar::Record);
            let path = printable(path.as_os_str().as_encoded_bytes());
            Recalled::Refused(format!("ignoring {path}: {refusal}: checking all existing content"))
        }
    }
}

fn claims(
    record: ResumeRecord,
    metainfo: &Metainfo,
    folder: &Path,
    now: i64,
    rng: &mut Rng,
) -> Result<Claims, Refusal> {
    let info = &metainfo.info;
    if record.written_at > now.saturating_add(CLOCK_GRAIN_S) {
        return Err(Refusal::Future);
    }
    let layout = Layout::open(folder, info.files.iter().map(|file| file.path.clone()))?;
    let file_indices: Vec<usize> = (0..info.files.len()).filter(|&at| !info.files[at].pad).collect();
    let mut have = record.have.clone();
    let mut unknown = Bitfield::new(info.geometry.piece_count());
    let mut known_files = vec![false; info.files.len()];
    let mut warning = None;
    for (&file_index, expected) in file_indices.iter().zip(&record.files) {
        let shown = || printable(layout.path(file_index).as_os_str().as_encoded_bytes());
        let pieces = info.geometry.pieces_of_file(file_index).filter_map(|index| info.geometry.piece(index));
        if *expected == FileIdentity::default() {
            // The run of the record left the file out, so its content was written since.
            if pieces.clone().any(|piece| record.have.contains(piece)) {
                return Err(Refusal::Deselected(shown()));
            }
            if layout.presence(file_index)? != Presence::Absent {
                pieces.for_each(|piece| _ = unknown.insert(piece));
            }
            continue;
        }
        let found = match layout.identity(file_index) {
            Ok(found) => Some(found),
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error.into()),
        };
        let is_same = found.is_some_and(|found| found.is_same_file(expected));
        known_files[file_index] = is_same;
        if found == Some(*expected) {
            continue;
        }
        // A run that was killed may have written to incomplete files after its record.
        let is_whole = pieces.clone().all(|piece| record.have.contains(piece));
        if (!is_same || record.ended || is_whole) && warning.is_none() {
            warning = Some(format!("{} has changed since the last run: checking all of it", shown()));
        }
        for piece in pieces {
            have.remove(piece);
            unknown.insert(piece);
        }
    }
    let unclaimed = info.geometry.pieces().filter(|&piece| !record.ended && !record.have.contains(piece));
    unclaimed.for_each(|piece| {
        unknown.insert(piece);
    });
    let samples = samples(&have, metainfo, &file_indices, rng);
    Ok(Claims { have, samples, unknown, known_files, warning })
}

/// Picks claimed pieces of as many files as possible, and then any.
fn samples(have: &Bitfield, metainfo: &Metainfo, file_indices: &[usize], rng: &mut Rng) -> Bitfield {
    let geometry = &metainfo.info.geometry;
    let fitting = (limits::RESUME_SAMPLE_LEN / u64::from(geometry.piece_len())).max(1);
    let count_max = usize::try_from(fitting).unwrap_or(usize::MAX).min(limits::RESUME_SAMPLES_MAX);
    let mut samples = Bitfield::new(geometry.piece_count());
    let add = |samples: &mut Bitfield, piece: Option<PieceIndex>| {
        if let Some(piece) = piece.filter(|_| samples.count() < count_max) {
            samples.insert(piece);
        }
    };
    let claimed: Vec<usize> = have.iter().collect();
    let piece = |index: usize| geometry.piece(u32::try_from(index).ok()?);
    for _ in 0..count_max / 2 {
        let Some(&file_index) = rng.choice(file_indices) else { break };
        let pieces = geometry.pieces_of_file(file_index);
        let first = claimed.partition_point(|&index| index < pieces.start as usize);
        let end = claimed.partition_point(|&index| index < pieces.end as usize);
        let one = rng.choice(claimed.get(first..end).unwrap_or_default());
        add(&mut samples, one.and_then(|&index| piece(index)));
    }
    for index in rng.choose_multiple(claimed, count_max) {
        add(&mut samples, piece(index));
    }
    samples
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
