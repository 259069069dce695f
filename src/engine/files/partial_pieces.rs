//! Saves the blocks of incomplete pieces beside the content, so that a slow connection does not receive them again.
//!
//! The file is untrusted: a restored piece is hashed like any other. While a download runs, only pieces that take
//! longer than a checkpoint interval are saved, so a fast download writes nothing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::{info, warn};

use crate::base::escape::printable;
use crate::base::lock::lock;
use crate::base::{Geometry, InfoHash, PieceIndex, limits};
use crate::codec::parts::{Part, frame_len, read_parts, write_parts};
use crate::engine::piece::Piece;
use crate::storage::{Landed, PieceBuffer, Sidecar, Target};
use crate::swarm::Swarm;

/// The state of the partial-pieces file.
#[derive(Debug, Default)]
struct PartialPiecesFile {
    /// The file exists.
    exists: bool,
    /// The number of block bytes in it.
    len: u64,
    /// Bytes downloaded in total when it was written.
    downloaded: u64,
    /// Pieces that were open at the last checkpoint.
    open: BTreeSet<PieceIndex>,
    /// Bytes downloaded in total at the last checkpoint.
    seen: u64,
    /// More bytes were downloaded at the last checkpoint than at the one before.
    has_grown: bool,
    /// The run has ended: a late checkpoint changes nothing.
    ended: bool,
}

impl PartialPiecesFile {
    /// Enough was downloaded since the last write to justify writing `len` bytes.
    fn is_worthwhile(&self, downloaded: u64, len: u64) -> bool {
        downloaded.saturating_sub(self.downloaded) >= limits::PARTS_GROWTH_MIN.max(len / 2)
    }

    /// Whether partial pieces alone justify a checkpoint: data has arrived since the last one, or data that arrived
    /// before it may only now have been open for an interval.
    fn is_due(&self, downloaded: u64) -> bool {
        self.is_worthwhile(downloaded, self.len) && (self.has_grown || downloaded > self.seen)
    }

    /// Records a checkpoint. Returns the pieces that were open at the one before.
    fn handle_checkpoint(&mut self, downloaded: u64, open: BTreeSet<PieceIndex>) -> BTreeSet<PieceIndex> {
        self.has_grown = downloaded > self.seen;
        self.seen = downloaded;
        std::mem::replace(&mut self.open, open)
    }
}

/// The stage of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Stage {
    Running,
    Ended,
    /// Ended by a fault: the remaining disk space is left for the content.
    Failed,
}

/// One torrent's partial-pieces file. If it can't be written or read, its blocks are fetched again.
#[derive(Debug, Default)]
pub(in crate::engine) struct PartialPieces {
    /// Locked while the file is written.
    file: Mutex<PartialPiecesFile>,
}

impl PartialPieces {
    fn file(&self) -> MutexGuard<'_, PartialPiecesFile> {
        lock(&self.file)
    }

    /// See [`PartialPiecesFile::is_due`]. Returns false while the file is written.
    pub(super) fn is_due(&self, downloaded: u64) -> bool {
        self.file.try_lock().is_ok_and(|file| file.is_due(downloaded))
    }

    /// Writes the file if that is worthwhile. If the run has ended, writes all partial pieces. May take a long time.
    pub(super) fn save(&self, target: &Target, info_hash: InfoHash, swarm: &Swarm<PieceBuffer>, stage: Stage) {
        let mut file = self.file();
        if file.ended {
            return;
        }
        file.ended = stage != Stage::Running;
        let downloaded = swarm.totals.downloaded.load(Ordering::Relaxed);
        let open = swarm.pieces.open_list();
        let before = file.handle_checkpoint(downloaded, open.iter().map(|open| open.piece()).collect());
        let wanted = |open: &&Arc<Piece>| stage == Stage::Ended || before.contains(&open.piece());
        let geometry = &swarm.geometry;
        let parts = fitting(geometry, open.iter().filter(wanted));
        let len = parts.iter().map(Part::len).sum::<usize>() as u64;
        let is_worthwhile = match stage {
            Stage::Running => file.is_worthwhile(downloaded, len),
            Stage::Ended => true,
            Stage::Failed => false,
        };
        let done = if len > 0 && is_worthwhile {
            let saved = target
                .save(Sidecar::Parts, |out| write_parts(out, info_hash, geometry, &parts))
                .map(|()| file.exists = true);
            (file.len, file.downloaded) = (len, downloaded);
            saved
        } else if file.ended && std::mem::take(&mut file.exists) {
            target.remove(&[Sidecar::Parts])
        } else {
            Ok(())
        };
        if let Err(error) = done {
            info!("{error}: partial pieces are not saved");
        }
    }

    /// Restores the blocks that an earlier run had received.
    pub(super) fn restore(&self, target: &Target, info_hash: InfoHash, swarm: &Swarm<PieceBuffer>) {
        let geometry = &swarm.geometry;
        let bytes = match target.load(Sidecar::Parts, limits::PARTS_LEN_MAX) {
            Ok(None) => return,
            Ok(Some(bytes)) => bytes,
            Err(error) => return report_unusable(target, &error),
        };
        self.file().exists = true;
        let parts = match read_parts(&bytes, info_hash, geometry) {
            Ok(parts) => parts,
            Err(error) => return report_unusable(target, &error),
        };
        for Part { piece, blocks } in parts {
            // The last block of a complete piece is not restored: the piece is hashed when that block arrives.
            let restored = (geometry.block_count(piece) as usize).saturating_sub(1);
            swarm.pieces.restore(piece, |buffer: &PieceBuffer| {
                let landed = blocks.iter().take(restored).filter(|(at, bytes)| buffer.land(*at, bytes) == Landed::More);
                landed.map(|&(at, _)| at).collect()
            });
        }
    }
}

fn report_unusable(target: &Target, why: &dyn std::fmt::Display) {
    let path = target.path(Sidecar::Parts);
    let path = printable(path.as_os_str().as_encoded_bytes());
    warn!("ignoring {path}: {why}: partial pieces are fetched again");
}

/// The received blocks of these pieces, the fullest piece first, up to the length limit of the file.
fn fitting<'a>(geometry: &Geometry, open: impl Iterator<Item = &'a Arc<Piece>>) -> Vec<Part<'a>> {
    let blocks = |open: &'a Piece| {
        let all = 0..geometry.block_count(open.piece()) as usize;
        all.filter_map(|at| Some((at, open.buffer().block(at)?))).collect()
    };
    let mut parts: Vec<Part<'_>> = open.map(|open| Part { piece: open.piece(), blocks: blocks(open) }).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    let (frame, each) = frame_len(geometry);
    let mut len = frame;
    parts.retain(|part| {
        let grown = len + each + part.len();
        let fits = !part.is_empty() && grown <= limits::PARTS_LEN_MAX;
        len = if fits { grown } else { len };
        fits
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither a stalled nor a complete download makes checkpoints forever.
    #[test]
    fn idle_downloads_make_one_more_checkpoint() {
        let mut file = PartialPiecesFile::default();
        let enough = limits::PARTS_GROWTH_MIN;
        assert!(!file.is_due(enough - 1) && file.is_due(enough));
        file.handle_checkpoint(enough, BTreeSet::new());
        assert!(file.is_due(enough), "the open pieces are written at the next checkpoint");
        file.handle_checkpoint(enough, BTreeSet::new());
        assert!(!file.is_due(enough) && file.is_due(enough + 1));
        (file.downloaded, file.len) = (enough, 4 * enough);
        assert!(!file.is_due(2 * enough) && file.is_due(3 * enough));
    }
}
