//! One peer connection on its ring thread: a reader task and a writer task around a [`Link`].

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

use super::ring::Ring;
use super::serving::{Readiness, STRETCH_LEN};
use super::torrent::Torrent;
use crate::base::escape::printable;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, PieceIndex, Time, limits};
use crate::codec::message::{Bounds, encode_piece_head};
use crate::hash::PieceHasher;
use crate::peer::{PeerFault, Transmit};
use crate::storage::{ReadLease, Slot};
use crate::swarm::{Link, PeerShared};
use crate::uring::{Batch, RecvBuffer, Socket, populate_read, spawn};

/// Queued blocks that are made ready ahead of the writer.
const READ_AHEAD_BLOCKS: usize = 128;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the peer")]
    Closed,
    #[error("not needed: both sides have everything")]
    Useless,
    #[error("stopping")]
    Stopping,
    #[error("the peer does not read")]
    SendStalled,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Fault(#[from] PeerFault),
    #[error("our own storage failed")]
    Storage,
}

/// See the module.
pub(super) struct Connection {
    pub(super) ring: Rc<Ring>,
    pub(super) torrent: Arc<Torrent>,
    pub(super) socket: Socket,
    pub(super) link: RefCell<Link<Slot>>,
    /// The writer has something to do.
    wake: Notify,
    /// The writer's next block is being made ready.
    waiting: Cell<bool>,
    send_since: Cell<Option<Time>>,
    pub(super) ended: Cell<bool>,
    pub(super) bounds: Bounds,
}

impl Connection {
    pub(super) fn new(ring: Rc<Ring>, torrent: Arc<Torrent>, socket: Socket, link: Link<Slot>) -> Self {
        let bounds = Bounds { piece_count: torrent.swarm.geometry.piece_count(), block_len_max: BLOCK_LEN };
        Self {
            ring,
            torrent,
            socket,
            link: RefCell::new(link),
            wake: Notify::new(),
            waiting: Cell::new(false),
            send_since: Cell::new(None),
            ended: Cell::new(false),
            bounds,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.ring.shared.now()
    }

    pub(super) fn shared(&self) -> Arc<PeerShared> {
        self.link.borrow().shared().clone()
    }

    /// The writer looks again at what there is to say.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The writer looks again if it waits for a block to become ready.
    pub(super) fn wake_if_waiting(&self) {
        if self.waiting.get() {
            self.wake();
        }
    }

    /// Ends both tasks. The first reason counts.
    pub(super) fn end(&self, reason: &End) {
        if !self.ended.replace(true) {
            let link = self.link.borrow();
            let client = link.connection().peer_client().map(printable).unwrap_or_default();
            debug!("{}: {} {client}: {reason}", self.torrent.name, link.shared().address);
            self.socket.shutdown();
            self.wake();
        }
    }

    /// What time brings: keep-alives, silence, snubbing, a send that does not move.
    pub(super) fn handle_tick(&self, now: Time) {
        if self.send_since.get().is_some_and(|since| now > since + limits::SEND_STALL_TIMEOUT) {
            return self.end(&End::SendStalled);
        }
        let mut link = self.link.borrow_mut();
        if now >= link.poll_timeout() {
            let outcome = link.handle_timeout(now);
            drop(link);
            match outcome {
                Ok(()) => self.wake(),
                Err(fault) => self.end(&fault.into()),
            }
        }
    }

    /// Runs both tasks to the end of the connection; `buffer` may hold bytes that came behind the handshake.
    pub(super) async fn run(self: Rc<Self>, buffer: RecvBuffer) {
        let writer = spawn({
            let connection = self.clone();
            async move {
                if let Err(reason) = connection.write().await {
                    connection.end(&reason);
                }
            }
        });
        if let Err(reason) = self.read(buffer).await {
            self.end(&reason);
        }
        let _ = writer.await;
    }

    async fn write(self: &Rc<Self>) -> Result<(), End> {
        let mut transmit = Transmit::default();
        let mut batch = Batch::default();
        loop {
            if self.ended.get() {
                return Err(End::Closed);
            }
            if !self.poll_transmit(&mut transmit)? {
                self.wake.notified().await;
                continue;
            }
            let sent = self.fill(&transmit, &mut batch)?;
            self.send_since.set(Some(self.now()));
            let result;
            (result, batch) = self.socket.send_all(batch).await;
            self.send_since.set(None);
            batch.clear();
            if let Err(error) = result {
                return Err(self.handle_send_error(error, &transmit).await);
            }
            self.link.borrow().handle_sent(sent);
        }
    }

    fn poll_transmit(self: &Rc<Self>, transmit: &mut Transmit) -> Result<bool, End> {
        let now = self.now();
        self.link.borrow_mut().sync(now)?;
        self.link.borrow_mut().request_blocks(now);
        self.prepare(now);
        let mut link = self.link.borrow_mut();
        if link.is_useless() {
            return Err(End::Useless);
        }
        Ok(link.poll_transmit(now, transmit, |block| self.torrent.serving.is_ready(block, now)))
    }

    /// Puts control bytes, heads and leases together; returns the payload's length.
    fn fill(&self, transmit: &Transmit, batch: &mut Batch<ReadLease>) -> Result<u64, End> {
        batch.push_bytes(&transmit.control);
        let mut sent = 0;
        for &block in &transmit.blocks {
            let Some(lease) = self.torrent.store.lease(block) else {
                self.torrent.handle_unservable(block.piece, "its file became shorter");
                return Err(End::Storage);
            };
            batch.push_bytes(&encode_piece_head(block.piece.get(), block.begin, block.len));
            batch.push_part(lease);
            sent += u64::from(block.len);
        }
        Ok(sent)
    }

    /// The kernel answers pages it can't read with EFAULT: our fault, not the peer's.
    async fn handle_send_error(&self, error: std::io::Error, transmit: &Transmit) -> End {
        if error.raw_os_error() != Some(libc::EFAULT) {
            return End::Io(error);
        }
        for &BlockRef { piece, begin, len } in &transmit.blocks {
            let start = self.torrent.swarm.geometry.offset_of(piece) + u64::from(begin);
            if !self.populate(&(start..start + u64::from(len))).await {
                self.torrent.handle_unservable(piece, "its file became shorter or can't be read");
            }
        }
        End::Storage
    }

    /// Starts what the next queued blocks need, and refuses those that can't be sent.
    fn prepare(self: &Rc<Self>, now: Time) {
        let mut unservable: Vec<PieceIndex> = Vec::new();
        let mut waiting = false;
        for &block in self.link.borrow().connection().queued().take(READ_AHEAD_BLOCKS) {
            match self.torrent.serving.poll(block, now) {
                Readiness::Ready => continue,
                Readiness::Wait => {}
                Readiness::Verify(piece) => self.start_verify(piece),
                Readiness::Populate(stretch) => self.start_populate(stretch),
                Readiness::Unservable => unservable.push(block.piece),
            }
            waiting = true;
        }
        self.waiting.set(waiting);
        unservable.dedup();
        unservable.into_iter().for_each(|piece| self.link.borrow_mut().refuse_piece(piece));
    }

    /// Hashes a piece on disk before it is served for the first time.
    fn start_verify(&self, piece: PieceIndex) {
        let (shared, torrent) = (Arc::clone(&self.ring.shared), self.torrent.clone());
        self.ring.shared.pool.spawn(move || {
            let mut buffer = vec![0; limits::HASH_READ_LEN];
            let mut hasher = PieceHasher::default();
            match torrent.store.read_piece(piece, &mut buffer, |bytes| hasher.update(bytes)) {
                Ok(()) if torrent.hashes.get(piece.at()) == Some(&hasher.finish()) => {
                    torrent.serving.handle_verified(piece);
                }
                Ok(()) => torrent.handle_unservable(piece, "its data does not match the torrent"),
                Err(error) => torrent.handle_unservable(piece, &error.to_string()),
            }
            shared.announce_ready();
        });
    }

    /// Maps and reads a stretch of the content into memory, off the ring thread.
    fn start_populate(self: &Rc<Self>, stretch: u64) {
        let connection = self.clone();
        spawn(async move {
            let range = stretch * STRETCH_LEN..(stretch + 1) * STRETCH_LEN;
            if !connection.populate(&range).await {
                connection.populate_pieces(&range).await;
            }
            connection.torrent.serving.handle_populated(stretch, connection.now());
            connection.ring.shared.announce_ready();
        });
    }

    /// When not all of a stretch can be read, only the pieces that lie in what is missing are lost.
    async fn populate_pieces(&self, stretch: &Range<u64>) {
        let geometry = &self.torrent.swarm.geometry;
        let piece_len = u64::from(geometry.piece_len());
        let indices = stretch.start / piece_len..stretch.end.div_ceil(piece_len);
        for piece in indices.filter_map(|index| geometry.piece(u32::try_from(index).ok()?)) {
            let start = geometry.offset_of(piece);
            let end = start + u64::from(geometry.len_of(piece));
            let part = start.max(stretch.start)..end.min(stretch.end);
            if self.torrent.swarm.pieces.has(piece) && !self.populate(&part).await {
                self.torrent.handle_unservable(piece, "its file is missing, too short or can't be read");
            }
        }
    }

    /// False when not all of this range of the content can be mapped and read.
    async fn populate(&self, range: &Range<u64>) -> bool {
        let (offset, len) = (range.start, range.end - range.start);
        let lease = match self.torrent.store.lease_range(offset, len) {
            Some(lease) => Some(lease),
            None => {
                let (mapped, done) = tokio::sync::oneshot::channel();
                let torrent = self.torrent.clone();
                self.ring.shared.pool.spawn(move || {
                    let _ = mapped.send(torrent.store.map_range(offset, len).is_ok());
                });
                // A dropped sender is a failed one.
                let mapped = done.await.unwrap_or(false);
                mapped.then(|| self.torrent.store.lease_range(offset, len)).flatten()
            }
        };
        match lease {
            Some(lease) => populate_read(lease).await.0.is_ok(),
            None => false,
        }
    }
}

/// How long a ring waits for its connections when it stops.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
