//! Fuzz targets for peer sessions, receive plans, and records that outlive a session.

use std::sync::Arc;
use std::time::Duration;

use bt_fast::base::{Bitfield, Geometry, InfoHash, Time, limits};
use bt_fast::codec::extension::Streams;
use bt_fast::codec::magnet::Magnet;
use bt_fast::codec::message::{Bounds, Decoded, PIECE_HEAD_LEN, decode};
use bt_fast::codec::parts::{read_parts, write_parts};
use bt_fast::codec::resume::ResumeRecord;
use bt_fast::hash::sha1;
use bt_fast::peer::{BlockArrival, Connection, Event, InitialHave, ReceivePlan, Setup, TimeoutEvent, Transmit};

use super::Choices;

const PIECE_LEN: u32 = 40_000;
const PIECE_COUNT: u32 = 9;

/// A resume record has one encoding: decoded records encode to the same bytes.
pub fn resume(bytes: &[u8]) {
    let file_count = usize::from(bytes.first().copied().unwrap_or(0) % 4);
    let piece_count = u32::from(bytes.get(1).copied().unwrap_or(0));
    let record = bytes.get(2..).unwrap_or_default();
    // Take the info-hash from the record, behind the magic and the version.
    let mut info_hash = [0; 20];
    if let Some(own) = record.get(16..36) {
        info_hash.copy_from_slice(own);
    }
    if let Ok(read) = ResumeRecord::decode(record, InfoHash(info_hash), file_count, piece_count) {
        assert_eq!(read.encode(), record);
        assert_eq!(record.len(), ResumeRecord::encoded_len(file_count, piece_count as usize));
        assert!(read.have.count() <= read.have.piece_count());
    }
}

/// With a valid checksum decoded parts are within the torrent and encode to the same bytes.
pub fn parts(bytes: &[u8]) {
    // Pieces of one whole block and one of 50 bytes; the last one has 10 bytes.
    let geometry = Geometry::new(16_434, [2 * 16_434 + 10]).expect("pieces");
    let mut info_hash = [0; 20];
    if let Some(own) = bytes.get(15..35) {
        info_hash.copy_from_slice(own);
    }
    let sealed = [bytes, &sha1(&[bytes]).0].concat();
    let Ok(parts) = read_parts(&sealed, InfoHash(info_hash), &geometry) else { return };
    for part in &parts {
        let len = |&(at, _): &(usize, &[u8])| Some(geometry.block(part.piece, u32::try_from(at).ok()?)?.len as usize);
        assert!(part.blocks.iter().all(|block| len(block) == Some(block.1.len())));
    }
    let mut again = Vec::new();
    write_parts(&mut again, InfoHash(info_hash), &geometry, &parts).expect("memory");
    assert_eq!(again, sealed);
}

/// Decoded links are within bounds, and their encoding names the same torrent.
pub fn magnet(bytes: &[u8]) {
    let Ok(first) = Magnet::parse(bytes) else { return };
    assert!(first.trackers.len() <= limits::TRACKER_COUNT_MAX && first.peers.len() <= limits::MAGNET_PEERS_MAX);
    let link = first.encode();
    assert!(link.is_ascii() && !link.contains([' ', '\n', '\x1b']), "{link}");
    let again = Magnet::parse(link.as_bytes()).expect("an encoded link can be parsed");
    assert_eq!(again.info_hash, first.info_hash);
    assert_eq!(again.trackers, first.trackers);
}

/// The engine's side of one connection. No input of the peer may cause a panic or unbounded growth.
struct Session {
    connection: Connection,
    geometry: Arc<Geometry>,
    now: Time,
    transmit: Transmit,
    buffer: Vec<u8>,
    /// The most bytes that were queued for the peer.
    sent: usize,
}

impl Session {
    fn new(choices: &mut Choices<'_>) -> Self {
        let bits = choices.byte();
        let geometry = Arc::new(Geometry::new(PIECE_LEN, [u64::from(PIECE_LEN * PIECE_COUNT) - 1234]).expect("pieces"));
        let mut some = Bitfield::new(PIECE_COUNT);
        for piece in geometry.pieces().step_by(2) {
            some.insert(piece);
        }
        let setup = Setup {
            geometry: geometry.clone(),
            fast: bits & 1 != 0,
            extension: bits & 2 != 0,
            have: match bits >> 2 & 3 {
                0 => InitialHave::All,
                1 => InitialHave::None,
                _ => InitialHave::Some(some),
            },
            upload_only: bits & 32 != 0,
            info_hash: Some(InfoHash([7; 20])),
            listen_port: Some(6881),
            peer_ip: None,
            metadata: (bits & 16 != 0).then(|| vec![7; 40_000].into()),
            streams: Some(Streams { max: 2, id: None, wants_more: false }),
        };
        let now = Duration::from_secs(100);
        let connection = Connection::new(setup, now);
        Self { connection, geometry, now, transmit: Transmit::default(), buffer: Vec::new(), sent: 0 }
    }

    /// Handles received bytes. Returns false if the peer has broken a rule and is disconnected.
    fn handle_bytes(&mut self, bytes: &[u8]) -> bool {
        self.buffer.extend_from_slice(bytes);
        let bounds = Bounds { piece_count: PIECE_COUNT, block_len_max: 16 << 10 };
        let mut at = 0;
        while let Some(rest) = self.buffer.get(at..).filter(|rest| !rest.is_empty()) {
            match decode(rest, &bounds) {
                Err(_) => return false,
                Ok(Decoded::Incomplete { needed }) => {
                    // No longer message is ever awaited, and so buffered.
                    assert!(needed <= limits::EXTENDED_MESSAGE_LEN_MAX as usize + 6, "{needed}");
                    break;
                }
                Ok(Decoded::Message { message, consumed }) => {
                    match self.connection.handle_message(self.now, &message) {
                        Err(_) => return false,
                        Ok(Event::Request(block)) => {
                            assert!(block.len <= limits::REQUEST_LEN_MAX);
                            assert!(block.begin + block.len <= self.geometry.len_of(block.piece));
                            let has_it = block.piece.get() % 2 == 0;
                            let answer =
                                if has_it { self.connection.serve(block) } else { self.connection.refuse(block) };
                            if answer.is_err() {
                                return false;
                            }
                        }
                        Ok(_) => {}
                    }
                    at += consumed;
                }
                Ok(Decoded::Piece { index, begin, length }) => {
                    let end = PIECE_HEAD_LEN + length as usize;
                    if rest.len() < end {
                        break;
                    }
                    let Some(block) = self.geometry.span(index, begin, length) else { return false };
                    let owed = self.connection.outstanding().any(|request| request.block == block);
                    match self.connection.handle_block(self.now, block) {
                        Err(_) => return false,
                        Ok(BlockArrival::Expected { .. }) => assert!(owed),
                        Ok(BlockArrival::Late) => assert!(!owed),
                    }
                    at += end;
                }
            }
        }
        self.buffer.drain(..at);
        self.connection.handle_bytes(self.now);
        assert!(self.connection.queued().count() <= limits::REQUESTS_IN_MAX);
        true
    }

    /// Performs an action that our side may take at any time.
    fn act(&mut self, choices: &mut Choices<'_>) -> bool {
        match choices.byte() % 8 {
            0 => self.connection.unchoke(),
            1 => self.connection.choke(self.now),
            2 => self.connection.set_interested(choices.byte().is_multiple_of(2)),
            3 => {
                let index = choices.byte() as u32 % PIECE_COUNT;
                if let Some(piece) = self.geometry.piece(index) {
                    self.connection.have(piece);
                    self.connection.refuse_piece(piece);
                }
            }
            4 if self.connection.request_room() > 0 => {
                let (piece, block) = (choices.byte() as u32 % PIECE_COUNT, choices.byte() as u32 % 3);
                let block = self.geometry.piece(piece).and_then(|piece| self.geometry.block(piece, block));
                let is_new = |block: &_| !self.connection.outstanding().any(|request| request.block == *block);
                if let Some(block) = block.filter(is_new) {
                    self.connection.request(self.now, block);
                }
            }
            5 => {
                let first = self.connection.outstanding().next().map(|request| request.block);
                first.into_iter().for_each(|block| self.connection.cancel(block));
            }
            6 => {
                self.now += Duration::from_secs(choices.byte() as u64);
                if self.now >= self.connection.poll_timeout() {
                    match self.connection.handle_timeout(self.now) {
                        Err(_) => return false,
                        Ok(TimeoutEvent::Snubbed(_)) => assert_eq!(self.connection.outstanding_count(), 0),
                        Ok(TimeoutEvent::Quiet) => {}
                    }
                }
            }
            _ => {
                self.connection.poll_transmit(self.now, &mut self.transmit, |_| true);
                assert!(self.transmit.blocks.len() <= limits::SEND_BLOCKS_MAX);
                self.sent += self.transmit.control.len();
            }
        }
        true
    }
}

/// Feeds a peer's bytes in arbitrary portions, interleaved with actions of our side. The choices control both.
pub fn peer_session(bytes: &[u8]) {
    let (script, stream) = bytes.split_at(bytes.len().min(64));
    let mut choices = Choices(script);
    let mut session = Session::new(&mut choices);
    let mut rest = stream;
    while !rest.is_empty() {
        if choices.0.is_empty() {
            choices = Choices(script);
        }
        let (part, later) = rest.split_at(choices.number().clamp(1, rest.len()));
        rest = later;
        if !session.handle_bytes(part) || !session.act(&mut choices) {
            return;
        }
        // Bound the number of steps.
        if script.is_empty() {
            return;
        }
    }
}

/// A receive plan accounts for every received byte and accepts no block with an unexpected head.
pub fn receive_plan(bytes: &[u8]) {
    const LEN: u32 = 64;
    let geometry = Geometry::new(LEN, [u64::from(LEN) * 8]).expect("pieces");
    let mut choices = Choices(bytes);
    let block = |choices: &mut Choices<'_>| geometry.span(choices.byte() as u32 % 8, 0, LEN);
    let front = block(&mut choices);
    let mut plan = ReceivePlan::default();
    let buffered_len = choices.byte() % 90;
    let buffered: Vec<u8> = choices.0.iter().copied().take(buffered_len).collect();
    if !plan.begin(&buffered, front) {
        return;
    }
    let count = choices.byte() % 10;
    let blocks: Vec<_> = (0..count).filter_map(|_| block(&mut choices)).collect();
    blocks.iter().for_each(|&block| plan.push(block));
    let heads: Vec<[u8; PIECE_HEAD_LEN]> = blocks
        .iter()
        .map(|block| {
            let mut head = bt_fast::codec::message::encode_piece_head(block.piece.get(), 0, LEN);
            if choices.byte() % 8 == 7 {
                head[choices.byte() % PIECE_HEAD_LEN] ^= 1;
            }
            head
        })
        .collect();
    let whole_len = PIECE_HEAD_LEN + LEN as usize;
    let len = choices.number() % (plan.front_len() + blocks.len() * whole_len + 1);
    let mut front_bytes = buffered;
    front_bytes.extend(choices.0.iter().copied().chain(std::iter::repeat(0)).take(len.min(plan.front_len())));
    let received = plan.handle_received(len, &front_bytes, heads.iter());
    assert_eq!(received.whole * whole_len + received.stray, len.saturating_sub(plan.front_len()));
    for (block, head) in blocks.iter().zip(&heads).take(received.whole) {
        assert_eq!(*head, bt_fast::codec::message::encode_piece_head(block.piece.get(), 0, LEN));
    }
}
