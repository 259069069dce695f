//! What a download has is written down once it is on the disk: sync the files, then replace the record.
//!
//! A piece is claimed by the record only after everything written before it was synced. What was received of other pieces
//! is beside it, see `partial_pieces`.
#![allow(clippy::disallowed_methods, reason = "the pause after a record is as long as it took")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{Bitfield, FileIdentity, FileTime, Geometry, InfoHash, PieceIndex, limits};
use crate::codec::resume::ResumeRecord;
use crate::engine::files::clock::{file_time, seconds_since_1970};
use crate::engine::files::partial_pieces::{PartialPieces, Stage};
use crate::engine::files::resume::Earlier;
use crate::storage::{Action, PieceBuffer, Sidecar, StorageError, Store, Target, Unsynced};
use crate::swarm::Swarm;
use crate::uring::SharedFile;

/// One torrent's way to its record.
#[derive(Debug)]
pub(in crate::engine) struct Checkpoint {
    pub(in crate::engine) target: Target,
    info_hash: InfoHash,
    /// What was there before this run; `None`: nothing.
    earlier: Option<Earlier>,
    written: Mutex<Written>,
    /// Locked for as long as a checkpoint takes.
    saved: Mutex<Saved>,
    parts: PartialPieces,
    /// The thread of the last checkpoint.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Since the last checkpoint was begun.
#[derive(Debug)]
struct Written {
    /// In the order in which it happened: the piece is had, or no longer.
    changes: Vec<(PieceIndex, bool)>,
    files: Unsynced,
    /// By file, since the start: when our last write to it had ended.
    own_writes: BTreeMap<usize, FileTime>,
    /// A sync has failed: it may have been told of writes that came after it began, and no later one is.
    sync_failed: bool,
}

/// What the record says, or will say next.
#[derive(Debug)]
struct Saved {
    have: Bitfield,
    /// By file, as it is if it was changed by our own writes alone; of a pad file, or one left out, there is nothing to know.
    files: Vec<FileIdentity>,
    next_at: Instant,
}

impl Checkpoint {
    /// The torrent's files are there, and `have` of it was found right.
    pub(in crate::engine) fn new(
        target: Target,
        info_hash: InfoHash,
        store: &Store,
        have: &Bitfield,
        earlier: Option<Earlier>,
    ) -> Result<Self, StorageError> {
        // What an earlier run has written may not be on the disk yet.
        let files = if have.is_empty() { Unsynced::default() } else { Unsynced::all(store) };
        let before = earlier.as_ref().map_or(&[][..], |earlier| &earlier.files);
        let mut identities = vec![FileIdentity::default(); store.layout().file_count()];
        for file_index in store.file_indices() {
            // One that was just made or extended is ours from now on.
            let before = before.get(file_index).filter(|&&before| before != FileIdentity::default());
            identities[file_index] =
                before.map_or_else(|| store.layout().identity(file_index), |&before| Ok(before))?;
        }
        let next_at = Instant::now() + if have.is_empty() { limits::CHECKPOINT_INTERVAL_MIN } else { Duration::ZERO };
        let checkpoint = Self {
            target,
            info_hash,
            earlier,
            written: Mutex::new(Written {
                changes: Vec::new(),
                files,
                own_writes: BTreeMap::new(),
                sync_failed: false,
            }),
            saved: Mutex::new(Saved { have: have.clone(), files: identities, next_at }),
            parts: PartialPieces::default(),
            thread: Mutex::default(),
        };
        if have.is_empty() {
            // From now on the files are known to be ours, also where this run is killed.
            checkpoint.save(&checkpoint.saved(), store, false)?;
        }
        Ok(checkpoint)
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write to this file has ended. Told of each file of a piece before the piece is.
    pub(in crate::engine) fn handle_file_written(&self, file_index: usize, file: &SharedFile) {
        let mut written = self.written();
        written.files.handle_written(file_index, file);
        written.own_writes.insert(file_index, file_time());
    }

    /// Space was reserved for this file, which changes its times.
    pub(in crate::engine) fn handle_reserved(&self, file_index: usize) {
        self.written().own_writes.insert(file_index, file_time());
    }

    /// All of a piece is in its files.
    pub(in crate::engine) fn handle_written(&self, piece: PieceIndex) {
        self.written().changes.push((piece, true));
    }

    /// A piece that was had is not right on disk.
    pub(in crate::engine) fn handle_lost(&self, piece: PieceIndex) {
        self.written().changes.push((piece, false));
    }

    /// Whether it is time for one; so many bytes are downloaded in all.
    pub(in crate::engine) fn is_due(&self, downloaded: u64) -> bool {
        let written = self.written();
        let anything = !written.files.is_empty() || !written.changes.is_empty() || self.parts.is_due(downloaded);
        anything && self.saved.try_lock().is_ok_and(|saved| Instant::now() >= saved.next_at)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::engine) fn is_running(&self) -> bool {
        self.thread().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// One runs on this thread, unless it could not be started.
    pub(in crate::engine) fn handle_begun(&self, thread: Option<JoinHandle<()>>) {
        *self.thread() = thread;
    }

    /// See [`PartialPieces::save`].
    pub(in crate::engine) fn save_parts(&self, swarm: &Swarm<PieceBuffer>, stage: Stage) {
        self.parts.save(&self.target, self.info_hash, swarm, stage);
    }

    /// See [`PartialPieces::restore`].
    pub(in crate::engine) fn restore_parts(&self, swarm: &Swarm<PieceBuffer>) {
        self.parts.restore(&self.target, self.info_hash, swarm);
    }

    /// Waits for the checkpoint that was begun last. One that panicked has lost account of what was to be synced.
    pub(in crate::engine) fn join_thread(&self) -> Result<(), StorageError> {
        let thread = self.thread().take();
        match thread.map(JoinHandle::join) {
            Some(Err(_)) => {
                let error = std::io::Error::other("a checkpoint panicked: run the same command again");
                Err(StorageError::new(Action::Sync, self.target.path(Sidecar::Record), error))
            }
            _ => Ok(()),
        }
    }

    /// Syncs what was written and replaces the record, or removes it when nothing is missing. May take long.
    ///
    /// `ended`: nothing is written from now on. After an error nothing is claimed that was not claimed before.
    pub(in crate::engine) fn run(&self, store: &Store, ended: bool) -> Result<(), StorageError> {
        let mut saved = self.saved();
        let begun = Instant::now();
        let (changes, files, claimable) = {
            let mut written = self.written();
            let claimable = !written.sync_failed;
            // Until the sync has succeeded: it may also panic.
            written.sync_failed = true;
            (std::mem::take(&mut written.changes), std::mem::take(&mut written.files), claimable)
        };
        // Whatever becomes of the sync.
        let lost = changes.iter().filter(|(_, had)| !had);
        lost.for_each(|&(piece, _)| _ = saved.have.remove(piece));
        store.sync(&files, ended)?;
        self.written().sync_failed = !claimable;
        for file_index in files.iter() {
            let found = store.layout().identity(file_index)?;
            let own_write = self.written().own_writes.get(&file_index).copied();
            // While writes are under way their times can't be told from those of other programs.
            let is_ours = own_write.is_some_and(|own| !ended || found.is_unwritten_since(own));
            match saved.files.get_mut(file_index) {
                Some(before) if before.is_same_file(&found) => *before = if is_ours { found } else { *before },
                _ => {
                    let error =
                        std::io::Error::other("another program has replaced or cut it: run the same command again");
                    return Err(StorageError::new(Action::Write, store.layout().path(file_index), error));
                }
            }
        }
        for (piece, had) in changes {
            let _ = if had { claimable && saved.have.insert(piece) } else { saved.have.remove(piece) };
        }
        if saved.have.is_full() {
            self.target.remove(&Sidecar::ALL)?;
        } else {
            self.save(&saved, store, ended)?;
        }
        let pause = begun.elapsed() * limits::CHECKPOINT_PAUSE_RATIO;
        saved.next_at = Instant::now() + pause.clamp(limits::CHECKPOINT_INTERVAL_MIN, limits::CHECKPOINT_INTERVAL_MAX);
        Ok(())
    }

    fn save(&self, saved: &Saved, store: &Store, ended: bool) -> Result<(), StorageError> {
        let record = ResumeRecord {
            info_hash: self.info_hash,
            ended,
            written_at: seconds_since_1970(),
            files: store.listed().filter_map(|file_index| saved.files.get(file_index).copied()).collect(),
            have: saved.have.clone(),
        };
        self.target.save(Sidecar::Record, |file| file.write_all(&record.encode()))
    }

    /// Pieces that were there before and have to be hashed: those of files that another program has changed since and, since a
    /// write between two of ours can't be told from them, unhashed ones of every file that was written to. Asked once nothing is
    /// written any more and [`Self::run`] has ended.
    pub(in crate::engine) fn doubtful(&self, store: &Store, geometry: &Geometry) -> Bitfield {
        let saved = self.saved();
        let mut doubtful = Bitfield::new(geometry.piece_count());
        let Some(earlier) = self.earlier.as_ref().filter(|earlier| !earlier.pieces.is_empty()) else { return doubtful };
        for file_index in store.file_indices() {
            let found = store.layout().identity(file_index).ok();
            let is_ours = found.is_some() && found.as_ref() == saved.files.get(file_index);
            let is_untouched = found.is_some() && found.as_ref() == earlier.files.get(file_index);
            let doubted = match (is_ours, is_untouched) {
                (false, _) => &earlier.pieces,
                (true, false) => &earlier.unhashed,
                (true, true) => continue,
            };
            let pieces = geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
            pieces.filter(|&piece| doubted.contains(piece)).for_each(|piece| _ = doubtful.insert(piece));
        }
        doubtful
    }

    /// Removes the record and the file of parts: the selected files are complete. A later run that wants other files of the
    /// torrent hashes what it finds.
    pub(in crate::engine) fn remove_sidecars(&self) -> Result<(), StorageError> {
        self.target.remove(&Sidecar::ALL)
    }

    /// Nothing is written any more: others may.
    pub(in crate::engine) fn release(&self) {
        self.target.release();
    }
}
