//! One peer connection on its ring thread: a reader task and a writer task around a [`Link`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

use super::receiving::Received;
use super::ring::Ring;
use super::torrent::Torrent;
use crate::base::escape::printable;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Time, limits};
use crate::codec::message::{Bounds, Decoded, PIECE_HEAD_LEN, decode};
use crate::peer::PeerFault;
use crate::storage::{Landed, Slot};
use crate::swarm::{Arrival, Link, PeerShared};
use crate::uring::{RecvBuffer, Socket, ZeroCopyRing, ZeroCopySender, spawn};

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
    pub(super) ring: Rc<Ring>,
    pub(super) torrent: Arc<Torrent>,
    pub(super) socket: Socket,
    pub(super) zero_copy: Option<ZeroCopySender>,
    pub(super) link: RefCell<Link<Slot>>,
    /// The writer has something to do.
    pub(super) wake: Notify,
    /// The writer's next block is being made ready.
    pub(super) waiting: Cell<bool>,
    pub(super) send_since: Cell<Option<Time>>,
    pub(super) ended: Cell<bool>,
    bounds: Bounds,
}

impl Connection {
    pub(super) fn new(ring: Rc<Ring>, torrent: Arc<Torrent>, socket: Socket, link: Link<Slot>) -> Self {
        let bounds = Bounds { piece_count: torrent.swarm.geometry.piece_count(), block_len_max: BLOCK_LEN };
        Self {
            zero_copy: ring.zero_copy.as_ref().map(ZeroCopyRing::sender),
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
            match reason {
                // What waits for a peer that does not read would wait for minutes more.
                End::SendStalled => self.socket.reset(),
                _ => self.socket.shutdown(),
            }
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
                    self.land(&mut link, arrival, block);
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

    fn land(&self, link: &mut Link<Slot>, arrival: Arrival<Slot>, bytes: &[u8]) {
        if let Some(latency) = arrival.latency {
            self.ring.record_latency(latency);
        }
        let landed = match &arrival.open {
            Some(open) => open.slot().land(arrival.block.block_index(), bytes),
            None => Landed::Duplicate,
        };
        link.handle_landed(&arrival, landed != Landed::Duplicate);
        if let (Landed::Complete, Some(open)) = (landed, arrival.open) {
            let shared = Arc::clone(&self.ring.shared);
            let torrent = self.torrent.clone();
            self.ring.shared.pool.submit(Received { shared, torrent, open, ring_index: self.ring.index });
        }
    }
}

/// How long a ring waits for its connections when it stops.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
