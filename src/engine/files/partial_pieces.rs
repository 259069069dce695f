//! Pieces received in part are kept next to the content: what a slow line has brought of long pieces is not sent again.
//!
//! Nothing of it is believed: a piece is verified when it is whole, as ever. While the download runs only pieces that
//! take longer than a checkpoint are kept, so a fast one writes nothing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::base::escape::printable;
use crate::base::{Geometry, InfoHash, PieceIndex, limits};
use crate::codec::parts::{Part, frame_len, read_parts, write_parts};
use crate::engine::piece::Piece;
use crate::storage::{Landed, PieceBuffer, Sidecar, Target};
use crate::swarm::Swarm;

/// What the file of parts holds.
#[derive(Debug, Default)]
struct PartialPiecesFile {
    /// There is one.
    exists: bool,
    /// Bytes of it.
    len: u64,
    /// Bytes downloaded in all when it was written.
    downloaded: u64,
    /// Pieces that were open at the checkpoint before.
    open: BTreeSet<PieceIndex>,
    /// Bytes downloaded in all at that checkpoint, and whether these were more than at the one before.
    seen: u64,
    has_grown: bool,
    /// The run is over: a checkpoint that comes late changes nothing.
    ended: bool,
}

impl PartialPiecesFile {
    /// So much has come that to write so many bytes is worth it.
    fn is_worthwhile(&self, downloaded: u64, len: u64) -> bool {
        downloaded.saturating_sub(self.downloaded) >= limits::PARTS_GROWTH_MIN.max(len / 2)
    }

    /// Whether parts alone are reason for a checkpoint: something has come since the last one, or what had come by then may have
    /// been open for long enough only now.
    fn is_due(&self, downloaded: u64) -> bool {
        self.is_worthwhile(downloaded, self.len) && (self.has_grown || downloaded > self.seen)
    }

    /// A checkpoint is made.
    fn handle_checkpoint(&mut self, downloaded: u64, open: BTreeSet<PieceIndex>) -> BTreeSet<PieceIndex> {
        self.has_grown = downloaded > self.seen;
        self.seen = downloaded;
        std::mem::replace(&mut self.open, open)
    }
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Stage {
    Running,
    Ended,
    /// It ended by a fault: what is left of the disk is for the content.
    Failed,
}

/// One torrent's file of parts. Where it can't be written or read, its pieces are fetched again.
#[derive(Debug, Default)]
pub(in crate::engine) struct PartialPieces {
    /// Locked for as long as parts are written.
    file: Mutex<PartialPiecesFile>,
}

impl PartialPieces {
    fn file(&self) -> MutexGuard<'_, PartialPiecesFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Kept::is_due`].
    pub(super) fn is_due(&self, downloaded: u64) -> bool {
        self.file.try_lock().is_ok_and(|file| file.is_due(downloaded))
    }

    /// Writes them, where that is worth it; all of them when the run has ended. May take long.
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
                .save(Sidecar::Parts, |file| write_parts(file, info_hash, geometry, &parts))
                .map(|()| file.exists = true);
            (file.len, file.downloaded) = (len, downloaded);
            saved
        } else if file.ended && std::mem::take(&mut file.exists) {
            target.remove(&[Sidecar::Parts])
        } else {
            Ok(())
        };
        if let Err(error) = done {
            info!("{error}: pieces received in part are not kept");
        }
    }

    /// Takes what an earlier run had received into memory.
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
            // One block of a whole piece is left to come: with it the piece is verified.
            let restored = (geometry.block_count(piece) as usize).saturating_sub(1);
            swarm.pieces.restore(piece, |slot: &PieceBuffer| {
                let landed = blocks.iter().take(restored).filter(|(at, bytes)| slot.land(*at, bytes) == Landed::More);
                landed.map(|&(at, _)| at).collect()
            });
        }
    }
}

fn report_unusable(target: &Target, why: &dyn std::fmt::Display) {
    let path = target.path(Sidecar::Parts);
    let path = printable(path.as_os_str().as_encoded_bytes());
    warn!("{path} is of no use: {why}: pieces received in part are fetched again");
}

/// What has come of these pieces, of the fullest first, as much as may be kept.
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

    /// Neither a download that stands still nor one that is complete makes checkpoints for ever.
    #[test]
    fn parts_are_reason_for_a_checkpoint_once_more_than_something_comes() {
        let mut file = PartialPiecesFile::default();
        let enough = limits::PARTS_GROWTH_MIN;
        assert!(!file.is_due(enough - 1) && file.is_due(enough));
        file.handle_checkpoint(enough, BTreeSet::new());
        assert!(file.is_due(enough), "what was open is to be written now");
        file.handle_checkpoint(enough, BTreeSet::new());
        assert!(!file.is_due(enough) && file.is_due(enough + 1));
        (file.downloaded, file.len) = (enough, 4 * enough);
        assert!(!file.is_due(2 * enough) && file.is_due(3 * enough));
    }
}
