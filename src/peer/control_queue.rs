//! Encoded messages that wait to leave, blocks excepted.

use crate::base::{PieceIndex, limits};
use crate::codec::message::Message;

/// See the module. Announcements of pieces may wait for another message, so that they leave in the same send.
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
    /// Only announcements were queued since it last left: with whatever leaves next.
    WithOthers,
}

impl ControlQueue {
    pub(super) fn push(&mut self, message: &Message<'_>) {
        self.departure = Departure::Next;
        message.encode(&mut self.bytes);
    }

    /// Queues what leaves whenever it leaves.
    pub(super) fn push_have(&mut self, piece: PieceIndex) {
        Message::Have { index: piece.get() }.encode(&mut self.bytes);
    }

    /// To append to the queue what was encoded elsewhere.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Announcements leave next, even if nothing else does.
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

    /// Moves what may leave to `out`. `has_others`: something else leaves at the same time.
    pub(super) fn take(&mut self, has_others: bool, out: &mut Vec<u8>) {
        if self.departure == Departure::Next || has_others {
            out.append(&mut self.bytes);
            self.departure = Departure::WithOthers;
        }
    }
}
