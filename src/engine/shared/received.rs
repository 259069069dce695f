//! From a complete piece in its memory to one whose hash is right, on the hash pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{PieceHash, Time, limits};
use crate::engine::piece::Piece;
use crate::engine::torrent::Torrent;
use crate::hash::Job;
use crate::storage::{StorageError, WriteStep};
use crate::swarm::PeerShared;

/// What the session does with pieces that were hashed.
pub(in crate::engine) trait VerifiedSink: Send + Sync {
    fn now(&self) -> Time;
    /// Something changed that connections pass on.
    fn spread_news(&self);
    /// The ring writes these. Blocks while too many wait for that.
    fn send_verified(&self, ring_index: usize, verified: Vec<Verified>);
    /// A torrent has to stop.
    fn handle_fault(&self, torrent: &Torrent, error: StorageError);
}

/// A piece all of whose blocks have landed, on its way through the hash pool.
pub(in crate::engine) struct Received {
    pub(in crate::engine) sink: Arc<dyn VerifiedSink>,
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) open: Arc<Piece>,
    /// The ring that writes it.
    pub(in crate::engine) ring_index: usize,
}

/// A piece whose hash was right, with what has to be written where.
#[derive(Debug)]
pub(in crate::engine) struct Verified {
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) open: Arc<Piece>,
    pub(in crate::engine) steps: Vec<WriteStep>,
    /// The peers that had a part in no right piece before this one.
    pub(in crate::engine) proven: Vec<Arc<PeerShared>>,
}

impl Job for Received {
    fn bytes(&self) -> &[u8] {
        self.open.buffer().bytes().unwrap_or_default()
    }

    /// One message, and so at most one wake, for each ring.
    fn finish_batch(jobs: impl Iterator<Item = (Self, PieceHash)>) {
        let mut by_ring: BTreeMap<usize, (Arc<dyn VerifiedSink>, Vec<Verified>)> = BTreeMap::new();
        for (job, hash) in jobs {
            let (ring_index, sink) = (job.ring_index, job.sink.clone());
            if let Some(verified) = job.finish(hash) {
                by_ring.entry(ring_index).or_insert_with(|| (sink, Vec::new())).1.push(verified);
            }
        }
        for (ring_index, (sink, verified)) in by_ring {
            sink.send_verified(ring_index, verified);
        }
    }
}

impl Received {
    /// What is to be written, where the hash is right.
    fn finish(self, hash: PieceHash) -> Option<Verified> {
        let Self { sink, torrent, open, .. } = self;
        if torrent.content.hash_of(open.piece()) != Some(&hash) {
            torrent.handle_failed(sink.now(), &open);
            sink.spread_news();
            return None;
        }
        let proven = torrent.handle_verified(&open);
        let store = &torrent.content.store;
        // Opening may block: here, not on the ring. Of a piece of very many files the others wait for their turn.
        let at_once = store.open_files_max() / limits::HASH_LANES;
        let opened = store.write_steps(open.piece(), open.buffer(), torrent.write_path()).and_then(|steps| {
            steps.iter().take(at_once).try_for_each(|step| store.writable(step.file_index, step.path).map(drop))?;
            Ok(steps)
        });
        match opened {
            Ok(steps) => Some(Verified { torrent, open, steps, proven }),
            Err(error) => {
                sink.handle_fault(&torrent, error);
                None
            }
        }
    }
}
