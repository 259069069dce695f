//! From a complete piece in its slot to a had piece: hashed on the pool, written by the ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{PieceHash, limits};
use crate::engine::files::writeback::Flush;
use crate::engine::piece::Piece;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::hash::Job;
use crate::storage::{Action, StorageError, WritePath, WriteStep};
use crate::swarm::PeerShared;
use crate::uring::{SharedFile, spawn, write_all_at};

/// A piece all of whose blocks have landed, on its way through the hash pool.
pub(in crate::engine) struct Received {
    pub(in crate::engine) shared: Arc<Shared>,
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) open: Arc<Piece>,
    /// Who writes it.
    pub(in crate::engine) ring_index: usize,
}

/// A piece whose hash was right, with what has to be written where.
#[derive(Debug)]
pub(in crate::engine) struct Verified {
    torrent: Arc<Torrent>,
    open: Arc<Piece>,
    steps: Vec<WriteStep>,
    /// Whose first right piece it is.
    pub(in crate::engine) proven: Vec<Arc<PeerShared>>,
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
            torrent.handle_wrong(shared.now(), &open);
            shared.spread_news();
            return None;
        }
        let proven = torrent.handle_right(&open);
        let store = &torrent.store;
        // Opening may block: here, not on the ring. Of a piece of very many files the others wait for their turn.
        let at_once = store.open_files_max() / limits::HASH_LANES;
        let opened = store.write_steps(open.piece(), open.slot(), torrent.write_path()).and_then(|steps| {
            steps.iter().take(at_once).try_for_each(|step| store.writable(step.file_index, step.path).map(drop))?;
            Ok(steps)
        });
        match opened {
            Ok(steps) => Some(Verified { torrent, open, steps, proven }),
            Err(error) => {
                fail(&shared, &torrent, error);
                None
            }
        }
    }
}

/// Writes a verified piece; then it is had.
pub(in crate::engine) async fn write(shared: Arc<Shared>, verified: Verified) {
    let Verified { torrent, open, steps, .. } = verified;
    for step in steps {
        if let Err(error) = write_step(&shared, &torrent, step).await {
            return fail(&shared, &torrent, error);
        }
    }
    torrent.handle_written(&open);
    shared.spread_news();
    if torrent.swarm.pieces.is_complete() {
        shared.attend(&torrent);
        shared.files.spawn(move || torrent.handle_complete());
    }
}

async fn write_step(shared: &Arc<Shared>, torrent: &Arc<Torrent>, step: WriteStep) -> Result<(), StorageError> {
    let WriteStep { file_index, path, offset, source } = step;
    let failed = |error| StorageError::new(Action::Write, torrent.store.layout().path(file_index), error);
    let len = source.len();
    let place = torrent.writeback.take_place().await;
    let (file, path) = open(shared, torrent, file_index, path).await?;
    let reserved = match path {
        WritePath::Buffered => Some(torrent.writeback.reserve(len).await),
        WritePath::Direct => None,
    };
    write_all_at(file.clone(), source, offset).await.0.map_err(failed)?;
    torrent.handle_file_written(file_index, &file);
    let dirty = |reserved| torrent.writeback.handle_written((file, file_index), (offset, len), (reserved, place));
    if let Some(flush) = reserved.and_then(dirty) {
        spawn(finish_flush(shared.clone(), torrent.clone(), flush));
    }
    Ok(())
}

/// Opening may block: that is not done here.
async fn open(
    shared: &Shared,
    torrent: &Arc<Torrent>,
    file_index: usize,
    path: WritePath,
) -> Result<(SharedFile, WritePath), StorageError> {
    if let Some(open) = torrent.store.writable_at_hand(file_index, path) {
        return Ok(open);
    }
    let there = torrent.clone();
    let opened = shared.files.run(&torrent.file_share, move || there.store.writable(file_index, path)).await;
    opened.unwrap_or_else(|| {
        let error = std::io::Error::other("the work on files has ended");
        Err(StorageError::new(Action::Open, torrent.store.layout().path(file_index), error))
    })
}

async fn finish_flush(shared: Arc<Shared>, torrent: Arc<Torrent>, flush: Flush) {
    if let Err((file_index, error)) = torrent.writeback.flush(flush).await {
        fail(&shared, &torrent, StorageError::new(Action::Write, torrent.store.layout().path(file_index), error));
    }
}

/// Reserves the space of the torrent's files; may block for long.
pub(in crate::engine) fn preallocate(shared: &Shared, torrent: &Torrent) {
    if let Err(error) = torrent.store.preallocate() {
        fail(shared, torrent, error);
    }
    if let Some(checkpoint) = &torrent.checkpoint {
        torrent.store.file_indices().for_each(|file_index| checkpoint.handle_reserved(file_index));
    }
}

fn fail(shared: &Shared, torrent: &Torrent, error: StorageError) {
    torrent.fail(error);
    shared.control.notify_one();
}
