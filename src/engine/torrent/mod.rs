//! One torrent as the engine runs it: swarm, content and peers. Shared by all threads. The work that is due over time
//! is `control`'s.

pub(in crate::engine) mod failed_pieces;
pub(in crate::engine) mod peers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::info;

use crate::base::cidr::AddressFilter;
use crate::base::escape::printable;
use crate::base::{Bitfield, InfoHash, PieceIndex, Rng, Time};
use crate::codec::metainfo::Metainfo;
use crate::engine::files::checkpoint::Checkpoint;
use crate::engine::files::content::{Content, ContentSetup, LossReports};
use crate::engine::files::readiness::ReadinessTable;
use crate::engine::files::writeback::WriteMode;
use crate::engine::metrics::monitor::Snapshot;
use crate::engine::piece::Piece;
use crate::engine::torrent::peers::Peers;
use crate::storage::{PieceBuffer, StorageError, Store, WritePath};
use crate::swarm::fair_queue::Share;
use crate::swarm::limiter::Limiter;
use crate::swarm::{PeerShared, Selection, Swarm};

/// One torrent as the engine runs it: its swarm, content and peers. Shared by all threads.
#[derive(Debug)]
pub(in crate::engine) struct Torrent {
    /// Unique in the session.
    pub(in crate::engine) number: u32,
    pub(in crate::engine) info_hash: InfoHash,
    /// Safe for a terminal.
    pub(in crate::engine) name: String,
    /// The info dictionary, for peers that ask for it (BEP 9); `None` for a private torrent (BEP 27).
    pub(in crate::engine) metadata: Option<Arc<[u8]>>,
    pub(in crate::engine) swarm: Arc<Swarm<PieceBuffer>>,
    pub(in crate::engine) content: Content,
    pub(in crate::engine) peers: Peers,
    pub(in crate::engine) upload: UploadShare,
    /// The length of the selected files in bytes.
    pub(in crate::engine) wanted_len: u64,
    /// The storage fault that has stopped the torrent.
    pub(in crate::engine) fault: OnceLock<StorageError>,
    /// The control thread was woken for the torrent.
    is_woken: AtomicBool,
}

/// A torrent's share of the uplink.
#[derive(Debug)]
pub(in crate::engine) struct UploadShare {
    /// The limit of this torrent.
    pub(in crate::engine) limiter: Limiter,
    /// Its share of the session's limit.
    pub(in crate::engine) share: Share,
}

/// A torrent's files, and its resume record if they are written.
pub(in crate::engine) struct Opened {
    pub(in crate::engine) store: Store,
    pub(in crate::engine) checkpoint: Option<Checkpoint>,
}

/// The state in which a torrent starts.
pub(in crate::engine) struct Start<'a> {
    /// Pieces on disk.
    pub(in crate::engine) have: &'a Bitfield,
    /// See [`Swarm::with_selection`].
    pub(in crate::engine) selection: Option<Selection>,
    /// Those of `have` that are served without being hashed first.
    pub(in crate::engine) verified: &'a Bitfield,
}

/// The session's configuration of a torrent.
pub(in crate::engine) struct Settings {
    pub(in crate::engine) write_mode: WriteMode,
    /// See [`crate::engine::shared::page_cache::PageCache::trusted`].
    pub(in crate::engine) extents_trusted: u32,
    /// The upload limit in bytes/s.
    pub(in crate::engine) up_max: Option<u64>,
    pub(in crate::engine) filter: AddressFilter,
    pub(in crate::engine) loss_reports: LossReports,
}

impl Torrent {
    /// `number` is unique in the session; `buffers` is the memory for received pieces.
    pub(in crate::engine) fn new(
        number: u32,
        metainfo: Metainfo,
        opened: Opened,
        start: Start<'_>,
        buffers: Vec<PieceBuffer>,
        settings: Settings,
    ) -> Self {
        let Opened { store, checkpoint } = opened;
        let Start { have, selection, verified } = start;
        let Settings { write_mode, extents_trusted, up_max, filter, loss_reports } = settings;
        let geometry = Arc::new(metainfo.info.geometry);
        let wanted = |piece| selection.as_ref().map_or(0, |selection| selection.wanted_len(&geometry, piece));
        let wanted_len = match &selection {
            Some(_) => geometry.pieces().map(wanted).sum(),
            None => geometry.total_len(),
        };
        let name = printable(&metainfo.info.name);
        let content = Content::new(ContentSetup {
            name: name.clone(),
            geometry: geometry.clone(),
            hashes: metainfo.info.pieces,
            store,
            checkpoint,
            readiness: ReadinessTable::new(&geometry, verified, extents_trusted),
            write_mode,
            loss_reports,
        });
        Self {
            number,
            info_hash: metainfo.info_hash,
            metadata: (!metainfo.info.private).then(|| metainfo.info_bytes.into()),
            swarm: Arc::new(Swarm::with_selection(geometry, have, selection, buffers, &mut Rng::new())),
            content,
            peers: Peers::new(name.clone(), filter),
            upload: UploadShare { limiter: Limiter::new(up_max), share: Share::default() },
            name,
            wanted_len,
            fault: OnceLock::new(),
            is_woken: AtomicBool::new(false),
        }
    }

    /// Payload bytes received in this run.
    pub(in crate::engine) fn downloaded(&self) -> u64 {
        self.swarm.totals.downloaded.load(Ordering::Relaxed)
    }

    /// Adds the totals of the torrent to `sum`.
    pub(in crate::engine) fn add_totals(&self, sum: &mut Snapshot) {
        sum.known_peer_count += self.peers.list().len();
        let totals = &self.swarm.totals;
        sum.have_len += self.wanted_len.saturating_sub(self.swarm.pieces.wanted_left());
        sum.downloaded += totals.downloaded.load(Ordering::Relaxed);
        sum.uploaded += totals.uploaded.load(Ordering::Relaxed);
        sum.wasted += totals.wasted.load(Ordering::Relaxed);
        sum.corrupt += totals.corrupt.load(Ordering::Relaxed);
    }

    /// Returns false if the torrent is woken already.
    pub(in crate::engine) fn request_wake(&self) -> bool {
        !self.is_woken.swap(true, Ordering::AcqRel)
    }

    /// The control thread is about to step the torrent.
    pub(in crate::engine) fn clear_wake(&self) {
        self.is_woken.store(false, Ordering::Release);
    }

    /// Stops the torrent after a fault of our storage. The first fault is kept.
    pub(in crate::engine) fn fail(&self, error: StorageError) {
        let _ = self.fault.set(error);
    }

    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.fault.get().is_some()
    }

    /// How to write the next verified piece.
    pub(in crate::engine) fn write_path(&self) -> WritePath {
        self.content.write_path(|| self.peers.has_interested())
    }

    /// A received piece was verified and written to all its files.
    pub(in crate::engine) fn handle_written(&self, open: &Piece) {
        self.content.handle_written(&self.swarm.pieces, open.piece());
        self.swarm.pieces.handle_written(open);
    }

    /// A received piece failed its hash: it is fetched again, and its senders lose trust.
    pub(in crate::engine) fn handle_failed(&self, now: Time, open: &Piece) {
        self.swarm.totals.corrupt.fetch_add(u64::from(open.len()), Ordering::Relaxed);
        let verdict = self.swarm.pieces.handle_failed(now, open);
        info!("{}: piece {} had a wrong hash and is fetched again", self.name, open.piece().get());
        self.peers.handle_failed(open, &verdict);
        self.swarm.reorder(&mut Rng::new());
    }

    /// A received piece has verified. Returns the senders that were not proven before.
    pub(in crate::engine) fn handle_verified(&self, open: &Piece) -> Vec<Arc<PeerShared>> {
        self.peers.handle_verified(open)
    }

    /// See [`Content::verify`].
    pub(in crate::engine) fn verify(&self, piece: PieceIndex) -> bool {
        self.content.verify(&self.swarm.pieces, piece)
    }

    /// See [`Content::handle_unservable`].
    pub(in crate::engine) fn handle_unservable(&self, piece: PieceIndex, why: &str) {
        self.content.handle_unservable(&self.swarm.pieces, piece, why);
    }

    /// See [`Content::populate`].
    pub(in crate::engine) fn populate(&self, offset: u64, len: u64) -> Result<(), StorageError> {
        self.content.populate(&self.swarm.pieces, offset, len)
    }

    /// See [`Content::recheck`].
    pub(in crate::engine) fn recheck(&self, file_index: usize) {
        self.content.recheck(&self.swarm.pieces, file_index);
    }
}
