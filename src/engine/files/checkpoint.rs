//! Checkpoints of a download: sync the files, then replace the resume record.
//!
//! The record claims a piece only after every write before it was synced. The blocks of incomplete pieces are saved by
//! `partial_pieces`.
#![allow(clippy::disallowed_methods, reason = "the pause after a checkpoint depends on its duration")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::lock::lock;
use crate::base::{Bitfield, FileIdentity, FileTime, Geometry, InfoHash, PieceIndex, limits};
use crate::codec::resume::ResumeRecord;
use crate::engine::files::clock::{file_time, seconds_since_1970};
use crate::engine::files::partial_pieces::{PartialPieces, Stage};
use crate::engine::files::resume::Earlier;
use crate::io::SharedFile;
use crate::storage::{Action, PieceBuffer, Sidecar, StorageError, Store, Target, Unsynced};
use crate::swarm::Swarm;

/// Writes the resume record of one torrent.
#[derive(Debug)]
pub(in crate::engine) struct Checkpoint {
    pub(in crate::engine) target: Target,
    info_hash: InfoHash,
    /// Pieces that were on disk before this run; `None` if there were none.
    earlier: Option<Earlier>,
    written: Mutex<Written>,
    /// Locked during a checkpoint.
    saved: Mutex<Saved>,
    parts: PartialPieces,
    /// The thread of the last checkpoint.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Changes since the last checkpoint began.
#[derive(Debug)]
struct Written {
    /// Pieces that were written (true) or lost (false), in the order of these events.
    changes: Vec<(PieceIndex, bool)>,
    files: Unsynced,
    /// By file, since the start: the time at which our last write to it ended.
    own_writes: BTreeMap<usize, FileTime>,
    /// A sync has failed. The kernel reports a failed write to one sync only, even a write that came after that sync
    /// began, so the success of a later sync proves nothing.
    sync_failed: bool,
}

/// The content of the record, current or next.
#[derive(Debug)]
struct Saved {
    have: Bitfield,
    /// The identity of each file if only our own writes have changed it. The default for pad files and for files left
    /// out.
    files: Vec<FileIdentity>,
    next_at: Instant,
}

impl Checkpoint {
    /// Expects that the files exist. `have` are the pieces that were checked before this run.
    pub(in crate::engine) fn new(
        target: Target,
        info_hash: InfoHash,
        store: &Store,
        have: &Bitfield,
        earlier: Option<Earlier>,
    ) -> Result<Self, StorageError> {
        // The writes of an earlier run may not be on disk yet.
        let files = if have.is_empty() { Unsynced::default() } else { Unsynced::all(store) };
        let before = earlier.as_ref().map_or(&[][..], |earlier| &earlier.files);
        let mut identities = vec![FileIdentity::default(); store.layout().file_count()];
        for file_index in store.file_indices() {
            // A file that was just created or extended is ours from now on.
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
            // From now on a record shows that the files are ours, even if this run is killed.
            checkpoint.save(&checkpoint.saved(), store, false)?;
        }
        Ok(checkpoint)
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        lock(&self.saved)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        lock(&self.written)
    }

    /// A write to this file has ended. Called for each file of a piece before [`Self::handle_written`].
    pub(in crate::engine) fn handle_file_written(&self, file_index: usize, file: &SharedFile) {
        let mut written = self.written();
        written.files.handle_written(file_index, file);
        written.own_writes.insert(file_index, file_time());
    }

    /// Space was reserved for this file, which changes its times.
    pub(in crate::engine) fn handle_reserved(&self, file_index: usize) {
        self.written().own_writes.insert(file_index, file_time());
    }

    /// A piece was written to all its files.
    pub(in crate::engine) fn handle_written(&self, piece: PieceIndex) {
        self.written().changes.push((piece, true));
    }

    /// A piece that we had is wrong or unreadable on disk.
    pub(in crate::engine) fn handle_lost(&self, piece: PieceIndex) {
        self.written().changes.push((piece, false));
    }

    /// Whether a checkpoint is due. `downloaded` is the number of bytes downloaded so far.
    pub(in crate::engine) fn is_due(&self, downloaded: u64) -> bool {
        let written = self.written();
        let anything = !written.files.is_empty() || !written.changes.is_empty() || self.parts.is_due(downloaded);
        anything && self.saved.try_lock().is_ok_and(|saved| Instant::now() >= saved.next_at)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        lock(&self.thread)
    }

    /// A checkpoint is in progress.
    pub(in crate::engine) fn is_running(&self) -> bool {
        self.thread().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// A checkpoint runs on this thread; `None` if the thread could not be started.
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

    /// Waits for the last checkpoint to end. Fails if it panicked, since the list of files to sync is then lost.
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

    /// Syncs the written files and replaces the record, or removes it if no piece is missing. May take a long time.
    ///
    /// `ended` means that nothing is written from now on. After an error the record claims no more than before.
    pub(in crate::engine) fn run(&self, store: &Store, ended: bool) -> Result<(), StorageError> {
        let mut saved = self.saved();
        let begun = Instant::now();
        let (changes, files, claimable) = {
            let mut written = self.written();
            let claimable = !written.sync_failed;
            // Stays set until the sync has succeeded, since it may also panic.
            written.sync_failed = true;
            (std::mem::take(&mut written.changes), std::mem::take(&mut written.files), claimable)
        };
        // Lost pieces are removed even if the sync fails.
        let lost = changes.iter().filter(|(_, had)| !had);
        lost.for_each(|&(piece, _)| _ = saved.have.remove(piece));
        store.sync(&files, ended)?;
        self.written().sync_failed = !claimable;
        for file_index in files.iter() {
            let found = store.layout().identity(file_index)?;
            let own_write = self.written().own_writes.get(&file_index).copied();
            // While writes are in progress, their file times can't be told from those of other programs.
            let is_ours = own_write.is_some_and(|own| !ended || found.is_unwritten_since(own));
            match saved.files.get_mut(file_index) {
                Some(before) if before.is_same_file(&found) => *before = if is_ours { found } else { *before },
                _ => {
                    let error = std::io::Error::other(
                        "another program has replaced or truncated it: run the same command again",
                    );
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

    /// Pieces from before this run that must be hashed: those of files that another program has changed since, and the
    /// unhashed ones of every file that we wrote to, because a foreign write between two of ours goes unnoticed. Called
    /// after the last [`Self::run`].
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

    /// Removes the record and the partial pieces, since the selected files are complete. A later run that selects other
    /// files of the torrent hashes the existing ones.
    pub(in crate::engine) fn remove_sidecars(&self) -> Result<(), StorageError> {
        self.target.remove(&Sidecar::ALL)
    }

    /// Releases the lock on the files: nothing is written from now on.
    pub(in crate::engine) fn release(&self) {
        self.target.release();
    }
}
