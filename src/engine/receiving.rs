//! From a complete piece in its slot to a had piece: hashed on the pool, written by the ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shared::Shared;
use super::torrent::{Piece, Torrent};
use super::writeback::Flush;
use crate::base::PieceHash;
use crate::hash::Job;
use crate::storage::{Action, StorageError, WritePath, WriteStep};
use crate::uring::{spawn, write_all_at};

/// A piece all of whose blocks have landed, on its way through the hash pool.
pub(super) struct Received {
    pub(super) shared: Arc<Shared>,
    pub(super) torrent: Arc<Torrent>,
    pub(super) open: Arc<Piece>,
    /// Who writes it.
    pub(super) ring_index: usize,
}

/// A piece whose hash was right, with what has to be written where.
#[derive(Debug)]
pub(super) struct Verified {
    torrent: Arc<Torrent>,
    open: Arc<Piece>,
    steps: Vec<WriteStep>,
}

impl Job for Received {
    fn bytes(&self) -> &[u8] {
        self.open.slot().bytes().unwrap_or_default()
    }

    /// One message, and so at most one wake, for each ring.
    fn finish_batch(jobs: impl Iterator<Item = (Self, PieceHash)>) {
        let mut by_ring: BTreeMap<usize, (Arc<Shared>, Vec<Verified>)> = BTreeMap::new();
        for (job, hash) in jobs {
            let (ring_index, shared) = (job.ring_index, job.shared.clone());
            if let Some(verified) = job.finish(hash) {
                by_ring.entry(ring_index).or_insert_with(|| (shared, Vec::new())).1.push(verified);
            }
        }
        for (ring_index, (shared, verified)) in by_ring {
            if let Some(ring) = shared.rings().get(ring_index) {
                // Refused only while the session ends.
                let _ = ring.verified.blocking_send(verified);
            }
        }
    }
}

impl Received {
    /// What is to be written, where the hash is right.
    fn finish(self, hash: PieceHash) -> Option<Verified> {
        let Self { shared, torrent, open, .. } = self;
        if torrent.hashes.get(open.piece().at()) != Some(&hash) {
            torrent.handle_wrong(&open);
            shared.spread_news();
            return None;
        }
        torrent.handle_right(&open);
        // Opening files may block: here, not on the ring.
        match torrent.store.write_steps(open.piece(), open.slot(), torrent.write_path()) {
            Ok(steps) => Some(Verified { torrent, open, steps }),
            Err(error) => {
                fail(&shared, &torrent, error);
                None
            }
        }
    }
}

/// Writes a verified piece; then it is had.
pub(super) async fn write(shared: Arc<Shared>, verified: Verified) {
    let Verified { torrent, open, steps } = verified;
    let mut files = Vec::new();
    for step in steps {
        let WriteStep { file, path, file_index, offset, source } = step;
        let len = source.len();
        let reserved = match path {
            WritePath::Buffered => Some(torrent.writeback.reserve(len).await),
            WritePath::Direct => None,
        };
        if let (Err(error), _) = write_all_at(file.clone(), source, offset).await {
            return fail_write(&shared, &torrent, file_index, error);
        }
        files.push((file_index, file.clone()));
        let dirty = |reserved| torrent.writeback.handle_written((file, file_index), (offset, len), reserved);
        if let Some(flush) = reserved.and_then(dirty) {
            spawn(finish_flush(shared.clone(), torrent.clone(), flush));
        }
    }
    torrent.handle_written(&open, files);
    shared.spread_news();
    if torrent.swarm.pieces.is_complete() {
        shared.attend(&torrent);
    }
}

async fn finish_flush(shared: Arc<Shared>, torrent: Arc<Torrent>, flush: Flush) {
    if let Err((file_index, error)) = torrent.writeback.flush(flush).await {
        fail_write(&shared, &torrent, file_index, error);
    }
}

fn fail_write(shared: &Shared, torrent: &Torrent, file_index: usize, error: std::io::Error) {
    fail(shared, torrent, StorageError::new(Action::Write, torrent.store.layout().path(file_index), error));
}

/// Reserves the space of the torrent's files; may block for long.
pub(super) fn preallocate(shared: &Shared, torrent: &Torrent) {
    if let Err(error) = torrent.store.preallocate() {
        fail(shared, torrent, error);
    }
}

fn fail(shared: &Shared, torrent: &Torrent, error: StorageError) {
    torrent.fail(error);
    shared.control.notify_one();
}
