//! One peer connection on its ring thread: a reader task and a writer task around a [`Link`].

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

use super::receiving::Received;
use super::ring::Ring;
use super::serving::{Readiness, STRETCH_LEN};
use super::torrent::Torrent;
use crate::base::escape::printable;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, PieceIndex, Time, limits};
use crate::codec::message::{Bounds, Decoded, PIECE_HEAD_LEN, decode, encode_piece_head};
use crate::hash::PieceHasher;
use crate::peer::{PeerFault, Transmit};
use crate::storage::{Landed, ReadLease, Slot};
use crate::swarm::{Arrival, Link, PeerShared};
use crate::uring::{Batch, RecvBuffer, Socket, populate_read, spawn};

/// Queued blocks that are made ready ahead of the writer.
const READ_AHEAD_BLOCKS: usize = 128;
/// Small receives in a row after which a large buffer is given up.
const SMALL_RECEIVES_MAX: u32 = 64;

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
    ring: Rc<Ring>,
    torrent: Arc<Torrent>,
    socket: Socket,
    link: RefCell<Link<Slot>>,
    /// The writer has something to do.
    wake: Notify,
    /// The writer's next block is being made ready.
    waiting: Cell<bool>,
    send_since: Cell<Option<Time>>,
    ended: Cell<bool>,
    bounds: Bounds,
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

    fn now(&self) -> Time {
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

    async fn read(&self, mut buffer: RecvBuffer) -> Result<(), End> {
        let mut small_receives = 0;
        loop {
            let needed = self.handle_received(&mut buffer)?;
            let free = buffer.capacity() - buffer.filled().len();
            if needed > buffer.capacity() || (free == 0 && buffer.capacity() < limits::RECV_BUFFER_LEN_MAX) {
                buffer.resize(limits::RECV_BUFFER_LEN_MAX.max(needed));
            }
            let free = buffer.capacity() - buffer.filled().len();
            let result;
            (result, buffer) = self.socket.recv(buffer).await;
            let received = result?;
            if received == 0 || self.ended.get() {
                return Err(End::Closed);
            }
            if received == free && buffer.capacity() < limits::RECV_BUFFER_LEN_MAX {
                buffer.resize(limits::RECV_BUFFER_LEN_MAX);
            }
            small_receives = if received < limits::RECV_BUFFER_LEN_MIN / 2 { small_receives + 1 } else { 0 };
            if small_receives > SMALL_RECEIVES_MAX && buffer.capacity() > limits::RECV_BUFFER_LEN_MIN {
                buffer.resize(limits::RECV_BUFFER_LEN_MIN);
            }
        }
    }

    /// Takes every whole message out of the buffer; returns the bytes that the next one needs in all.
    fn handle_received(&self, buffer: &mut RecvBuffer) -> Result<usize, End> {
        let now = self.now();
        let mut link = self.link.borrow_mut();
        let (mut at, mut needed) = (0, 0);
        while let Some(bytes) = buffer.filled().get(at..).filter(|bytes| !bytes.is_empty()) {
            match decode(bytes, &self.bounds).map_err(PeerFault::from)? {
                Decoded::Incomplete { needed: more } => {
                    needed = more;
                    break;
                }
                Decoded::Message { message, consumed } => {
                    link.handle_message(now, &message)?;
                    at += consumed;
                }
                Decoded::Piece { index, begin, length } => {
                    let end = PIECE_HEAD_LEN + length as usize;
                    let Some(block) = bytes.get(PIECE_HEAD_LEN..end) else {
                        needed = end;
                        break;
                    };
                    let arrival = link.handle_block(now, index, begin, length)?;
                    self.land(&mut link, now, arrival, block);
                    at += end;
                }
            }
        }
        buffer.consume(at);
        link.handle_bytes(now);
        if link.is_useless() {
            return Err(End::Useless);
        }
        if link.shared().choker_due.load(Ordering::Relaxed) {
            self.ring.shared.control.notify_one();
        }
        link.sync(now)?;
        link.request_blocks(now);
        drop(link);
        self.wake();
        Ok(needed)
    }

    fn land(&self, link: &mut Link<Slot>, now: Time, arrival: Arrival<Slot>, bytes: &[u8]) {
        if let Some(latency) = arrival.latency {
            self.ring.record_latency(latency);
        }
        let landed = match &arrival.open {
            Some(open) => open.slot().land(arrival.block.block_index(), bytes),
            None => Landed::Duplicate,
        };
        link.handle_landed(now, &arrival, landed != Landed::Duplicate);
        if let (Landed::Complete, Some(open)) = (landed, arrival.open) {
            let shared = Arc::clone(&self.ring.shared);
            let torrent = self.torrent.clone();
            self.ring.shared.pool.submit(Received { shared, torrent, open, ring_index: self.ring.index });
        }
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
