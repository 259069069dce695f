//! Peer messages (BEP 3, 6, 10): a stream of length prefixes and messages.
//!
//! Owns the table of exact lengths: a wrong length prefix is refused before the caller allocates memory or waits for
//! bytes. The connection checks whether an index exists and whether a message is allowed at its time. Of a `piece`,
//! this module reads and writes only the head, never the payload.

use super::reader::Reader;
use crate::base::limits::EXTENDED_MESSAGE_LEN_MAX;

/// Length in bytes of a `piece` message before its payload: length prefix, id, index, begin.
pub const PIECE_HEAD_LEN: usize = 13;

/// Length in bytes of a `have` message.
pub const HAVE_LEN: usize = 9;

/// Length in bytes of the length prefix.
const PREFIX_LEN: usize = 4;
/// Bytes that the length prefix of a `piece` counts besides the payload: id, index, begin.
const PIECE_OVERHEAD: u32 = 9;

mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const NOT_INTERESTED: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PORT: u8 = 9;
    pub(super) const SUGGEST: u8 = 13;
    pub(super) const HAVE_ALL: u8 = 14;
    pub(super) const HAVE_NONE: u8 = 15;
    pub(super) const REJECT: u8 = 16;
    pub(super) const ALLOWED_FAST: u8 = 17;
    pub(super) const EXTENDED: u8 = 20;
}

/// Any message but `piece`. Numbers are those of the wire, not checked against the torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have {
        index: u32,
    },
    /// A bitfield of the exact length for the torrent; its spare bits are not checked.
    Bitfield(&'a [u8]),
    Request {
        index: u32,
        begin: u32,
        length: u32,
    },
    Cancel {
        index: u32,
        begin: u32,
        length: u32,
    },
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// This and the next four messages are of the fast extension (BEP 6).
    Suggest {
        index: u32,
    },
    HaveAll,
    HaveNone,
    Reject {
        index: u32,
        begin: u32,
        length: u32,
    },
    AllowedFast {
        index: u32,
    },
    /// A message of the extension protocol (BEP 10). The id is 0 for the extension handshake, else one that the
    /// receiver assigned.
    Extended {
        id: u8,
        payload: &'a [u8],
    },
    /// A message with an id that this program does not know; its payload is ignored.
    Unknown {
        id: u8,
    },
}

/// The front of a receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded<'a> {
    /// An incomplete message. Decoding can continue when the buffer holds `needed` bytes from its front.
    Incomplete { needed: usize },
    /// A complete message of `consumed` bytes.
    Message { message: Message<'a>, consumed: usize },
    /// The head of a `piece`, [`PIECE_HEAD_LEN`] bytes; `length` payload bytes follow it.
    Piece { index: u32, begin: u32, length: u32 },
}

/// The values on which the exact lengths depend.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub piece_count: u32,
    /// Length in bytes of the longest block that we requested.
    pub block_len_max: u32,
}

impl Bounds {
    fn bitfield_len(&self) -> u32 {
        self.piece_count.div_ceil(8)
    }

    /// Returns the largest length prefix that any message may have.
    fn length_max(&self) -> u32 {
        let piece = self.block_len_max.saturating_add(PIECE_OVERHEAD);
        EXTENDED_MESSAGE_LEN_MAX.max(piece).max(self.bitfield_len() + 1)
    }
}

/// The rule that a peer's message breaks. Lengths are length prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("message of {length} bytes, the longest possible has {max}")]
    TooLong { length: u32, max: u32 },
    #[error("message {id} with a length of {length}, expected {expected}")]
    WrongLength { id: u8, length: u32, expected: u32 },
    #[error("bitfield with a length of {length}, expected {expected} for this torrent")]
    WrongBitfieldLength { length: u32, expected: u32 },
    #[error("piece with a length of {length}: no payload")]
    EmptyPiece { length: u32 },
    #[error("piece with a payload of {payload_len} bytes, at most {max} were requested")]
    PieceTooLong { payload_len: u32, max: u32 },
    #[error("extended message with a length of {length}: no extension id")]
    ExtendedTooShort { length: u32 },
    #[error("message {id} with a length of {length}, at most {max} are allowed")]
    ExtensionTooLong { id: u8, length: u32, max: u32 },
}

/// Reads the message at the front of `bytes`; more messages may follow it.
pub fn decode<'a>(bytes: &'a [u8], bounds: &Bounds) -> Result<Decoded<'a>, MessageError> {
    let mut reader = Reader::new(bytes);
    let Some(length) = reader.u32() else { return Ok(Decoded::Incomplete { needed: PREFIX_LEN }) };
    // BEP 3: "Messages of length zero are keepalives".
    if length == 0 {
        return Ok(Decoded::Message { message: Message::KeepAlive, consumed: PREFIX_LEN });
    }
    if length > bounds.length_max() {
        return Err(MessageError::TooLong { length, max: bounds.length_max() });
    }
    let Some(id) = reader.u8() else { return Ok(Decoded::Incomplete { needed: PREFIX_LEN + 1 }) };
    check_length(id, length, bounds)?;
    if id == id::PIECE {
        let head = reader.u32().zip(reader.u32());
        return Ok(head.map_or(Decoded::Incomplete { needed: PIECE_HEAD_LEN }, |(index, begin)| Decoded::Piece {
            index,
            begin,
            length: length - PIECE_OVERHEAD,
        }));
    }
    let consumed = PREFIX_LEN + length as usize;
    let payload = reader.take(length as usize - 1).and_then(|payload| message(id, payload));
    Ok(payload.map_or(Decoded::Incomplete { needed: consumed }, |message| Decoded::Message { message, consumed }))
}

/// Returns the indices of the complete `have` messages at the front of a receive buffer, up to the first other message.
/// In a large swarm most messages are haves.
pub fn decode_haves(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (messages, _) = bytes.as_chunks::<HAVE_LEN>();
    messages.iter().map_while(|message| match *message {
        [0, 0, 0, 5, id::HAVE, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    })
}

/// Checks a length prefix against the table of exact lengths.
fn check_length(id: u8, length: u32, bounds: &Bounds) -> Result<(), MessageError> {
    let expected = match id {
        // BEP 3: "'choke', 'unchoke', 'interested', and 'not interested' have no payload." Nor have the two haves of
        // BEP 6.
        id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => 1,
        // BEP 3: "The 'have' message's payload is a single number".
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => 5,
        // BEP 3: "'request' messages contain an index, begin, and length"; "'cancel' messages have the same payload".
        id::REQUEST | id::CANCEL | id::REJECT => 13,
        id::PORT => 3,
        id::BITFIELD => {
            let expected = bounds.bitfield_len() + 1;
            let right = length == expected;
            return right.then_some(()).ok_or(MessageError::WrongBitfieldLength { length, expected });
        }
        // BEP 3: "'piece' messages contain an index, begin, and piece".
        id::PIECE => {
            let max = bounds.block_len_max;
            return match length.saturating_sub(PIECE_OVERHEAD) {
                0 => Err(MessageError::EmptyPiece { length }),
                payload_len if payload_len > max => Err(MessageError::PieceTooLong { payload_len, max }),
                _ => Ok(()),
            };
        }
        id::EXTENDED if length < 2 => return Err(MessageError::ExtendedTooShort { length }),
        _ => {
            let max = EXTENDED_MESSAGE_LEN_MAX;
            return (length <= max).then_some(()).ok_or(MessageError::ExtensionTooLong { id, length, max });
        }
    };
    (length == expected).then_some(()).ok_or(MessageError::WrongLength { id, length, expected })
}

/// Reads a payload of the right length; `None` for any other.
fn message(id: u8, payload: &[u8]) -> Option<Message<'_>> {
    let mut reader = Reader::new(payload);
    Some(match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have { index: reader.u32()? },
        id::BITFIELD => Message::Bitfield(payload),
        id::REQUEST => Message::Request { index: reader.u32()?, begin: reader.u32()?, length: reader.u32()? },
        id::CANCEL => Message::Cancel { index: reader.u32()?, begin: reader.u32()?, length: reader.u32()? },
        id::PORT => Message::Port(reader.u16()?),
        id::SUGGEST => Message::Suggest { index: reader.u32()? },
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject { index: reader.u32()?, begin: reader.u32()?, length: reader.u32()? },
        id::ALLOWED_FAST => Message::AllowedFast { index: reader.u32()? },
        id::EXTENDED => Message::Extended { id: reader.u8()?, payload: reader.rest() },
        _ => Message::Unknown { id },
    })
}

impl Message<'_> {
    /// Appends the message with its length prefix. [`Self::Unknown`] is written without a payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend_from_slice(&[0; PREFIX_LEN]),
            Self::Choke => write(out, id::CHOKE, &[]),
            Self::Unchoke => write(out, id::UNCHOKE, &[]),
            Self::Interested => write(out, id::INTERESTED, &[]),
            Self::NotInterested => write(out, id::NOT_INTERESTED, &[]),
            Self::Have { index } => write_numbers(out, id::HAVE, [index]),
            Self::Bitfield(payload) => write(out, id::BITFIELD, &[payload]),
            Self::Request { index, begin, length } => write_numbers(out, id::REQUEST, [index, begin, length]),
            Self::Cancel { index, begin, length } => write_numbers(out, id::CANCEL, [index, begin, length]),
            Self::Port(port) => write(out, id::PORT, &[&port.to_be_bytes()]),
            Self::Suggest { index } => write_numbers(out, id::SUGGEST, [index]),
            Self::HaveAll => write(out, id::HAVE_ALL, &[]),
            Self::HaveNone => write(out, id::HAVE_NONE, &[]),
            Self::Reject { index, begin, length } => write_numbers(out, id::REJECT, [index, begin, length]),
            Self::AllowedFast { index } => write_numbers(out, id::ALLOWED_FAST, [index]),
            Self::Extended { id, payload } => write(out, id::EXTENDED, &[&[id], payload]),
            Self::Unknown { id } => write(out, id, &[]),
        }
    }
}

/// Returns the head of a `piece`; the caller sends the payload of `length` bytes.
pub fn encode_piece_head(index: u32, begin: u32, length: u32) -> [u8; PIECE_HEAD_LEN] {
    let [l0, l1, l2, l3] = (length + PIECE_OVERHEAD).to_be_bytes();
    let [i0, i1, i2, i3] = index.to_be_bytes();
    let [b0, b1, b2, b3] = begin.to_be_bytes();
    [l0, l1, l2, l3, id::PIECE, i0, i1, i2, i3, b0, b1, b2, b3]
}

/// Appends a message of numbers. BEP 3: "All later integers sent in the protocol are encoded as four bytes big-endian."
fn write_numbers<const N: usize>(out: &mut Vec<u8>, id: u8, numbers: [u32; N]) {
    write(out, id, &[numbers.map(u32::to_be_bytes).as_flattened()]);
}

fn write(out: &mut Vec<u8>, id: u8, payload: &[&[u8]]) {
    let payload_len: usize = payload.iter().map(|part| part.len()).sum();
    let length = u32::try_from(1 + payload_len).expect("a bitfield or an extended message, both far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.push(id);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
