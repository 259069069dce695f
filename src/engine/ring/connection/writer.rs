//! The sending half of a connection: its writer task, and what makes queued blocks ready to leave.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::limits::EXTENT_LEN;
use crate::base::{BlockRef, PieceIndex, Time, limits};
use crate::codec::message::encode_piece_head;
use crate::engine::files::readiness::Readiness;
use crate::engine::files::readiness::ResidencyClock;
use crate::engine::ring::connection::{CloseReason, Connection};
use crate::engine::shared::page_cache::Extent;
use crate::peer::Transmit;
use crate::storage::ReadLease;
use crate::swarm::limiter;
use crate::uring::{Batch, spawn};

impl Connection {
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
            // The batch is the kernel's until the peer has acknowledged it.
            Some(sender) if sender.takes(payload_len) => (sender.send_all(&self.socket, batch).await, Batch::default()),
            _ => self.socket.send_all(batch).await,
        }
    }

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
        let something = link.poll_transmit(now, transmit, |block| {
            let leaves = left > 0 && self.torrent.content.readiness.is_ready(block, clock);
            left = left.saturating_sub(if leaves { block.len.into() } else { 0 });
            leaves
        });
        if let (Err(until), Some(_)) = (limit, link.connection().queued().next()) {
            self.wake_at(until);
        }
        Ok(something)
    }

    /// What may leave now by all limits; among torrents, those that wait for the session's line take turns.
    fn poll_limit(&self, now: Time, waits: bool) -> Result<u64, Time> {
        let shared = &self.local.shared;
        let (session, own) = (shared.rates.up.poll(now), self.torrent.upload.limiter.poll(now));
        let shares = waits && own.is_ok() && shared.rates.up.is_limited();
        let session =
            if shares { shared.rates.fair_queue.poll(&self.torrent.upload.share, now, session) } else { session };
        limiter::narrowest([session, own])
    }

    /// Another program may have written to, truncated, removed or replaced what is about to leave.
    async fn recheck_files(&self, transmit: &Transmit) {
        let files = self.torrent.content.files_to_recheck(&transmit.blocks, self.now());
        if !files.is_empty() {
            let torrent = self.torrent.clone();
            let recheck = move || files.into_iter().for_each(|file_index| torrent.recheck(file_index));
            // After the session nothing is sent either.
            let _ = self.local.shared.files.run(&self.torrent.content.file_share, recheck).await;
        }
    }

    /// Blocks whose file has changed since they were ready wait until their pieces are hashed again.
    async fn await_verified(self: &Rc<Self>, transmit: &Transmit) -> Result<(), CloseReason> {
        let is_verified = |block: &BlockRef| self.torrent.content.readiness.is_verified(block.piece);
        while !transmit.blocks.iter().all(is_verified) {
            let clock = self.local.shared.page_cache.clock(self.now());
            let mut waits = false;
            for &block in transmit.blocks.iter().filter(|block| !is_verified(block)) {
                match self.torrent.content.readiness.poll(block, clock) {
                    Readiness::Ready => continue,
                    Readiness::Wait => {}
                    Readiness::Verify(piece) => self.start_verify(piece),
                    Readiness::Populate(extent) => self.start_populate(extent),
                    Readiness::Unservable => return Err(CloseReason::Storage),
                }
                waits = true;
            }
            if waits {
                self.waiting.set(true);
                self.wake.notified().await;
            }
            if self.ended.get() {
                return Err(CloseReason::Closed);
            }
        }
        Ok(())
    }

    /// What a block lay in may have given way to other content since it was ready: then it is brought into memory again. False
    /// if a file has changed meanwhile.
    async fn take_leases(&self, transmit: &Transmit, leases: &mut Vec<ReadLease>) -> Result<bool, CloseReason> {
        leases.clear();
        for &block in &transmit.blocks {
            let lease = loop {
                if let Some(lease) = self.torrent.content.store.lease(block) {
                    break lease;
                }
                match self.populate(&self.torrent.content.range_of(block)).await {
                    _ if self.ended.get() => return Err(CloseReason::Closed),
                    Populated::There => {}
                    Populated::Later => tokio::time::sleep(limits::READ_RETRY_PAUSE).await,
                    Populated::Lost => {
                        self.torrent.handle_unservable(block.piece, "its file became shorter");
                        return Err(CloseReason::Storage);
                    }
                }
            };
            // Of a file that was replaced it may be one of the new file, which has not been hashed.
            if !self.torrent.content.readiness.is_verified(block.piece) {
                return Ok(false);
            }
            leases.push(lease);
        }
        Ok(true)
    }

    /// The writer looks again then, or earlier.
    fn wake_at(self: &Rc<Self>, until: Time) {
        if !self.held.replace(true) {
            let connection = self.clone();
            spawn(async move {
                let wait = until.saturating_sub(connection.now()).min(limits::RATE_WAIT_MAX);
                tokio::time::sleep(wait).await;
                connection.held.set(false);
                connection.wake();
            });
        }
    }

    /// Puts control bytes, heads and leases together; returns the payload's length.
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

    /// The kernel answers pages it can't read with EFAULT: our fault, not the peer's.
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

    /// Starts what the next queued blocks need, and refuses those that can't be sent.
    fn prepare(self: &Rc<Self>, now: Time) {
        let mut unservable: Vec<PieceIndex> = Vec::new();
        let mut waiting = false;
        let clock = self.local.shared.page_cache.clock(now);
        self.recheck_residency(clock);
        for &block in self.link.borrow().connection().queued().take(self.local.shared.read_ahead_blocks()) {
            match self.torrent.content.readiness.poll(block, clock) {
                Readiness::Ready => continue,
                Readiness::Wait => {}
                Readiness::Verify(piece) => self.start_verify(piece),
                Readiness::Populate(extent) => self.start_populate(extent),
                Readiness::Unservable => unservable.push(block.piece),
            }
            waiting = true;
        }
        self.waiting.set(waiting);
        unservable.dedup();
        unservable.into_iter().for_each(|piece| self.link.borrow_mut().refuse_piece(piece));
    }

    /// The kernel takes pages back without a word, and others cut files: what leaves next is looked at once more, neighbours
    /// together.
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
                // Else every connection would wait for its hash.
                None => torrent.handle_unservable(piece, "its check panicked"),
            }
            shared.rings.announce_ready();
        });
    }

    /// Brings a extent of the content into memory, off the ring thread.
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
            let leaving = shared.page_cache.handle_populated(torrent, extent);
            torrent.content.readiness.handle_populated(extent, shared.page_cache.clock(shared.now()));
            shared.rings.announce_ready();
            if let Some(Extent { torrent, index: extent }) =
                leaving.filter(|leaving| leaving.torrent.content.readiness.begin_leave(leaving.index))
            {
                let owner = torrent.clone();
                let drop_range = move || owner.content.store.drop_range(extent * EXTENT_LEN, EXTENT_LEN);
                let _ = shared.files.run(&torrent.content.file_share, drop_range).await;
                torrent.content.readiness.handle_left(extent);
                shared.rings.announce_ready();
            }
        });
    }

    /// When not all of a extent can be read, only the pieces that lie in what is missing are lost.
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
                    Populated::There => {}
                    Populated::Later => return Populated::Later,
                    Populated::Lost => {
                        self.torrent.handle_unservable(piece, "its file is missing, too short or can't be read");
                    }
                }
            }
        }
        Populated::There
    }

    async fn populate(&self, range: &Range<u64>) -> Populated {
        let (torrent, offset, len) = (self.torrent.clone(), range.start, range.end - range.start);
        let populate = move || torrent.populate(offset, len);
        match self.local.shared.files.run(&self.torrent.content.file_share, populate).await {
            Some(Ok(())) => Populated::There,
            Some(Err(error)) if !error.is_transient() => Populated::Lost,
            // Without an answer the session has ended, which says nothing of the file either.
            _ => Populated::Later,
        }
    }
}

/// What became of bringing a range of the content into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Populated {
    There,
    /// The machine lacks what that takes.
    Later,
    /// Not all of it can be mapped or read.
    Lost,
}
