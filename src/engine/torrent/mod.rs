//! One torrent as the engine runs it: swarm state, files and what ties them together. Shared by all threads.

pub(in crate::engine) mod failed_pieces;
mod watch;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::base::cidr::AddressFilter;
use crate::base::escape::printable;
use crate::base::{
    Bitfield, BlockRef, FileIdentity, InfoHash, PeerId, PieceHash, PieceIndex, Rng, Time, host_of, limits,
};
use crate::codec::metainfo::Metainfo;
use crate::engine::files::checkpoint::Checkpoint;
use crate::engine::files::clock::since_1970;
use crate::engine::files::io_threads::FileShare;
use crate::engine::files::readiness::Serving;
use crate::engine::files::watch::Looks;
use crate::engine::files::writeback::WriteMode;
use crate::engine::files::writeback::Writeback;
use crate::engine::piece::Piece;
use crate::engine::torrent::failed_pieces::FailedPieces;
use crate::hash::PieceHasher;
use crate::storage::{PieceBuffer, StorageError, Store, WritePath, dirty_len_max};
use crate::swarm::fair_queue::Share;
use crate::swarm::limiter::Limiter;
use crate::swarm::peer_list::Contribution;
use crate::swarm::peer_list::PeerList;
use crate::swarm::{HashOutcome, PeerShared, Selection, Swarm, Verdict};
use crate::uring::SharedFile;

/// Peers of one host that left with everything, and what they took from us in all.
#[derive(Debug, Default)]
struct HostCopies {
    peers: HashSet<PeerId>,
    uploaded: u64,
}

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Torrent {
    /// Differs from torrent to torrent of a session.
    pub(in crate::engine) number: u32,
    pub(in crate::engine) info_hash: InfoHash,
    /// Safe for a terminal.
    pub(in crate::engine) name: String,
    pub(in crate::engine) hashes: Box<[PieceHash]>,
    /// The info dictionary, for peers that ask for it (BEP 9); a private torrent's is not given away (BEP 27).
    pub(in crate::engine) metadata: Option<Arc<[u8]>>,
    pub(in crate::engine) swarm: Arc<Swarm<PieceBuffer>>,
    /// Bytes that are wanted.
    pub(in crate::engine) wanted_len: u64,
    pub(in crate::engine) store: Store,
    pub(in crate::engine) file_share: FileShare,
    pub(in crate::engine) writeback: Writeback,
    /// `None`: nothing is written.
    pub(in crate::engine) checkpoint: Option<Checkpoint>,
    pub(in crate::engine) serving: Serving,
    pub(in crate::engine) up: Limiter,
    pub(in crate::engine) share: Share,
    write_mode: WriteMode,
    /// Our own fault: the torrent has stopped.
    pub(in crate::engine) fault: OnceLock<StorageError>,
    /// It is no torrent of the session any more.
    stopped: AtomicBool,
    /// The control thread has been asked to look at it.
    attention: AtomicBool,
    pub(in crate::engine) failed_pieces: FailedPieces,
    has_told_unservable: AtomicBool,
    pub(in crate::engine) looks: Looks,
    copies: Mutex<HashMap<IpAddr, HostCopies>>,
    connections: Mutex<HashMap<u32, Entry>>,
    peer_list: Mutex<PeerList>,
}

/// A connection with a complete handshake.
#[derive(Debug)]
struct Entry {
    shared: Arc<PeerShared>,
    peer_id: PeerId,
    outgoing: bool,
    since: Time,
}

/// A torrent's files, and the way to its record where it is written.
pub(in crate::engine) struct Opened {
    pub(in crate::engine) store: Store,
    pub(in crate::engine) checkpoint: Option<Checkpoint>,
}

/// What a torrent begins with.
pub(in crate::engine) struct Start<'a> {
    /// Pieces that are there.
    pub(in crate::engine) have: &'a Bitfield,
    /// See [`Swarm::with_selection`].
    pub(in crate::engine) selection: Option<Selection>,
    /// Those of `have` that need no hash before they are served.
    pub(in crate::engine) verified: &'a Bitfield,
}

/// What the session's configuration says of a torrent.
pub(in crate::engine) struct Settings {
    pub(in crate::engine) write_mode: WriteMode,
    /// [`crate::engine::shared::page_cache::Cache`]'s.
    pub(in crate::engine) stretches_trusted: u32,
    /// Bytes/s that it may upload.
    pub(in crate::engine) up_max: Option<u64>,
    pub(in crate::engine) filter: AddressFilter,
}

impl Torrent {
    /// `number` is its own in the session; `slots` is memory for pieces to be received.
    pub(in crate::engine) fn new(
        number: u32,
        metainfo: Metainfo,
        opened: Opened,
        start: Start<'_>,
        slots: Vec<PieceBuffer>,
        settings: Settings,
    ) -> Self {
        let Opened { store, checkpoint } = opened;
        let Start { have, selection, verified } = start;
        let Settings { write_mode, stretches_trusted, up_max, filter } = settings;
        let geometry = Arc::new(metainfo.info.geometry);
        let wanted = |piece| selection.as_ref().map_or(0, |selection| selection.wanted_len(&geometry, piece));
        let wanted_len = match &selection {
            Some(_) => geometry.pieces().map(wanted).sum(),
            None => geometry.total_len(),
        };
        let mut rng = Rng::new();
        let (writeback, file_count) =
            (Writeback::new(dirty_len_max(), store.open_files_max()), store.layout().file_count());
        Self {
            number,
            info_hash: metainfo.info_hash,
            name: printable(&metainfo.info.name),
            metadata: (!metainfo.info.private).then(|| metainfo.info_bytes.into()),
            hashes: metainfo.info.pieces,
            serving: Serving::new(&geometry, verified, stretches_trusted),
            swarm: Arc::new(Swarm::with_selection(geometry, have, selection, slots, &mut rng)),
            wanted_len,
            store,
            file_share: FileShare::default(),
            checkpoint,
            writeback,
            up: Limiter::new(up_max),
            share: Share::default(),
            write_mode,
            fault: OnceLock::new(),
            stopped: AtomicBool::new(false),
            attention: AtomicBool::new(false),
            failed_pieces: FailedPieces::default(),
            has_told_unservable: AtomicBool::new(false),
            looks: Looks::new(file_count),
            connections: Mutex::default(),
            copies: Mutex::default(),
            peer_list: Mutex::new(PeerList::with_filter(filter)),
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The known peers. Held for moments: ring threads ask it once per connection.
    pub(in crate::engine) fn peer_list(&self) -> MutexGuard<'_, PeerList> {
        self.peer_list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the next verified piece is best written.
    pub(in crate::engine) fn write_path(&self) -> WritePath {
        let is_wanted = || self.connections().values().any(|entry| entry.shared.is_interested());
        match self.write_mode {
            WriteMode::Buffered => WritePath::Buffered,
            WriteMode::Auto if is_wanted() => WritePath::Buffered,
            WriteMode::Auto | WriteMode::Direct => WritePath::Direct,
        }
    }

    /// Payload bytes of this run.
    pub(in crate::engine) fn downloaded(&self) -> u64 {
        self.swarm.totals.downloaded.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn peer_count(&self) -> usize {
        self.connections().len()
    }

    pub(in crate::engine) fn peers(&self) -> Vec<Arc<PeerShared>> {
        self.connections().values().map(|entry| entry.shared.clone()).collect()
    }

    /// Registers a connection whose handshake is complete; false when it is the second one to the same peer, or the torrent
    /// was dropped.
    ///
    /// Of two connections that two peers opened to each other at a time, both sides keep the one that the greater peer id
    /// opened; an older one always stays. Peer ids are public, so one that comes from another host is another peer: else any
    /// host could keep a peer out by its id.
    pub(in crate::engine) fn join(
        &self,
        shared: &Arc<PeerShared>,
        (peer_id, own_id): (PeerId, PeerId),
        outgoing: bool,
        now: Time,
    ) -> bool {
        let host = host_of(shared.address().ip());
        let mut connections = self.connections();
        if self.stopped.load(Ordering::Acquire) {
            return false;
        }
        if let Some(twin) =
            connections.values().find(|entry| entry.peer_id == peer_id && host_of(entry.shared.address().ip()) == host)
        {
            let crossed = twin.outgoing != outgoing && now < twin.since + limits::HANDSHAKE_TIMEOUT;
            if !crossed || outgoing != (own_id > peer_id) {
                return false;
            }
            twin.shared.request_close();
        }
        connections.insert(shared.key(), Entry { shared: shared.clone(), peer_id, outgoing, since: now });
        true
    }

    pub(in crate::engine) fn leave(&self, shared: &PeerShared) {
        let left = self.connections().remove(&shared.key());
        let (had, uploaded) = (shared.have_count(), shared.uploaded());
        // Who leaves at once when it is complete does not say so any more.
        let complete = had == self.swarm.geometry.piece_count() || uploaded >= self.swarm.geometry.total_len();
        if let Some(entry) = left.filter(|_| complete && uploaded > 0) {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            let host = host_of(shared.address().ip());
            if copies.len() < limits::PEER_LIST_MAX || copies.contains_key(&host) {
                let copies = copies.entry(host).or_default();
                copies.uploaded = copies.uploaded.saturating_add(uploaded);
                if copies.peers.len() < limits::CONNECTIONS_PER_IP_MAX {
                    copies.peers.insert(entry.peer_id);
                }
            }
        }
    }

    /// Peers that took something from us and had everything when they left: one for each host, and more of one host where it
    /// took as many copies from us, since a host may claim to have everything under any number of ids.
    pub(in crate::engine) fn copies(&self) -> usize {
        let total_len = self.swarm.geometry.total_len().max(1);
        let of_host = |copies: &HostCopies| {
            let taken = usize::try_from(copies.uploaded / total_len).unwrap_or(usize::MAX);
            copies.peers.len().min(taken.max(1))
        };
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).values().map(of_host).sum()
    }

    /// It is dropped: nobody joins any more, and who is there has to leave.
    pub(in crate::engine) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.peers().iter().for_each(|peer| peer.request_close());
    }

    /// False when that was asked for already.
    pub(in crate::engine) fn ask_for_attention(&self) -> bool {
        !self.attention.swap(true, Ordering::AcqRel)
    }

    /// It is about to be looked at.
    pub(in crate::engine) fn handle_attended(&self) {
        self.attention.store(false, Ordering::Release);
    }

    /// Stops the torrent for a fault of our own; the first one counts.
    pub(in crate::engine) fn fail(&self, error: StorageError) {
        let _ = self.fault.set(error);
    }

    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.fault.get().is_some()
    }

    /// A part of a verified piece is in this file.
    pub(in crate::engine) fn handle_file_written(&self, file_index: usize, file: &SharedFile) {
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.handle_file_written(file_index, file);
        }
    }

    /// A received piece has been verified, and all of it is in its files.
    pub(in crate::engine) fn handle_written(&self, open: &Piece) {
        self.store.handle_written(open.piece());
        self.serving.handle_verified(open.piece());
        if let Some(checkpoint) = &self.checkpoint
            && !self.swarm.pieces.is_cut(open.piece())
        {
            checkpoint.handle_written(open.piece());
        }
        self.swarm.pieces.handle_written(open);
    }

    /// The hash of a received piece was wrong: it is fetched again, and its senders lose trust.
    pub(in crate::engine) fn handle_failed(&self, now: Time, open: &Piece) {
        self.swarm.totals.corrupt.fetch_add(u64::from(open.len()), Ordering::Relaxed);
        let verdict = self.swarm.pieces.handle_failed(now, open);
        info!("{}: piece {} had a wrong hash and is fetched again", self.name, open.piece().get());
        self.failed_pieces.handle_failed(open, &verdict);
        self.judge(&verdict, HashOutcome::Failed);
        self.swarm.reorder(&mut Rng::new());
    }

    /// The hash of a received piece was right: its senders gain trust. Who spoilt it before is known now, and counts as if it
    /// had sent it alone. Returns those whose first right piece it is.
    pub(in crate::engine) fn handle_verified(&self, open: &Piece) -> Vec<Arc<PeerShared>> {
        let proven = open.prove();
        self.judge(&open.verdict(), HashOutcome::Verified);
        for ip in self.failed_pieces.handle_verified(open) {
            info!("{}: piece {} had been spoilt by {ip}", self.name, open.piece().get());
            let banned = {
                let mut peer_list = self.peer_list();
                !peer_list.is_banned(ip) && peer_list.handle_verdict(ip, HashOutcome::Failed, Contribution::Sole)
            };
            if banned {
                self.ban(ip);
            }
        }
        proven
    }

    fn ban(&self, host: IpAddr) {
        warn!("{}: {host} is banned for sending wrong data", self.name);
        for peer in self.peers().iter().filter(|peer| host_of(peer.address().ip()) == host) {
            peer.request_close();
        }
    }

    fn judge(&self, verdict: &Verdict, outcome: HashOutcome) {
        let banned = self.peer_list().judge(verdict, outcome);
        banned.into_iter().for_each(|ip| self.ban(ip));
    }

    /// Where a block lies in the content.
    pub(in crate::engine) fn range_of(&self, block: BlockRef) -> std::ops::Range<u64> {
        let start = self.swarm.geometry.offset_of(block.piece) + u64::from(block.begin);
        start..start + u64::from(block.len)
    }

    /// Hashes a piece on disk before it is served for the first time. False when the machine lacks what that takes, and it has
    /// to be tried again. May block.
    pub(in crate::engine) fn verify(&self, piece: PieceIndex) -> bool {
        let len = usize::try_from(self.swarm.geometry.len_of(piece)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; len.min(limits::HASH_READ_LEN)];
        let mut hasher = PieceHasher::default();
        let begun = since_1970();
        let read = self.store.read_piece(piece, &mut buffer, |bytes| hasher.update(bytes), &self.on_change());
        match read {
            Ok(files) => return self.handle_hashed(piece, &hasher.finish(), &files, begun),
            Err(error) if error.is_transient() => return false,
            Err(error) => self.handle_unservable(piece, &error.to_string()),
        }
        true
    }

    /// A piece on disk has this hash, unless its files are others than those that were read: then false.
    fn handle_hashed(
        &self,
        piece: PieceIndex,
        hash: &PieceHash,
        files: &[(usize, FileIdentity)],
        begun: Duration,
    ) -> bool {
        let doubtful = begun.saturating_sub(limits::FILE_TIME_GRAIN).into()..=since_1970().into();
        let is_settled = files.iter().all(|(_, identity)| !identity.is_changed_within(doubtful.clone()));
        let is_right = self.hashes.get(piece.at()) == Some(hash);
        let is_unchanged = is_settled
            && self.store.if_unchanged(files, || {
                if is_right {
                    self.serving.handle_verified(piece);
                }
            });
        if is_unchanged && !is_right {
            self.handle_unservable(piece, "its data does not match the torrent");
        }
        is_unchanged
    }

    /// The pieces of a file that has changed are hashed before they are served again.
    pub(in crate::engine) fn on_change(&self) -> impl Fn(usize) + '_ {
        |file_index| {
            let path = self.store.layout().path(file_index);
            let shown = printable(path.as_os_str().as_encoded_bytes());
            info!("{}: {shown} has changed: its pieces are hashed before they are served again", self.name);
            let geometry = &self.swarm.geometry;
            let pieces = geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
            pieces.for_each(|piece| self.serving.handle_changed(piece));
        }
    }

    /// Nothing of it is missing: it is not written any more. May block.
    pub(in crate::engine) fn handle_complete(&self) {
        self.store.end_writing(&self.on_change());
    }

    /// A piece we offered is not right on disk, or can't be read: it is never sent. One line says so of all of them.
    pub(in crate::engine) fn handle_unservable(&self, piece: PieceIndex, why: &str) {
        if !self.serving.handle_unservable(piece) {
            return;
        }
        self.swarm.pieces.handle_lost(piece);
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.handle_lost(piece);
        }
        let (name, piece) = (&self.name, piece.get());
        if self.has_told_unservable.swap(true, Ordering::Relaxed) {
            info!("{name}: piece {piece} is not served: {why}");
        } else {
            warn!("{name}: piece {piece} is not served: {why}: if others follow, 'bt-fast verify' tells which");
        }
    }
}
