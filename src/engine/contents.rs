//! The torrents of a session as our own tracker and pages use them: verified content for readers other than peers, and
//! the hosts that have all pieces.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::thread;

use crate::base::{FileIdentity, FileSpan, InfoHash, PeerId, PieceIndex, Time, limits};
use crate::engine::files::content::Timeliness;
use crate::engine::files::readiness::{ReadinessTable, Verification};
use crate::engine::host_counter::HostCounter;
use crate::engine::host_summary::HostSummary;
use crate::engine::torrent::Torrent;
use crate::swarm::{HostCompletion, HostCounts, Sighting};

/// The torrents of a session and their content, for readers outside the session. The session fills it.
#[derive(Debug, Default)]
pub struct Contents {
    torrents: RwLock<HashMap<InfoHash, Arc<Torrent>>>,
    session: RwLock<Option<Weak<dyn Session>>>,
    /// `None` if hosts are not counted.
    hosts: Option<HostCounter>,
}

/// A host that has all pieces of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedHost {
    pub info_hash: InfoHash,
    /// The torrent's name, safe for a terminal.
    pub name: String,
    pub ip: IpAddr,
    /// The hosts of the torrent, this one included.
    pub counts: HostCounts,
}

/// The operations of the session that [`Contents`] needs.
pub(super) trait Session: Send + Sync {
    fn now(&self) -> Time;
    /// Our own peer id.
    fn peer_id(&self) -> PeerId;
    /// Wakes the control thread to step this torrent.
    fn wake(&self, torrent: &Torrent);
    /// Wakes every connection that waits for content.
    fn announce_ready(&self);
}

impl Contents {
    /// Returns the content of a session whose hosts are counted.
    pub fn counting_hosts() -> Self {
        Self { hosts: Some(HostCounter::new()), ..Self::default() }
    }

    pub(super) fn torrents(&self) -> RwLockReadGuard<'_, HashMap<InfoHash, Arc<Torrent>>> {
        self.torrents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn torrents_mut(&self) -> RwLockWriteGuard<'_, HashMap<InfoHash, Arc<Torrent>>> {
        self.torrents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session has started.
    pub(super) fn handle_started(&self, session: Weak<dyn Session>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    fn session(&self) -> Option<Arc<dyn Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    /// Returns the number of torrents in the session.
    pub fn torrent_count(&self) -> usize {
        self.torrents().len()
    }

    /// Whether the session has this torrent and every wanted piece of it is on disk.
    pub fn is_complete(&self, info_hash: InfoHash) -> bool {
        self.torrents().get(&info_hash).is_some_and(|torrent| torrent.swarm.pieces.is_complete())
    }

    /// A leecher that listens at `addr` has announced itself to our own tracker.
    pub fn handle_leecher(&self, info_hash: InfoHash, addr: SocketAddr) {
        let torrent = self.torrents().get(&info_hash).cloned();
        if let Some((torrent, session)) = torrent.zip(self.session()) {
            torrent.peers.list().handle_leecher(session.now(), addr);
            session.wake(&torrent);
        }
    }

    /// Whether a fault of the storage has stopped this torrent.
    pub fn has_fault(&self, info_hash: InfoHash) -> bool {
        self.torrents().get(&info_hash).is_some_and(|torrent| torrent.has_failed())
    }

    /// Whether pieces of this torrent are not served because their files changed or are gone.
    pub fn has_unservable(&self, info_hash: InfoHash) -> bool {
        self.torrents().get(&info_hash).is_some_and(|torrent| torrent.content.has_unservable())
    }

    /// Returns the loss of a piece of this torrent that the caller has to report; see
    /// [`LossReports`](super::LossReports).
    pub fn unreported_loss(&self, info_hash: InfoHash) -> Option<String> {
        self.torrents().get(&info_hash)?.content.unreported_loss().map(str::to_owned)
    }

    /// The caller has seen that files of this torrent changed, or that they are those of the torrent after all. It counts
    /// as failed in between.
    pub fn set_timeliness(&self, info_hash: InfoHash, timeliness: Timeliness) {
        let Some(torrent) = self.torrents().get(&info_hash).cloned() else { return };
        torrent.content.set_timeliness(timeliness);
        self.session().inspect(|session| session.wake(&torrent));
    }

    /// The caller has reported that content of this torrent changed or is gone: it counts as failed, and pieces of
    /// missing and shortened files are not served. May block.
    pub fn handle_lost(&self, info_hash: InfoHash) {
        let Some(torrent) = self.torrents().get(&info_hash).cloned() else { return };
        torrent.content.handle_reported_loss();
        (0..torrent.content.store.layout().file_count()).for_each(|file_index| torrent.recheck(file_index));
        self.session().inspect(|session| session.wake(&torrent));
    }

    /// A peer announced itself to our own tracker. Our own peer is not counted.
    pub fn handle_sighting(&self, info_hash: InfoHash, sighting: Sighting) {
        let Some(hosts) = &self.hosts else { return };
        if self.session().is_none_or(|session| session.peer_id() != sighting.peer_id) {
            hosts.handle_sighting(info_hash, sighting);
        }
    }

    /// A connection shows the pieces that a peer has. Ignored after the torrent was removed, whose connections end after
    /// [`Self::forget_hosts`].
    pub(super) fn handle_connection_sighting(&self, info_hash: InfoHash, sighting: Sighting) {
        let Some(hosts) = &self.hosts else { return };
        // Locked until the host is counted, so that the torrent is not removed meanwhile.
        let torrents = self.torrents();
        if torrents.contains_key(&info_hash) {
            hosts.handle_sighting(info_hash, sighting);
        }
    }

    /// Returns the hosts of a torrent; none if hosts are not counted.
    pub fn host_counts(&self, info_hash: InfoHash) -> HostCounts {
        self.hosts.as_ref().map(|hosts| hosts.counts(info_hash)).unwrap_or_default()
    }

    /// Returns the next host that has all pieces of a torrent of the session.
    pub fn poll_completed_host(&self) -> Option<CompletedHost> {
        loop {
            let HostCompletion { info_hash, ip, counts } = self.hosts.as_ref()?.poll_completion()?;
            if let Some(torrent) = self.torrents().get(&info_hash) {
                return Some(CompletedHost { info_hash, name: torrent.name.clone(), ip, counts });
            }
        }
    }

    /// Returns the hosts of all torrents together, without those that failed.
    pub fn host_summary(&self) -> HostSummary {
        let torrents = self.torrents();
        let mut served: Vec<&Torrent> =
            torrents.values().map(Arc::as_ref).filter(|torrent| !torrent.has_failed()).collect();
        served.sort_unstable_by_key(|torrent| torrent.number);
        HostSummary::of(served.iter().map(|torrent| (&*torrent.name, self.host_counts(torrent.info_hash))))
    }

    /// Removes a torrent from the session. Its hosts stay counted.
    pub(super) fn remove(&self, info_hash: InfoHash) -> Option<Arc<Torrent>> {
        self.torrents_mut().remove(&info_hash)
    }

    /// Forgets the hosts of a torrent that was removed.
    pub(super) fn forget_hosts(&self, info_hash: InfoHash) {
        self.hosts.iter().for_each(|hosts| hosts.remove(info_hash));
    }

    /// Fills `buffer` with the bytes of a file from `offset` on, and returns the identity of the file. Hashes pieces
    /// that are not verified yet. Fails if a piece is missing or has a wrong hash. May block.
    pub fn read(
        &self,
        info_hash: InfoHash,
        file_index: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<FileIdentity> {
        let torrent = self.torrents().get(&info_hash).cloned().ok_or(io::ErrorKind::NotFound)?;
        let span = FileSpan { file_index, offset, len: buffer.len() as u64 };
        Reader { contents: self, torrent: &torrent }.read(span, buffer)
    }
}

/// A read of verified bytes.
struct Reader<'a> {
    contents: &'a Contents,
    torrent: &'a Torrent,
}

impl Reader<'_> {
    fn read(&self, span: FileSpan, buffer: &mut [u8]) -> io::Result<FileIdentity> {
        let Torrent { content, swarm, .. } = self.torrent;
        let geometry = &swarm.geometry;
        let pieces = || geometry.pieces_of_span(span).filter_map(|index| geometry.piece(index));
        let mut shortage = None;
        for _ in 0..limits::VERIFIED_READ_TRIES {
            pieces().try_for_each(|piece| self.wait_until_verified(piece))?;
            let (file_index, identity) = match content.store.read_span(span, buffer, &mut |_| (), &content.on_change())
            {
                Ok(Some(read)) => read,
                Ok(None) => return Err(io::Error::new(io::ErrorKind::NotFound, "a pad file has no bytes of its own")),
                Err(error) if error.is_transient() => {
                    shortage = Some(io::Error::other(error));
                    thread::sleep(limits::FILE_TIME_GRAIN);
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            let mut is_verified = false;
            let files = [(file_index, identity)];
            let are_verified = || pieces().all(|piece| content.readiness.is_verified(piece));
            content.store.if_unchanged(&files, || is_verified = are_verified());
            if is_verified {
                return Ok(identity);
            }
        }
        Err(shortage.unwrap_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, "the file keeps changing")))
    }

    /// Hashes a piece if it is not verified yet. If another thread hashes it, waits for that thread while the torrent
    /// is served. Blocks.
    fn wait_until_verified(&self, piece: PieceIndex) -> io::Result<()> {
        let Torrent { content, swarm, info_hash, .. } = self.torrent;
        let readiness = &content.readiness;
        let lost = || io::Error::new(io::ErrorKind::NotFound, "this part of the file is missing or wrong");
        let mut failures = 0;
        while failures < limits::VERIFIED_READ_TRIES {
            // A verification that begins while the session ends may never be reported.
            if !swarm.pieces.has(piece) || !self.contents.torrents().contains_key(info_hash) {
                return Err(lost());
            }
            match readiness.poll_verified(piece) {
                Verification::Done => return Ok(()),
                Verification::Failed => return Err(lost()),
                Verification::UnderWay => thread::sleep(limits::FILE_TIME_GRAIN),
                Verification::Begun => {
                    // No other thread begins it before the guard is dropped, even after a panic.
                    let begun = VerifyGuard { contents: self.contents, readiness, piece };
                    let is_settled = self.torrent.verify(piece);
                    drop(begun);
                    if self.torrent.content.has_unservable() {
                        // The status of the torrent changes.
                        self.contents.session().inspect(|session| session.wake(self.torrent));
                    }
                    if !is_settled {
                        failures += 1;
                        thread::sleep(limits::FILE_TIME_GRAIN);
                    }
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "can't verify the piece: the file keeps changing, or memory is short",
        ))
    }
}

/// A verification in progress. On drop it wakes the connections that wait for content, and makes the piece available
/// for another verification if no result was reported.
struct VerifyGuard<'a> {
    contents: &'a Contents,
    readiness: &'a ReadinessTable,
    piece: PieceIndex,
}

impl Drop for VerifyGuard<'_> {
    fn drop(&mut self) {
        self.readiness.handle_unhashed(self.piece);
        self.contents.session().inspect(|session| session.announce_ready());
    }
}

#[cfg(test)]
impl Contents {
    /// The content of one torrent below `folder`, without a session.
    pub(crate) fn of(metainfo: crate::codec::metainfo::Metainfo, folder: &std::path::Path) -> Arc<Self> {
        use crate::engine::config::{Config, Identity, Provenance, RateLimits, Source};
        use crate::engine::files::writeback::WriteMode;
        use crate::engine::network::listen::Listen;
        let contents = Arc::new(Self::default());
        let config = Config {
            identity: Identity::generate(&mut crate::base::Rng::new()),
            listen: Listen::FirstFree,
            ring_count: 1,
            streams: crate::engine::config::StreamLimit::NONE,
            arena_len: 0,
            slots: crate::swarm::choker::Slots::Auto,
            connections_max: 1,
            leeching_max: 1,
            peers: Vec::new(),
            announce_ip: None,
            users_trackers: Arc::new([]),
            filter: crate::base::cidr::AddressFilter::default(),
            device: None,
            dscp: None,
            write_mode: WriteMode::default(),
            cache_mode: super::CacheMode::default(),
            driver: crate::io::Driver::Plain,
            zero_copy: crate::io::ZeroCopyMode::Off,
            preallocate: false,
            keep_seeding: true,
            timeout: None,
            sequential: false,
            super_seed: false,
            rates: RateLimits::default(),
            monitor: None,
            contents: contents.clone(),
        };
        let have = crate::base::Bitfield::full(metainfo.info.geometry.piece_count());
        let source = Source {
            folder: folder.to_owned(),
            have,
            choices: None,
            provenance: Provenance::Unknown,
            target: None,
            earlier: None,
            tiers: Vec::new(),
            peers: Vec::new(),
            link_peers: Vec::new(),
            loss_reports: crate::engine::LossReports::Engine,
            metainfo,
        };
        let (torrent, _) = crate::engine::control::prepare::prepare(source, &config, 1, 0).unwrap();
        contents.torrents_mut().insert(torrent.info_hash, torrent);
        contents
    }
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
