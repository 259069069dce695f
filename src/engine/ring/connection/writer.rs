//! The writer task of a connection, and the work that makes queued blocks ready to be sent.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::limits::EXTENT_LEN;
use crate::base::{BlockRef, PieceIndex, Time, limits};
use crate::codec::message::encode_piece_head;
use crate::engine::files::readiness::{Readiness, ResidencyClock};
use crate::engine::ring::connection::{CloseReason, Connection};
use crate::engine::shared::page_cache::Extent;
use crate::io::{Batch, spawn};
use crate::peer::Transmit;
use crate::storage::ReadLease;
use crate::swarm::limiter;

impl Connection {
    /// Runs until the connection ends.
    pub(super) async fn write(self: &Rc<Self>) -> Result<(), CloseReason> {
        let mut transmit = Transmit::default();
        let mut leases = Vec::new();
        let mut batch = Batch::default();
        loop {
            if self.ended.get() {
                return Err(CloseReason::Closed);
            }
            if !self.poll_transmit(&mut transmit)? {
                self.wake.notified().await;
                continue;
            }
            loop {
                self.recheck_files(&transmit).await;
                self.await_verified(&transmit).await?;
                if self.take_leases(&transmit, &mut leases).await? {
                    break;
                }
            }
            let sent = self.fill(&transmit, &mut leases, &mut batch);
            let since = self.now();
            for limiter in [&self.local.shared.rates.up, &self.torrent.upload.limiter] {
                limiter.charge(since, sent as u64);
            }
            if self.local.shared.rates.up.is_limited() {
                self.local.shared.rates.fair_queue.charge(&self.torrent.upload.share, sent as u64);
            }
            self.send_since.set(Some(since));
            let result;
            (result, batch) = self.send(batch, sent).await;
            self.send_since.set(None);
            transmit.handle_sent(self.now().saturating_sub(since));
            batch.clear();
            if let Err(error) = result {
                return Err(self.handle_send_error(error, &transmit).await);
            }
            self.link.borrow().handle_sent(sent as u64);
        }
    }

    async fn send(&self, batch: Batch<ReadLease>, payload_len: usize) -> (io::Result<()>, Batch<ReadLease>) {
        match &self.zero_copy {
            // The kernel owns the batch until the peer has acknowledged it.
            Some(sender) if sender.takes(payload_len) => (sender.send_all(&self.socket, batch).await, Batch::default()),
            _ => self.socket.send_all(batch).await,
        }
    }

    /// Fills `transmit` with messages and ready blocks. Returns false if there is nothing to send.
    fn poll_transmit(self: &Rc<Self>, transmit: &mut Transmit) -> Result<bool, CloseReason> {
        let now = self.now();
        self.link.borrow_mut().advance(now)?;
        self.prepare(now);
        let mut link = self.link.borrow_mut();
        if link.is_useless() {
            return Err(CloseReason::Useless);
        }
        let clock = self.local.shared.page_cache.clock(now);
        let limit = self.poll_limit(now, link.connection().queued().next().is_some());
        let mut left = limit.unwrap_or(0);
        let has_data = link.poll_transmit(now, transmit, |block| {
            let leaves = left > 0 && self.torrent.content.readiness.is_ready(block, clock);
            left = left.saturating_sub(if leaves { block.len.into() } else { 0 });
            leaves
        });
        if let (Err(until), Some(_)) = (limit, link.connection().queued().next()) {
            self.wake_at(until);
        }
        Ok(has_data)
    }

    /// Returns the number of bytes that all rate limits permit, or the time until which none is permitted. Torrents
    /// that wait for the session's limit take turns.
    fn poll_limit(&self, now: Time, waits: bool) -> Result<u64, Time> {
        let shared = &self.local.shared;
        let (session, own) = (shared.rates.up.poll(now), self.torrent.upload.limiter.poll(now));
        let shares = waits && own.is_ok() && shared.rates.up.is_limited();
        let session =
            if shares { shared.rates.fair_queue.poll(&self.torrent.upload.share, now, session) } else { session };
        limiter::narrowest([session, own])
    }

    /// Rechecks the files that are about to be sent: another program may have written to, truncated, removed or
    /// replaced them.
    async fn recheck_files(&self, transmit: &Transmit) {
        let files = self.torrent.content.files_to_recheck(&transmit.blocks, self.now());
        if !files.is_empty() {
            let torrent = self.torrent.clone();
            let recheck = move || files.into_iter().for_each(|file_index| torrent.recheck(file_index));
            // If the session has ended, nothing is sent either.
            let _ = self.local.shared.files.run(&self.torrent.content.file_share, recheck).await;
        }
    }

    /// Waits until the blocks whose file has changed since they were ready are verified again.
    async fn await_verified(self: &Rc<Self>, transmit: &Transmit) -> Result<(), CloseReason> {
        let is_verified = |block: &BlockRef| self.torrent.content.readiness.is_verified(block.piece);
        while !transmit.blocks.iter().all(is_verified) {
            let clock = self.local.shared.page_cache.clock(self.now());
            let mut waits = false;
            for &block in transmit.blocks.iter().filter(|block| !is_verified(block)) {
                match self.poll_ready(block, clock) {
                    Readiness::Ready => continue,
                    Readiness::Wait => {}
                    Readiness::Verify(piece) => self.start_verify(piece),
                    Readiness::Populate(extent) => self.start_populate(extent),
                    Readiness::Unservable => return Err(CloseReason::Storage),
                }
                waits = true;
            }
            if waits {
                self.awaits_block.set(true);
                self.wake.notified().await;
            }
            if self.ended.get() {
                return Err(CloseReason::Closed);
            }
        }
        Ok(())
    }

    /// Leases the blocks. The mapping of a block may have been dropped for other content since the block was ready: it
    /// is then populated again. Returns false if a file has changed meanwhile.
    async fn take_leases(&self, transmit: &Transmit, leases: &mut Vec<ReadLease>) -> Result<bool, CloseReason> {
        leases.clear();
        for &block in &transmit.blocks {
            let lease = loop {
                if let Some(lease) = self.torrent.content.store.lease(block) {
                    break lease;
                }
                match self.populate(&self.torrent.content.range_of(block)).await {
                    _ if self.ended.get() => return Err(CloseReason::Closed),
                    Populated::Done => {}
                    Populated::Later => tokio::time::sleep(limits::READ_RETRY_PAUSE).await,
                    Populated::Lost => {
                        self.torrent.handle_unservable(block.piece, "its file became shorter");
                        return Err(CloseReason::Storage);
                    }
                }
            };
            // If the file was replaced, the lease may be of the new file, which has not been hashed.
            if !self.torrent.content.readiness.is_verified(block.piece) {
                return Ok(false);
            }
            leases.push(lease);
        }
        Ok(true)
    }

    /// Wakes the writer at `until` or earlier.
    fn wake_at(self: &Rc<Self>, until: Time) {
        if !self.is_throttled.replace(true) {
            let connection = self.clone();
            spawn(async move {
                let wait = until.saturating_sub(connection.now()).min(limits::RATE_WAIT_MAX);
                tokio::time::sleep(wait).await;
                connection.is_throttled.set(false);
                connection.wake();
            });
        }
    }

    /// Assembles control bytes, piece heads and leases. Returns the length of the payload.
    fn fill(&self, transmit: &Transmit, leases: &mut Vec<ReadLease>, batch: &mut Batch<ReadLease>) -> usize {
        batch.push_bytes(&transmit.control);
        let mut sent = 0;
        for (&block, lease) in transmit.blocks.iter().zip(leases.drain(..)) {
            batch.push_bytes(&encode_piece_head(block.piece.get(), block.begin, block.len));
            batch.push_part(lease);
            sent += block.len as usize;
        }
        sent
    }

    /// Returns the reason for a failed send. The kernel reports pages that it can't read as EFAULT: a fault of our
    /// storage.
    async fn handle_send_error(&self, error: io::Error, transmit: &Transmit) -> CloseReason {
        if error.raw_os_error() != Some(libc::EFAULT) {
            return CloseReason::Io(error);
        }
        for &block in &transmit.blocks {
            if self.populate(&self.torrent.content.range_of(block)).await == Populated::Lost {
                self.torrent.handle_unservable(block.piece, "its file became shorter or can't be read");
            }
        }
        CloseReason::Storage
    }

    /// Starts the work that the next queued blocks need, and refuses those that can't be sent.
    fn prepare(self: &Rc<Self>, now: Time) {
        let mut unservable: Vec<PieceIndex> = Vec::new();
        let mut awaits_block = false;
        let clock = self.local.shared.page_cache.clock(now);
        self.recheck_residency(clock);
        for &block in self.link.borrow().connection().queued().take(self.local.shared.read_ahead_blocks()) {
            match self.poll_ready(block, clock) {
                Readiness::Ready => continue,
                Readiness::Wait => {}
                Readiness::Verify(piece) => self.start_verify(piece),
                Readiness::Populate(extent) => self.start_populate(extent),
                Readiness::Unservable => unservable.push(block.piece),
            }
            awaits_block = true;
        }
        self.awaits_block.set(awaits_block);
        unservable.dedup();
        unservable.into_iter().for_each(|piece| self.link.borrow_mut().refuse_piece(piece));
    }

    /// The next step for a block. Extents that are in memory without being known to be so need none.
    fn poll_ready(self: &Rc<Self>, block: BlockRef, clock: ResidencyClock) -> Readiness {
        let content = &self.torrent.content;
        while let Some(extent) = content.readiness.absent_extent(block, clock)
            && content.is_known_resident(extent * EXTENT_LEN, EXTENT_LEN)
            && content.readiness.handle_found(extent, clock)
        {
            self.count_resident(extent);
        }
        content.readiness.poll(block, clock)
    }

    /// Checks the residency of the next blocks again, adjacent blocks together: the kernel reclaims pages without
    /// notice, and other programs truncate files.
    fn recheck_residency(&self, clock: ResidencyClock) {
        let store = &self.torrent.content.store;
        let is_there = |offset, len| {
            let end = self.torrent.content.last_page_behind(offset, len);
            store.is_resident(offset, len) && end.is_none_or(|(offset, len)| store.is_resident(offset, len))
        };
        let check = |range: &Range<u64>| {
            if !range.is_empty() && !is_there(range.start, range.end - range.start) {
                let extents = range.start / EXTENT_LEN..=(range.end - 1) / EXTENT_LEN;
                extents.for_each(|extent| self.torrent.content.readiness.handle_evicted(extent));
            }
        };
        let link = self.link.borrow();
        let next = link.connection().queued().take(limits::SEND_BLOCKS_MAX);
        let mut range = 0..0_u64;
        for &block in next.filter(|&&block| self.torrent.content.readiness.is_ready(block, clock)) {
            let start = self.torrent.swarm.geometry.offset_of(block.piece) + u64::from(block.begin);
            if start != range.end {
                check(&range);
                range.start = start;
            }
            range.end = start + u64::from(block.len);
        }
        check(&range);
    }

    /// Hashes a piece on disk before it is served for the first time.
    fn start_verify(&self, piece: PieceIndex) {
        let (shared, torrent) = (Arc::clone(&self.local.shared), self.torrent.clone());
        spawn(async move {
            let owner = torrent.clone();
            match shared.files.run(&torrent.content.file_share, move || owner.verify(piece)).await {
                Some(true) => {}
                Some(false) => {
                    tokio::time::sleep(limits::READ_RETRY_PAUSE).await;
                    torrent.content.readiness.handle_unhashed(piece);
                }
                // Otherwise every connection would wait for its hash.
                None => torrent.handle_unservable(piece, "verifying it panicked"),
            }
            shared.rings.announce_ready();
        });
    }

    /// Brings an extent of the content into memory, off the ring thread.
    fn start_populate(self: &Rc<Self>, extent: u64) {
        let connection = self.clone();
        spawn(async move {
            let (shared, torrent) = (&connection.local.shared, &connection.torrent);
            let range = extent * EXTENT_LEN..(extent + 1) * EXTENT_LEN;
            let mut populated = connection.populate(&range).await;
            if populated == Populated::Lost {
                populated = connection.populate_pieces(&range).await;
            }
            if populated == Populated::Later {
                tokio::time::sleep(limits::READ_RETRY_PAUSE).await;
                torrent.content.readiness.handle_unpopulated(extent);
                return shared.rings.announce_ready();
            }
            connection.count_resident(extent);
            torrent.content.readiness.handle_populated(extent, shared.page_cache.clock(shared.now()));
            shared.rings.announce_ready();
        });
    }

    /// Counts an extent that came into memory, and drops the one that leaves memory for it.
    fn count_resident(self: &Rc<Self>, extent: u64) {
        let shared = &self.local.shared;
        let leaving = shared.page_cache.handle_populated(&self.torrent, extent);
        let leaving = leaving.and_then(|Extent { torrent, index }| Some((torrent.upgrade()?, index)));
        if let Some((torrent, extent)) = leaving
            && torrent.content.readiness.begin_leave(extent)
        {
            let shared = Arc::clone(shared);
            spawn(async move {
                let owner = torrent.clone();
                let drop_range = move || owner.content.store.drop_range(extent * EXTENT_LEN, EXTENT_LEN);
                let _ = shared.files.run(&torrent.content.file_share, drop_range).await;
                torrent.content.readiness.handle_left(extent);
                shared.rings.announce_ready();
            });
        }
    }

    /// Populates an extent that can't be read as a whole piece by piece, so that only the pieces in its unreadable part
    /// are lost.
    async fn populate_pieces(&self, extent: &Range<u64>) -> Populated {
        let geometry = &self.torrent.swarm.geometry;
        let piece_len = u64::from(geometry.piece_len());
        let indices = extent.start / piece_len..extent.end.div_ceil(piece_len);
        for piece in indices.filter_map(|index| geometry.piece(u32::try_from(index).ok()?)) {
            let start = geometry.offset_of(piece);
            let end = start + u64::from(geometry.len_of(piece));
            let part = start.max(extent.start)..end.min(extent.end);
            if self.torrent.swarm.pieces.has(piece) {
                match self.populate(&part).await {
                    Populated::Done => {}
                    Populated::Later => return Populated::Later,
                    Populated::Lost => {
                        self.torrent.handle_unservable(piece, "its file is missing, too short or can't be read");
                    }
                }
            }
        }
        Populated::Done
    }

    /// Brings a range of the content into memory on a file thread.
    async fn populate(&self, range: &Range<u64>) -> Populated {
        let (torrent, offset, len) = (self.torrent.clone(), range.start, range.end - range.start);
        let populate = move || torrent.populate(offset, len);
        match self.local.shared.files.run(&self.torrent.content.file_share, populate).await {
            Some(Ok(())) => Populated::Done,
            Some(Err(error)) if !error.is_transient() => Populated::Lost,
            // Without a result the session has ended or the work panicked, which says nothing about the file.
            _ => Populated::Later,
        }
    }
}

/// The result of populating a range of the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Populated {
    Done,
    /// The machine lacks resources at the moment.
    Later,
    /// Not all of it can be mapped or read.
    Lost,
}
