//! Hashes complete pieces on the hash pool, and hands verified ones to a ring to be written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{PieceHash, Time, limits};
use crate::engine::piece::Piece;
use crate::engine::torrent::Torrent;
use crate::hash::Job;
use crate::storage::{StorageError, WriteStep};
use crate::swarm::PeerShared;

/// The operations of the session that hashed pieces need.
pub(in crate::engine) trait VerifiedSink: Send + Sync {
    fn now(&self) -> Time;
    /// Makes connections announce new pieces and apply choke decisions.
    fn spread_news(&self);
    /// Hands verified pieces to the ring that writes them. Blocks while the ring has too many.
    fn send_verified(&self, ring_index: usize, verified: Vec<Verified>);
    /// Stops a torrent after a fault of our storage.
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

/// A verified piece, or a run of short ones that one write stores, with the writes.
#[derive(Debug)]
pub(in crate::engine) struct Verified {
    pub(in crate::engine) torrent: Arc<Torrent>,
    /// Adjacent pieces, in order.
    pub(in crate::engine) pieces: Vec<Arc<Piece>>,
    pub(in crate::engine) steps: Vec<WriteStep>,
    /// The senders that were not proven before these pieces.
    pub(in crate::engine) proven: Vec<Arc<PeerShared>>,
}

impl Verified {
    /// Whether the whole of `next`, which is one write, continues the last write.
    fn is_continued_by(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.torrent, &next.torrent)
            && matches!((&self.steps[..], &next.steps[..]), ([.., last], [first]) if last.is_continued_by(first))
    }

    /// Makes one write of the last one and that of `next`, for which [`Self::is_continued_by`] holds.
    fn append(&mut self, next: Self) {
        self.pieces.extend(next.pieces);
        self.proven.extend(next.proven);
        if let Some(last) = self.steps.last_mut() {
            next.steps.into_iter().for_each(|step| last.source.append(step.source));
        }
    }
}

impl Job for Received {
    fn bytes(&self) -> &[u8] {
        self.open.buffer().bytes().unwrap_or_default()
    }

    /// Sends one message, and so causes at most one wake, for each ring.
    fn finish_batch(jobs: impl Iterator<Item = (Self, PieceHash)>) {
        let mut jobs: Vec<_> = jobs.collect();
        jobs.sort_by_key(|(job, _)| (job.ring_index, job.torrent.number, job.open.piece()));
        let mut by_ring: BTreeMap<usize, (Arc<dyn VerifiedSink>, Vec<Verified>)> = BTreeMap::new();
        for (job, hash) in jobs {
            let (ring_index, sink) = (job.ring_index, job.sink.clone());
            let Some(verified) = job.finish(hash) else { continue };
            let (_, runs) = by_ring.entry(ring_index).or_insert_with(|| (sink, Vec::new()));
            match runs.last_mut().filter(|last| last.is_continued_by(&verified)) {
                Some(last) => last.append(verified),
                None => runs.push(verified),
            }
        }
        for (ring_index, (sink, verified)) in by_ring {
            sink.send_verified(ring_index, verified);
        }
    }
}

impl Received {
    /// Returns the piece with its writes if the hash is right.
    fn finish(self, hash: PieceHash) -> Option<Verified> {
        let Self { sink, torrent, open, .. } = self;
        if torrent.content.hash_of(open.piece()) != Some(&hash) {
            torrent.handle_failed(sink.now(), &open);
            sink.spread_news();
            return None;
        }
        let proven = torrent.handle_verified(&open);
        let store = &torrent.content.store;
        // Files are opened here, since that may block and the ring must not. Of a piece in very many files, the rest
        // are opened as they are written.
        let at_once = store.open_files_max() / limits::HASH_LANES;
        let opened = store.write_steps(open.piece(), open.buffer(), torrent.write_path()).and_then(|steps| {
            let mut first = steps.iter().take(at_once);
            match first.try_for_each(|step| store.writable(step.file_index, step.path).map(drop)) {
                Err(error) if !error.is_transient() => Err(error),
                // While descriptors are short, the piece waits for them as it is written.
                _ => Ok(steps),
            }
        });
        match opened {
            Ok(steps) => Some(Verified { torrent, pieces: vec![open], steps, proven }),
            Err(error) => {
                sink.handle_fault(&torrent, error);
                None
            }
        }
    }
}
