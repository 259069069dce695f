//! The reader task of a connection: decodes messages, and receives blocks into their piece buffers.
//!
//! While requests are outstanding, blocks are received in place, as many in one call as have arrived ([`ReceivePlan`]).
//! Other messages, and bytes that do not match the plan, go through the connection's buffer.

use std::io;
use std::sync::Arc;

use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, Time, limits};
use crate::codec::message::{Decoded, HAVE_LEN, PIECE_HEAD_LEN, decode, decode_haves};
use crate::engine::piece::Piece;
use crate::engine::ring::connection::{CloseReason, Connection};
use crate::engine::shared::received::Received;
use crate::io::{RecvBuffer, ScatterList};
use crate::peer::{LowWater, PeerFault, ReceivePlan};
use crate::storage::{BlockLease, Landed, PieceBuffer};
use crate::swarm::{Link, Receipt};

/// Small receives in a row after which a large buffer is given up.
const SMALL_RECEIVES_MAX: u32 = 64;
/// The number of blocks in the first plan, and the fewest in any later one.
const PLANNED_BLOCKS_MIN: usize = 4;

/// The state of the reader task.
struct Reader {
    /// Received bytes that are not decoded yet: less than a whole message.
    buffer: RecvBuffer,
    plan: ReceivePlan,
    leases: ScatterList<BlockLease, PIECE_HEAD_LEN>,
    /// The maximum number of blocks in a plan: lower if the peer sends other messages between blocks.
    block_count_max: usize,
    small_receives: u32,
}

impl Connection {
    /// Runs to the end of the stream. `buffer` may contain its start.
    pub(super) async fn read(&self, buffer: RecvBuffer) -> Result<(), CloseReason> {
        let mut reader = Reader {
            buffer,
            plan: ReceivePlan::default(),
            leases: ScatterList::default(),
            block_count_max: PLANNED_BLOCKS_MIN,
            small_receives: 0,
        };
        let mut needed = self.handle_received(&mut reader.buffer)?;
        loop {
            let outstanding_count = self.link.borrow().connection().outstanding_count();
            if outstanding_count > 1 {
                self.mark(|low_water| low_water.poll_mark(outstanding_count));
                self.socket.readable().await?;
                let len_max = self.await_limit().await?;
                if self.plan(&mut reader, len_max) {
                    self.receive_planned(&mut reader)?;
                    needed = self.handle_received(&mut reader.buffer)?;
                    if reader.buffer.capacity() > limits::RECV_BUFFER_LEN_MAX {
                        reader.buffer.resize(limits::RECV_BUFFER_LEN_MIN);
                    }
                    continue;
                }
            }
            self.mark(LowWater::poll_any);
            let len_max = self.await_limit().await?;
            self.receive(&mut reader, needed, len_max).await?;
            needed = self.handle_received(&mut reader.buffer)?;
        }
    }

    /// Waits until the rate limit permits a receive. Returns the approximate number of bytes that it permits.
    async fn await_limit(&self) -> Result<usize, CloseReason> {
        loop {
            let now = self.now();
            match self.local.shared.rates.down.poll(now) {
                Ok(len_max) => return Ok(usize::try_from(len_max).unwrap_or(usize::MAX)),
                Err(until) => tokio::time::sleep((until - now).min(limits::RATE_WAIT_MAX)).await,
            }
            if self.ended.get() {
                return Err(CloseReason::Closed);
            }
        }
    }

    /// Receives into the buffer; the next message has `needed` bytes in total. A full buffer doubles, up to `len_max`.
    /// It shrinks after small receives, so that an idle peer does not hold memory that a busy one needs.
    async fn receive(&self, reader: &mut Reader, needed: usize, len_max: usize) -> Result<(), CloseReason> {
        let len_max = limits::RECV_BUFFER_LEN_MAX.min(len_max);
        let mut buffer = std::mem::take(&mut reader.buffer);
        let free = buffer.capacity() - buffer.filled().len();
        let doubled = |buffer: &RecvBuffer| (2 * buffer.capacity()).min(len_max);
        if needed > buffer.capacity() || (free == 0 && buffer.capacity() < len_max) {
            buffer.resize(doubled(&buffer).max(needed));
        }
        let free = buffer.capacity() - buffer.filled().len();
        let result;
        (result, buffer) = self.socket.recv(buffer).await;
        let received = result?;
        if received == 0 || self.ended.get() {
            return Err(CloseReason::Closed);
        }
        self.local.shared.rates.down.charge(self.now(), received as u64);
        if received == free && buffer.capacity() < len_max {
            buffer.resize(doubled(&buffer));
        }
        let small = received < limits::RECV_BUFFER_LEN_MIN / 2;
        reader.small_receives = if small { reader.small_receives + 1 } else { 0 };
        if reader.small_receives > SMALL_RECEIVES_MAX && buffer.capacity() > limits::RECV_BUFFER_LEN_MIN {
            buffer.resize(limits::RECV_BUFFER_LEN_MIN);
        }
        reader.buffer = buffer;
        Ok(())
    }

    /// Leases the memory of the next expected blocks, about `len_max` bytes. Returns false if the next bytes are not an
    /// expected block, or their memory can't be leased.
    fn plan(&self, reader: &mut Reader, len_max: usize) -> bool {
        let Reader { buffer, plan, leases, block_count_max, .. } = reader;
        let link = self.link.borrow();
        let mut expected = link.expected();
        let front = if buffer.filled().is_empty() { None } else { expected.next().map(|(block, _)| block) };
        if !plan.begin(buffer.filled(), front) {
            return false;
        }
        let block_count = (len_max / BLOCK_LEN as usize).clamp(1, *block_count_max);
        for (block, open) in expected.take(block_count) {
            let Some(lease) = open.and_then(|open| open.buffer().lease(block.block_index())) else { break };
            plan.push(block);
            leases.push(lease);
        }
        !leases.is_empty()
    }

    /// Receives as planned, and lands the complete blocks. The remaining bytes go into the buffer.
    fn receive_planned(&self, reader: &mut Reader) -> Result<(), CloseReason> {
        let Reader { buffer, plan, leases, block_count_max, .. } = reader;
        let front_len = plan.front_len();
        buffer.reserve(front_len);
        let len = match self.socket.try_recv(buffer, front_len, leases) {
            Ok(0) => return Err(CloseReason::Closed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            received => received?,
        };
        if self.ended.get() {
            return Err(CloseReason::Closed);
        }
        self.local.shared.rates.down.charge(self.now(), len as u64);
        let received = plan.handle_received(len, buffer.filled(), leases.heads());
        *block_count_max = if received.foreign {
            (*block_count_max / 2).max(PLANNED_BLOCKS_MIN)
        } else {
            (*block_count_max * 2).min(limits::PLANNED_BLOCKS_MAX)
        };
        let now = self.now();
        self.low_water.borrow_mut().handle_received(now, len);
        let mut link = self.link.borrow_mut();
        if received.whole > 0 {
            // The block at the front precedes them.
            self.decode(&mut link, buffer, now)?;
        }
        let mut leases = leases.drain();
        for (block, (_, lease)) in plan.blocks().iter().zip(leases.by_ref()).take(received.whole) {
            let BlockRef { piece, begin, len } = *block;
            let receipt = link.receive(now, piece.get(), begin, len, |_, _| lease.land() != Landed::Duplicate)?;
            self.handle_receipt(&link, receipt);
        }
        let mut stray = received.stray;
        buffer.reserve(stray);
        for (head, lease) in leases {
            for bytes in [&head[..], lease.bytes()] {
                let (bytes, _) = bytes.split_at(bytes.len().min(stray));
                buffer.push(bytes);
                stray -= bytes.len();
            }
        }
        Ok(())
    }

    /// Handles every whole message in the buffer. Returns the total length of the next one, as far as it is known.
    fn handle_received(&self, buffer: &mut RecvBuffer) -> Result<usize, CloseReason> {
        let now = self.now();
        let mut link = self.link.borrow_mut();
        let needed = self.decode(&mut link, buffer, now)?;
        link.end_receive(now);
        if link.is_useless() {
            return Err(CloseReason::Useless);
        }
        if link.shared().is_choke_review_due() {
            self.local.shared.control.wake(&self.torrent);
        }
        link.advance(now)?;
        drop(link);
        self.wake();
        Ok(needed)
    }

    /// Decodes the messages in the buffer; see [`Self::handle_received`].
    fn decode(&self, link: &mut Link<PieceBuffer>, buffer: &mut RecvBuffer, now: Time) -> Result<usize, CloseReason> {
        let (mut at, mut needed) = (0, 0);
        while let Some(bytes) = buffer.filled().get(at..).filter(|bytes| !bytes.is_empty()) {
            let haves = link.handle_haves(now, decode_haves(bytes))?;
            if haves > 0 {
                at += haves * HAVE_LEN;
                continue;
            }
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
                    let Some(bytes) = bytes.get(PIECE_HEAD_LEN..end) else {
                        needed = end;
                        break;
                    };
                    let land = |open: &Piece, block: BlockRef| {
                        open.buffer().land(block.block_index(), bytes) != Landed::Duplicate
                    };
                    let receipt = link.receive(now, index, begin, length, land)?;
                    self.handle_receipt(link, receipt);
                    at += end;
                }
            }
        }
        buffer.consume(at);
        Ok(needed)
    }

    /// Records the latency of a block, and hands the piece that it completed to the hash pool.
    fn handle_receipt(&self, link: &Link<PieceBuffer>, receipt: Receipt<PieceBuffer>) {
        if let Some(latency) = receipt.latency {
            self.local.record_latency(latency);
        }
        if let Some(open) = receipt.completed {
            let sink = Arc::clone(&self.local.shared);
            let torrent = self.torrent.clone();
            // A peer that gets no more requests until this piece is verified does not wait for a batch.
            let last = link.is_finishing() || !link.shared().is_proven();
            self.local.shared.pool.submit(Received { sink, torrent, open, ring_index: self.local.index }, last);
        }
    }
}
