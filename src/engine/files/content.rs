//! The content of one torrent on disk: which pieces may be served, and how changes of its files are handled.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::{info, warn};

use crate::base::escape::printable;
use crate::base::{BlockRef, FileIdentity, Geometry, PieceHash, PieceIndex, Time, limits};
use crate::engine::files::checkpoint::Checkpoint;
use crate::engine::files::clock::since_1970;
use crate::engine::files::io_threads::FileShare;
use crate::engine::files::readiness::ReadinessTable;
use crate::engine::files::watch::{StatSchedule, interval};
use crate::engine::files::writeback::{WriteMode, Writeback};
use crate::hash::PieceHasher;
use crate::io::SharedFile;
use crate::storage::{FileState, PieceBuffer, StorageError, Store, WritePath, dirty_len_max};
use crate::swarm::Pieces;

/// The content of one torrent on disk, shared by all threads. Methods that take the pieces of the swarm report lost
/// pieces to them.
#[derive(Debug)]
pub(in crate::engine) struct Content {
    /// The torrent's name, safe for a terminal.
    name: String,
    geometry: Arc<Geometry>,
    hashes: Box<[PieceHash]>,
    pub(in crate::engine) store: Store,
    pub(in crate::engine) readiness: ReadinessTable,
    pub(in crate::engine) writeback: Writeback,
    /// `None`: the content is not written.
    pub(in crate::engine) checkpoint: Option<Checkpoint>,
    /// The torrent's share of the file threads.
    pub(in crate::engine) file_share: FileShare,
    stat_schedule: StatSchedule,
    write_mode: WriteMode,
    loss_reports: LossReports,
    /// The first loss of an announced piece.
    loss: OnceLock<Loss>,
    is_outdated: AtomicBool,
}

/// Which part of the program warns the user about announced pieces that turn out to be wrong, missing or unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossReports {
    /// The engine, at the first piece.
    Engine,
    /// The caller, which compares the files and takes the loss from
    /// [`Contents::unreported_loss`](crate::engine::Contents::unreported_loss).
    Caller,
}

/// The loss of announced pieces, which are wrong on disk or cannot be read.
#[derive(Debug)]
enum Loss {
    /// The user knows it.
    Reported,
    /// The caller has to report this line.
    Unreported(String),
}

/// Whether the files are those of the torrent, as far as the caller has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeliness {
    Current,
    /// The files have changed, and their pieces have not all been hashed since.
    Outdated,
}

/// The parts of a [`Content`].
pub(in crate::engine) struct ContentSetup {
    pub(in crate::engine) name: String,
    pub(in crate::engine) geometry: Arc<Geometry>,
    pub(in crate::engine) hashes: Box<[PieceHash]>,
    pub(in crate::engine) store: Store,
    pub(in crate::engine) checkpoint: Option<Checkpoint>,
    pub(in crate::engine) readiness: ReadinessTable,
    pub(in crate::engine) write_mode: WriteMode,
    pub(in crate::engine) loss_reports: LossReports,
}

impl Content {
    pub(in crate::engine) fn new(setup: ContentSetup) -> Self {
        let ContentSetup { name, geometry, hashes, store, checkpoint, readiness, write_mode, loss_reports } = setup;
        let writeback = Writeback::new(dirty_len_max(), store.open_files_max());
        let stat_schedule = StatSchedule::new(store.layout().file_count());
        Self {
            name,
            geometry,
            hashes,
            store,
            readiness,
            writeback,
            checkpoint,
            file_share: FileShare::default(),
            stat_schedule,
            write_mode,
            loss_reports,
            loss: OnceLock::new(),
            is_outdated: AtomicBool::new(false),
        }
    }

    /// The hash of the torrent for this piece.
    pub(in crate::engine) fn hash_of(&self, piece: PieceIndex) -> Option<&PieceHash> {
        self.hashes.get(piece.at())
    }

    /// The range of the content that a block occupies.
    pub(in crate::engine) fn range_of(&self, block: BlockRef) -> Range<u64> {
        let start = self.geometry.offset_of(block.piece) + u64::from(block.begin);
        start..start + u64::from(block.len)
    }

    /// How to write the next verified piece. `is_read_soon`: a peer is interested.
    pub(in crate::engine) fn write_path(&self, is_read_soon: impl FnOnce() -> bool) -> WritePath {
        match self.write_mode {
            WriteMode::Buffered => WritePath::Buffered,
            WriteMode::Auto if is_read_soon() => WritePath::Buffered,
            WriteMode::Auto | WriteMode::Direct => WritePath::Direct,
        }
    }

    /// A part of a verified piece was written to this file.
    pub(in crate::engine) fn handle_file_written(&self, file_index: usize, file: &SharedFile) {
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.handle_file_written(file_index, file);
        }
    }

    /// A verified piece was written to all its files.
    pub(in crate::engine) fn handle_written(&self, pieces: &Pieces<PieceBuffer>, piece: PieceIndex) {
        self.store.handle_written(piece);
        self.readiness.handle_verified(piece);
        if let Some(checkpoint) = &self.checkpoint
            && !pieces.is_boundary(piece)
        {
            checkpoint.handle_written(piece);
        }
    }

    /// Ends writing, since no piece is missing. May block.
    pub(in crate::engine) fn handle_complete(&self) {
        self.store.end_writing(&self.on_change());
    }

    /// Hashes a piece on disk before it is served for the first time. May block.
    ///
    /// Returns false if the caller must try again: the machine lacks resources for the read, or a file of the piece
    /// changed during the read or too shortly before it.
    pub(in crate::engine) fn verify(&self, pieces: &Pieces<PieceBuffer>, piece: PieceIndex) -> bool {
        let len = usize::try_from(self.geometry.len_of(piece)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; len.min(limits::HASH_READ_LEN)];
        let mut hasher = PieceHasher::default();
        let begun = since_1970();
        let read = self.store.read_piece(piece, &mut buffer, |bytes| hasher.update(bytes), &self.on_change());
        match read {
            Ok(files) => return self.handle_hashed(pieces, piece, &hasher.finish(), &files, begun),
            Err(error) if error.is_transient() => return false,
            Err(error) => self.handle_unservable(pieces, piece, &error.to_string()),
        }
        true
    }

    /// A piece on disk has this hash. Returns false if one of its files changed after `begun` or shortly before it, so
    /// that the hash may be of other content.
    fn handle_hashed(
        &self,
        pieces: &Pieces<PieceBuffer>,
        piece: PieceIndex,
        hash: &PieceHash,
        files: &[(usize, FileIdentity)],
        begun: Duration,
    ) -> bool {
        let doubtful = begun.saturating_sub(limits::FILE_TIME_GRAIN).into()..=since_1970().into();
        let is_settled = files.iter().all(|(_, identity)| !identity.is_changed_within(doubtful.clone()));
        let is_right = self.hash_of(piece) == Some(hash);
        let is_unchanged = is_settled
            && self.store.if_unchanged(files, || {
                if is_right {
                    self.readiness.handle_verified(piece);
                }
            });
        if is_unchanged && !is_right {
            self.handle_unservable(pieces, piece, "its data does not match the torrent");
        }
        is_unchanged
    }

    /// The pieces of a file that has changed are hashed before they are served again.
    pub(in crate::engine) fn on_change(&self) -> impl Fn(usize) + '_ {
        |file_index| {
            let path = self.store.layout().path(file_index);
            let shown = printable(path.as_os_str().as_encoded_bytes());
            info!("{}: {shown} has changed: its pieces are hashed before they are served again", self.name);
            let pieces = self.geometry.pieces_of_file(file_index).filter_map(|index| self.geometry.piece(index));
            pieces.for_each(|piece| self.readiness.handle_changed(piece));
        }
    }

    /// Stops serving an announced piece that is wrong on disk or cannot be read. The user is warned about the first one
    /// only.
    pub(in crate::engine) fn handle_unservable(&self, pieces: &Pieces<PieceBuffer>, piece: PieceIndex, why: &str) {
        if !self.readiness.handle_unservable(piece) {
            return;
        }
        pieces.handle_lost(piece);
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.handle_lost(piece);
        }
        let line = format!("{}: piece {} is not served: {why}", self.name, piece.get());
        let loss = match self.loss_reports {
            LossReports::Engine => Loss::Reported,
            LossReports::Caller => Loss::Unreported(line.clone()),
        };
        if self.loss.set(loss).is_ok() && self.loss_reports == LossReports::Engine {
            warn!("{line}: run 'bt-fast verify' to list all bad pieces");
        } else {
            info!("{line}");
        }
    }

    /// Whether a piece that was announced turned out to be wrong, missing or unreadable.
    pub(in crate::engine) fn has_unservable(&self) -> bool {
        self.loss.get().is_some()
    }

    /// The user knows that pieces are not served: no warning is shown for further ones.
    pub(in crate::engine) fn handle_reported_loss(&self) {
        let _ = self.loss.set(Loss::Reported);
    }

    /// Returns the line of the first loss if the caller has to report it.
    pub(in crate::engine) fn unreported_loss(&self) -> Option<&str> {
        match self.loss.get()? {
            Loss::Reported => None,
            Loss::Unreported(line) => Some(line),
        }
    }

    pub(in crate::engine) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn set_timeliness(&self, timeliness: Timeliness) {
        self.is_outdated.store(timeliness == Timeliness::Outdated, Ordering::Relaxed);
    }

    /// The last page, as a range of the content, of the file in which a range ends; `None` if the range includes it.
    pub(in crate::engine) fn last_page_behind(&self, offset: u64, len: u64) -> Option<(u64, u64)> {
        let (file_index, page) = self.store.last_page_behind(offset, len)?;
        (!self.stat_schedule.is_lost(file_index)).then_some(page)
    }

    /// The files that must be rechecked before these blocks are sent.
    pub(in crate::engine) fn files_to_recheck(&self, blocks: &[BlockRef], now: Time) -> Vec<usize> {
        let interval = interval(now);
        let is_due = |&(file_index, has_end): &(usize, bool)| {
            let len = self.geometry.file_len(file_index);
            self.stat_schedule.take_turn(file_index, len, interval)
                || (has_end && len >= limits::FILE_CHECK_LEN_MIN && !self.stat_schedule.is_lost(file_index))
        };
        let files = blocks.iter().flat_map(|&block| self.store.files_of(block));
        let mut due: Vec<usize> = files.filter(is_due).map(|(file_index, _)| file_index).collect();
        due.dedup();
        due
    }

    /// Whether [`Self::populate`] of a range has nothing to do.
    pub(in crate::engine) fn is_known_resident(&self, offset: u64, len: u64) -> bool {
        let is_long = |file_index: usize| self.geometry.file_len(file_index) >= limits::FILE_CHECK_LEN_MIN;
        let is_there = |offset, len| self.store.is_known_resident(offset, len);
        self.store.files_in(offset, len).all(is_long)
            && is_there(offset, len)
            && self.last_page_behind(offset, len).is_none_or(|(page, page_len)| is_there(page, page_len))
    }

    /// Brings a range of the content into memory, the last page of its file first. May block on the file system.
    pub(in crate::engine) fn populate(
        &self,
        pieces: &Pieces<PieceBuffer>,
        offset: u64,
        len: u64,
    ) -> Result<(), StorageError> {
        let on_change = self.on_change();
        // Not every short file has its turn in each interval.
        let is_short = |&file_index: &usize| self.geometry.file_len(file_index) < limits::FILE_CHECK_LEN_MIN;
        let short = self.store.files_in(offset, len).filter(is_short);
        short.for_each(|file_index| self.recheck(pieces, file_index));
        if let Some((page, page_len)) = self.last_page_behind(offset, len)
            && self.store.populate(page, page_len, &on_change).is_err_and(|error| !error.is_transient())
            && let Some(span) = self.geometry.file_spans(page, page_len).next()
        {
            self.recheck(pieces, span.file_index);
        }
        self.store.populate(offset, len, &on_change)
    }

    /// Compares a file with the one that was verified: pieces beyond its new end are not served, and the pieces of a
    /// changed file are hashed again. May block on the file system.
    pub(in crate::engine) fn recheck(&self, pieces: &Pieces<PieceBuffer>, file_index: usize) {
        let geometry = &self.geometry;
        let (len, why) = match self.store.recheck(file_index, &self.on_change()) {
            Ok(FileState::Present(FileIdentity { len, .. })) => (len, "its file became shorter"),
            Ok(FileState::Gone) => (0, "its file is gone"),
            // Mapped content can still be read; if not, its read fails.
            Err(_) => return,
        };
        if len >= geometry.file_len(file_index) {
            return;
        }
        let is_truncated = |piece: &PieceIndex| {
            geometry.piece_spans(*piece).any(|span| span.file_index == file_index && span.offset + span.len > len)
        };
        let of_file = geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
        for piece in of_file.filter(is_truncated).filter(|&piece| pieces.has(piece)) {
            self.handle_unservable(pieces, piece, why);
        }
        self.stat_schedule.handle_lost(file_index);
    }
}
