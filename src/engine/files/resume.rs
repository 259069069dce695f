//! What the record of an earlier run still says of the files that are there now.

use std::path::Path;

use crate::base::escape::printable;
use crate::base::{Bitfield, FileIdentity, PieceIndex, Rng, limits};
use crate::codec::metainfo::{FileEntry, Info, Metainfo};
use crate::codec::resume::{ResumeError, ResumeRecord};
use crate::engine::files::clock::seconds_since_1970;
use crate::storage::{Layout, Presence, Sidecar, StorageError, Target};

/// Clocks of file systems are this coarse at worst: what looks so much newer than now is not from the future.
const CLOCK_GRAIN_S: i64 = 2;

/// What is known before anything is hashed.
#[derive(Debug)]
pub enum Recalled {
    /// There is no record: everything has to be checked.
    Nothing,
    /// Nor can this one be used; a line that says why.
    Refused(String),
    Claimed(Claims),
}

/// What a record claims that fits the files.
#[derive(Debug)]
pub struct Claims {
    /// Pieces of files that are exactly as the record says.
    pub have: Bitfield,
    /// Some of `have`, to be hashed before the others are believed.
    pub samples: Bitfield,
    /// Pieces outside `have` that have to be hashed: of files that are not as the record says, and those that may have
    /// been written after it.
    pub unknown: Bitfield,
    /// By file: the record's run has made it or written to it.
    pub known_files: Vec<bool>,
    /// A line about files that another program has changed.
    pub warning: Option<String>,
}

/// What was there before a download, and was not fetched by it.
#[derive(Debug)]
pub struct Earlier {
    /// Pieces that are right, or that a record says are.
    pub pieces: Bitfield,
    /// Those of them that a record vouches for alone: they were not hashed.
    pub unhashed: Bitfield,
    /// Each file before anything of it was hashed or believed; the default where it was not there with its full length.
    pub files: Vec<FileIdentity>,
}

impl Earlier {
    /// Looks at the files; no piece is known yet.
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
    #[error("{0} was left out, and is claimed")]
    LeftOut(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Looks at the record next to the content in `folder`.
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
            let place = printable(path.as_os_str().as_encoded_bytes());
            Recalled::Refused(format!("{place} is of no use: {refusal}: all that is there is checked"))
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
            // That run left it out. What it holds now was put there since.
            if pieces.clone().any(|piece| record.have.contains(piece)) {
                return Err(Refusal::LeftOut(shown()));
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
        // A run that did not end has gone on with files that lacked pieces.
        let is_whole = pieces.clone().all(|piece| record.have.contains(piece));
        if (!is_same || record.ended || is_whole) && warning.is_none() {
            warning = Some(format!("{} is not as the run before left it: all of it is checked", shown()));
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

/// Claimed pieces of as many files as possible, and then any.
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
