//! Encoded messages that wait to be sent, except blocks.

use crate::base::{PieceIndex, limits};
use crate::codec::message::Message;

/// Encoded messages that wait to be sent, except blocks. Announcements of pieces may wait for another message, so that
/// they leave in the same send.
#[derive(Debug, Default)]
pub(super) struct ControlQueue {
    bytes: Vec<u8>,
    departure: Departure,
}

/// When the queue leaves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Departure {
    #[default]
    Next,
    /// Only announcements were queued since it last left: it leaves with the next other message or block.
    Held,
}

impl ControlQueue {
    pub(super) fn push(&mut self, message: &Message<'_>) {
        self.departure = Departure::Next;
        message.encode(&mut self.bytes);
    }

    /// Queues an announcement. It does not make the queue leave.
    pub(super) fn push_have(&mut self, piece: PieceIndex) {
        Message::Have { index: piece.get() }.encode(&mut self.bytes);
    }

    /// The encoded bytes, to append messages that the caller encodes.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Lets announcements leave next, even without another message.
    pub(super) fn flush(&mut self) {
        self.departure = Departure::Next;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// More bytes wait than a peer that reads would leave.
    pub(super) fn is_backlogged(&self) -> bool {
        self.bytes.len() > limits::CONTROL_BACKLOG_MAX
    }

    /// Moves the bytes that may leave to `out`. `has_other_output`: other messages or blocks leave at the same time.
    pub(super) fn take(&mut self, has_other_output: bool, out: &mut Vec<u8>) {
        if self.departure == Departure::Next || has_other_output {
            if out.is_empty() {
                // Swapped, not copied: after one long message, such as a bitfield, the connection keeps one long buffer
                // and not two.
                std::mem::swap(out, &mut self.bytes);
            } else {
                out.append(&mut self.bytes);
            }
            self.departure = Departure::Held;
        }
    }
}
