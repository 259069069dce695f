//! One peer connection on its ring thread: a reader task and a writer task around a [`Link`].

mod reader;
mod writer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

use crate::base::escape::printable;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Time, limits};
use crate::codec::message::Bounds;
use crate::engine::ring::local::Local;
use crate::engine::ring::streams::{FurtherStreams, StreamOffer};
use crate::engine::torrent::Torrent;
use crate::io::{RecvBuffer, Socket, ZeroCopyRing, ZeroCopySender, spawn};
use crate::peer::{LowWater, PeerFault};
use crate::storage::PieceBuffer;
use crate::swarm::{Link, PeerShared, Reading};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum CloseReason {
    #[error("closed by the peer")]
    Closed,
    #[error("not needed: both sides have all pieces")]
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

/// A peer connection on its ring thread: its socket, its [`Link`], and the state of its reader and writer tasks.
pub(in crate::engine) struct Connection {
    local: Rc<Local>,
    pub(in crate::engine) torrent: Arc<Torrent>,
    socket: Socket,
    zero_copy: Option<ZeroCopySender>,
    link: RefCell<Link<PieceBuffer>>,
    /// The writer has something to do.
    wake: Notify,
    /// The writer waits for a block to become ready.
    awaits_block: Cell<bool>,
    /// The writer waits for a rate limit; a task will wake it.
    is_throttled: Cell<bool>,
    /// The time at which the pending send began.
    send_since: Cell<Option<Time>>,
    /// The bytes that the peer should read.
    unread: Cell<Option<Unread>>,
    ended: Cell<bool>,
    low_water: RefCell<LowWater>,
    bounds: Bounds,
    /// `None` for a further connection to a peer.
    further_streams: Option<FurtherStreams>,
}

/// Bytes that a peer should read, with the time since which neither number has changed.
#[derive(Debug, Clone, Copy)]
struct Unread {
    unacknowledged_len: usize,
    /// Bytes of the ended sends.
    uploaded: u64,
    since: Time,
}

impl Unread {
    fn is(self, unacknowledged_len: usize, uploaded: u64) -> bool {
        (self.unacknowledged_len, self.uploaded) == (unacknowledged_len, uploaded)
    }
}

impl Connection {
    pub(in crate::engine) fn new(
        local: Rc<Local>,
        torrent: Arc<Torrent>,
        socket: Socket,
        link: Link<PieceBuffer>,
        further_streams: Option<FurtherStreams>,
    ) -> Self {
        let bounds = Bounds { piece_count: torrent.swarm.geometry.piece_count(), block_len_max: BLOCK_LEN };
        let low_water = RefCell::new(LowWater::new(local.shared.now()));
        Self {
            zero_copy: local.zero_copy.as_ref().map(ZeroCopyRing::sender),
            local,
            torrent,
            socket,
            link: RefCell::new(link),
            wake: Notify::new(),
            awaits_block: Cell::new(false),
            is_throttled: Cell::new(false),
            send_since: Cell::new(None),
            unread: Cell::new(None),
            ended: Cell::new(false),
            low_water,
            bounds,
            further_streams,
        }
    }

    pub(in crate::engine) fn now(&self) -> Time {
        self.local.shared.now()
    }

    pub(in crate::engine) fn shared(&self) -> Arc<PeerShared> {
        self.link.borrow().shared().clone()
    }

    pub(super) fn further_streams(&self) -> Option<&FurtherStreams> {
        self.further_streams.as_ref()
    }

    /// `None`: one side agrees to no further connection.
    pub(super) fn stream_offer(&self) -> Option<StreamOffer> {
        let link = self.link.borrow();
        let connection = link.connection();
        let max = connection.streams_max()?;
        Some(StreamOffer { max, id: connection.stream_id(), peer_wants: connection.peer_wants_stream() })
    }

    /// Tells the peer that we would like to have a further connection.
    pub(super) fn want_stream(&self) {
        self.link.borrow_mut().want_stream();
        self.wake();
    }

    /// Wakes the writer.
    pub(in crate::engine) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Announces new pieces and applies choke decisions.
    pub(in crate::engine) fn handle_news(&self) {
        self.link.borrow_mut().flush_haves();
        self.wake();
    }

    /// Wakes the writer if it waits for a block to become ready.
    pub(in crate::engine) fn wake_if_waiting(&self) {
        if self.awaits_block.get() {
            self.wake();
        }
    }

    /// Ends both tasks. Only the first call has an effect.
    pub(in crate::engine) fn end(&self, reason: &CloseReason) {
        if !self.ended.replace(true) {
            let link = self.link.borrow();
            let client = link.connection().peer_client().map(printable).unwrap_or_default();
            debug!("{}: {} {client}: {reason}", self.torrent.name, link.shared().address());
            match reason {
                // The pending data of a peer that does not read would stay in the kernel for minutes.
                CloseReason::SendStalled => self.socket.reset(),
                _ => self.socket.shutdown(),
            }
            self.wake();
        }
    }

    /// Handles timeouts: keep-alives, silence, snubbing and stalled sends.
    pub(in crate::engine) fn handle_tick(&self, now: Time) {
        let sends_for_longer = |time| self.send_since.get().is_some_and(|since| now > since + time);
        if sends_for_longer(limits::SEND_STALL_TIMEOUT) {
            return self.end(&CloseReason::SendStalled);
        }
        let reading = match self.reading(now) {
            Reading::Underway if sends_for_longer(limits::SEND_STALL_NOTICE) => Reading::Stalled,
            reading => reading,
        };
        self.link.borrow_mut().follow_use(now, reading);
        self.mark(|low_water| low_water.handle_tick(now));
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

    /// Whether the peer reads the pending send, and with an upload slot also the bytes of earlier ones. It stalls
    /// if it has acknowledged nothing of them for a while.
    fn reading(&self, now: Time) -> Reading {
        let is_sending = self.send_since.get().is_some();
        let left = (is_sending || self.is_served()).then(|| self.socket.unacknowledged_len());
        let left = left.filter(|&len| is_sending || len > 0);
        let unread = left.map(|unacknowledged_len| {
            let uploaded = self.link.borrow().shared().uploaded();
            let seen = self.unread.get().filter(|seen| seen.is(unacknowledged_len, uploaded));
            seen.unwrap_or(Unread { unacknowledged_len, uploaded, since: now })
        });
        self.unread.set(unread);
        match unread {
            None => Reading::Nothing,
            Some(Unread { since, .. }) if now >= since + limits::SEND_UNREAD_NOTICE => Reading::Stalled,
            Some(_) => Reading::Underway,
        }
    }

    /// The peer is interested and has an upload slot.
    fn is_served(&self) -> bool {
        let link = self.link.borrow();
        link.shared().is_interested() && link.shared().is_unchoked()
    }

    /// Sets the low-water mark at which the socket wakes the reader, if it has changed.
    pub(in crate::engine) fn mark(&self, poll: impl FnOnce(&mut LowWater) -> Option<u32>) {
        let changed = poll(&mut self.low_water.borrow_mut());
        changed.into_iter().for_each(|len| self.socket.set_recv_mark(len));
    }

    /// Runs both tasks to the end of the connection; `buffer` may contain bytes that followed the handshake.
    pub(in crate::engine) async fn run(self: Rc<Self>, buffer: RecvBuffer) {
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
}

/// How long a ring waits for its connections when it stops.
pub(in crate::engine) const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
