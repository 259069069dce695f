//! Each test is a rule of BEP 3, 6 or 10 as one connection keeps it.

#[path = "late_tests.rs"]
mod late;

use std::time::Duration;

use super::super::event::{BlockArrival, Event};
use super::super::setup::InitialHave;
use super::*;
use crate::base::geometry::BLOCK_LEN;
use crate::codec::message::{Bounds, Decoded, decode};

const START: Time = Time::from_secs(5000);
/// Ten pieces of four blocks, the last one a short block.
const PIECE_COUNT: u32 = 10;

fn setup(fast: bool, have: InitialHave) -> Setup {
    let geometry = Arc::new(Geometry::new(4 * BLOCK_LEN, [u64::from(9 * 4 * BLOCK_LEN) + 100]).unwrap());
    Setup {
        geometry,
        fast,
        extension: false,
        upload_only: matches!(have, InitialHave::All),
        info_hash: None,
        have,
        listen_port: None,
        peer_ip: None,
        metadata: None,
        streams: None,
    }
}

fn connection(fast: bool) -> Connection {
    let mut connection = Connection::new(setup(fast, InitialHave::None), START);
    sent(&mut connection);
    connection
}

/// Unchoked by the peer and interested in it.
fn downloading(fast: bool) -> Connection {
    let mut connection = connection(fast);
    connection.handle_message(START, &Message::Unchoke).unwrap();
    connection.set_interested(true);
    sent(&mut connection);
    connection
}

/// Unchokes the peer.
fn uploading(fast: bool) -> Connection {
    let mut connection = connection(fast);
    connection.unchoke();
    sent(&mut connection);
    connection
}

fn block(piece: u32, block_index: u32) -> BlockRef {
    let geometry = setup(false, InitialHave::None).geometry;
    geometry.block(geometry.piece(piece).unwrap(), block_index).unwrap()
}

fn request(block: BlockRef) -> Message<'static> {
    Message::Request { index: block.piece.get(), begin: block.begin, length: block.len }
}

fn cancel(block: BlockRef) -> Message<'static> {
    Message::Cancel { index: block.piece.get(), begin: block.begin, length: block.len }
}

fn reject(block: BlockRef) -> Message<'static> {
    Message::Reject { index: block.piece.get(), begin: block.begin, length: block.len }
}

fn wire(messages: &[Message<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

/// Returns the control bytes and blocks that leave now.
fn sent_all(connection: &mut Connection, now: Time) -> (Vec<u8>, Vec<BlockRef>) {
    let (mut transmit, mut control, mut blocks) = (Transmit::default(), Vec::new(), Vec::new());
    while connection.poll_transmit(now, &mut transmit, |_| true) {
        control.extend_from_slice(&transmit.control);
        blocks.extend_from_slice(&transmit.blocks);
    }
    (control, blocks)
}

fn sent(connection: &mut Connection) -> Vec<u8> {
    sent_all(connection, START).0
}

#[test]
fn connections_start_choked_and_not_interested() {
    let connection = connection(false);
    assert!(connection.am_choking() && connection.peer_choking());
    assert!(!connection.am_interested() && !connection.peer_interested());
    assert!(connection.peer_have().is_empty());
}

#[test]
fn our_pieces_are_the_first_message() {
    let mut some = Bitfield::new(PIECE_COUNT);
    some.insert(block(0, 0).piece);
    for (opening, fast, expected) in [
        (InitialHave::None, false, wire(&[])),
        (InitialHave::None, true, wire(&[Message::HaveNone])),
        (InitialHave::All, true, wire(&[Message::HaveAll])),
        (InitialHave::All, false, wire(&[Message::Bitfield(&[0xFF, 0xC0])])),
        (InitialHave::Some(some.clone()), false, wire(&[Message::Bitfield(&[0x80, 0])])),
        (InitialHave::Some(some), true, wire(&[Message::Bitfield(&[0x80, 0])])),
    ] {
        assert_eq!(sent(&mut Connection::new(setup(fast, opening), START)), expected);
    }
}

#[test]
fn the_extension_handshake_has_reqq_and_is_second() {
    let mut connection =
        Connection::new(Setup { extension: true, listen_port: Some(6881), ..setup(true, InitialHave::All) }, START);
    let bytes = sent(&mut connection);
    let bounds = Bounds { piece_count: PIECE_COUNT, block_len_max: BLOCK_LEN };
    let Ok(Decoded::Message { message: Message::HaveAll, consumed }) = decode(&bytes, &bounds) else { panic!() };
    let Ok(Decoded::Message { message: Message::Extended { id: 0, payload }, .. }) =
        decode(&bytes[consumed..], &bounds)
    else {
        panic!()
    };
    let handshake = ExtensionHandshake::decode(payload).unwrap();
    assert_eq!(handshake.requests_max, Some(4096));
    assert_eq!(handshake.listen_port, Some(6881));
    assert_eq!(handshake.upload_only, Some(true));
}

#[test]
fn metadata_is_served_and_other_metadata_messages_are_a_flood() {
    let metadata: Arc<[u8]> = vec![7; 20_000].into();
    let with = Setup { extension: true, metadata: Some(metadata.clone()), ..setup(true, InitialHave::All) };
    let mut connection = Connection::new(with, START);
    let handshake = sent(&mut connection);
    let offer = b"1:md11:ut_metadatai1ee13:metadata_sizei20000e";
    assert!(handshake.windows(offer.len()).any(|part| part == offer));

    let theirs = b"d1:md11:ut_metadatai3eee";
    connection.handle_message(START, &Message::Extended { id: 0, payload: theirs }).unwrap();
    let request = Message::Extended { id: 1, payload: b"d8:msg_typei0e5:piecei1ee" };
    connection.handle_message(START, &request).unwrap();
    let mut expected = Vec::new();
    let payload = [b"d8:msg_typei1e5:piecei1e10:total_sizei20000ee", &metadata[16_384..]].concat();
    Message::Extended { id: 3, payload: &payload }.encode(&mut expected);
    assert_eq!(sent(&mut connection), expected);

    let garbage = Message::Extended { id: 1, payload: b"garbage" };
    assert!((0..300).any(|_| connection.handle_message(START, &garbage).is_err()));
    let mut without = Connection::new(Setup { extension: true, ..setup(true, InitialHave::All) }, START);
    assert!(!sent(&mut without).windows(11).any(|part| part == b"ut_metadata"));
    assert!((0..300).any(|_| without.handle_message(START, &request).is_err()));
}

/// libtorrent sends its extension handshake before the bitfield.
#[test]
fn extended_messages_may_come_before_the_bitfield() {
    let mut connection = connection(false);
    for message in [Message::KeepAlive, Message::Extended { id: 0, payload: b"de" }, Message::Bitfield(&[0, 0x40])] {
        connection.handle_message(START, &message).unwrap();
    }
    assert_eq!(connection.peer_have().count(), 1);
}

#[test]
fn spare_bits_are_zero() {
    let fault = connection(false).handle_message(START, &Message::Bitfield(&[0, 0x20]));
    assert!(matches!(fault, Err(PeerFault::Bitfield(_))));
    let fault = connection(false).handle_message(START, &Message::Bitfield(&[0]));
    assert!(matches!(fault, Err(PeerFault::Bitfield(_))));
}

#[test]
fn a_have_names_a_piece_of_the_torrent() {
    let mut connection = connection(false);
    let have = |index| Message::Have { index };
    assert_eq!(connection.handle_message(START, &have(9)).unwrap(), Event::Have(block(9, 0).piece));
    assert_eq!(connection.handle_message(START, &have(9)).unwrap(), Event::Quiet, "once");
    assert!(matches!(connection.handle_message(START, &have(10)), Err(PeerFault::NoSuchPiece(10))));
}

#[test]
fn a_peer_becomes_complete_have_by_have() {
    let mut connection = connection(false);
    for index in 0..PIECE_COUNT {
        assert!(!connection.peer_has_all());
        connection.handle_message(START, &Message::Have { index }).unwrap();
    }
    assert!(connection.peer_has_all());
}

#[test]
fn choke_and_interest_are_sent_only_when_they_change() {
    let mut connection = connection(true);
    for _ in 0..2 {
        connection.unchoke();
        connection.set_interested(true);
    }
    assert_eq!(sent(&mut connection), wire(&[Message::Unchoke, Message::Interested]));
    for _ in 0..2 {
        connection.choke(START);
        connection.set_interested(false);
    }
    assert_eq!(sent(&mut connection), wire(&[Message::Choke, Message::NotInterested]));
}

#[test]
fn requests_of_more_than_128_kib_close_the_connection() {
    let geometry = Arc::new(Geometry::new(1 << 20, [1 << 20]).unwrap());
    let mut connection = Connection::new(Setup { geometry, ..setup(false, InitialHave::All) }, START);
    connection.unchoke();
    let request = |length| Message::Request { index: 0, begin: 5, length };
    let Event::Request(block) = connection.handle_message(START, &request(1 << 17)).unwrap() else { panic!() };
    connection.serve(block).unwrap();
    assert_eq!(sent_all(&mut connection, START).1, [block]);
    let fault = connection.handle_message(START, &request((1 << 17) + 1));
    assert!(matches!(fault, Err(PeerFault::RequestTooLong(131_073))));
}

#[test]
fn a_request_outside_its_piece_closes_the_connection() {
    for (index, begin, length) in [(0, 4 * BLOCK_LEN, 1), (0, u32::MAX, 2), (9, 0, 101), (10, 0, 1), (0, 0, 0)] {
        let fault = uploading(true).handle_message(START, &Message::Request { index, begin, length });
        assert!(matches!(fault, Err(PeerFault::RequestOutside { .. })), "{index} {begin} {length}");
    }
}

#[test]
fn requests_while_choked_are_not_served() {
    for fast in [false, true] {
        let mut connection = connection(fast);
        assert_eq!(connection.handle_message(START, &request(block(1, 1))).unwrap(), Event::Quiet);
        let expected = if fast { wire(&[reject(block(1, 1))]) } else { wire(&[]) };
        assert_eq!(sent_all(&mut connection, START), (expected, vec![]));
    }
}

#[test]
fn requests_that_crossed_a_choke_are_no_fault() {
    let mut connection = uploading(true);
    connection.choke(START);
    for _ in 0..500 {
        connection.handle_message(START + Duration::from_secs(1), &request(block(1, 1))).unwrap();
    }
    let late = START + Duration::from_secs(10);
    let served = (0..500).take_while(|_| connection.handle_message(late, &request(block(1, 1))).is_ok()).count();
    assert_eq!(u32::try_from(served).unwrap(), limits::INVALID_REQUESTS_MAX);
    let later = late + limits::INVALID_REQUESTS_TIME;
    assert!(connection.handle_message(later, &request(block(1, 1))).is_ok(), "old requests do not count");
}

#[test]
fn a_choke_drops_queued_requests() {
    for fast in [false, true] {
        let mut connection = uploading(fast);
        let blocks = [block(1, 1), block(2, 0)];
        blocks.iter().for_each(|&block| connection.serve(block).unwrap());
        connection.choke(START);
        let rejects = if fast { blocks.map(reject).to_vec() } else { vec![] };
        assert_eq!(sent_all(&mut connection, START), (wire(&[&[Message::Choke][..], &rejects].concat()), vec![]));
    }
}

#[test]
fn a_cancel_takes_a_request_back() {
    for fast in [false, true] {
        let mut connection = uploading(fast);
        let blocks = [block(1, 1), block(2, 0)];
        blocks.iter().for_each(|&block| connection.serve(block).unwrap());
        connection.handle_message(START, &cancel(blocks[0])).unwrap();
        // A cancel of a block that was never requested, or was already sent, is no fault.
        connection.handle_message(START, &cancel(block(5, 0))).unwrap();
        connection.handle_message(START, &Message::Cancel { index: 77, begin: 0, length: 1 }).unwrap();
        let rejects = if fast { vec![reject(blocks[0])] } else { vec![] };
        assert_eq!(sent_all(&mut connection, START), (wire(&rejects), vec![blocks[1]]));
    }
}

#[test]
fn a_piece_that_cannot_be_read_is_refused() {
    let mut connection = uploading(true);
    let blocks = [block(1, 1), block(2, 0), block(1, 0)];
    blocks.iter().for_each(|&block| connection.serve(block).unwrap());
    connection.refuse_piece(blocks[0].piece);
    let rejects = wire(&[reject(blocks[0]), reject(blocks[2])]);
    assert_eq!(sent_all(&mut connection, START), (rejects, vec![blocks[1]]));
}

#[test]
fn more_requests_than_our_reqq_are_rejected() {
    let mut connection = uploading(true);
    for _ in 0..limits::REQUESTS_IN_MAX {
        connection.serve(block(1, 1)).unwrap();
    }
    connection.serve(block(2, 2)).unwrap();
    assert_eq!(connection.queued().count(), 4096);
    assert_eq!(sent_all(&mut connection, START).0, wire(&[reject(block(2, 2))]));
}

#[test]
fn blocks_leave_in_order_and_wait_for_an_unready_one() {
    let mut connection = uploading(false);
    let blocks: Vec<BlockRef> = (0..5).flat_map(|piece| (0..4).map(move |index| block(piece, index))).collect();
    blocks.iter().for_each(|&block| connection.serve(block).unwrap());
    let mut transmit = Transmit::default();
    assert!(connection.poll_transmit(START, &mut transmit, |block| block.piece.get() < 2));
    assert_eq!(transmit.blocks, blocks[..8]);
    assert!(!connection.poll_transmit(START, &mut transmit, |_| false));
    assert_eq!(sent_all(&mut connection, START).1, blocks[8..]);
    blocks.iter().for_each(|&block| connection.serve(block).unwrap());
    assert!(connection.poll_transmit(START, &mut transmit, |_| true));
    assert_eq!(transmit.blocks.len(), limits::SEND_BLOCKS_MAX);
}

#[test]
fn several_requests_are_pipelined_up_to_what_the_peer_takes() {
    let mut connection = downloading(true);
    let start = limits::REQUESTS_OUT_START;
    assert_eq!(
        [0, 1, 4, 100].map(|n| connection.request_share(n)),
        [start, start, start / 4, limits::REQUESTS_OUT_SLOW]
    );
    assert_eq!(connection.request_room(), limits::REQUESTS_OUT_START);
    let reqq = Message::Extended { id: 0, payload: b"d4:reqqi3ee" };
    connection.handle_message(START, &reqq).unwrap();
    assert_eq!(connection.request_room(), 3, "reqq is kept");
    (0..3).for_each(|index| connection.request(START, block(0, index)));
    assert_eq!(connection.request_room(), 0);
    let requests: Vec<_> = (0..3).map(|index| request(block(0, index))).collect();
    assert_eq!(sent(&mut connection), wire(&requests));
    let later = START + Duration::from_millis(30);
    let arrival = connection.handle_block(later, block(0, 1)).unwrap();
    assert_eq!(arrival, BlockArrival::Expected { latency: Duration::from_millis(30) });
    assert_eq!(connection.request_room(), 1);
    let zero = Message::Extended { id: 0, payload: b"d4:reqqi0ee" };
    connection.handle_message(START, &zero).unwrap();
    assert!(connection.handle_block(later, block(0, 0)).is_ok() && connection.handle_block(later, block(0, 2)).is_ok());
    assert_eq!(connection.request_room(), 1, "a peer that queues nothing gets one at a time");
}

#[test]
fn nothing_is_requested_while_choked_or_not_interested() {
    let mut connection = downloading(true);
    connection.set_interested(false);
    assert_eq!(connection.request_room(), 0);
    connection.set_interested(true);
    connection.handle_message(START, &Message::Choke).unwrap();
    assert_eq!(connection.request_room(), 0);
}

#[test]
fn a_choke_voids_requests_and_their_blocks_may_still_come() {
    let mut connection = downloading(false);
    let blocks = [block(0, 0), block(0, 1)];
    blocks.iter().for_each(|&block| connection.request(START, block));
    assert_eq!(connection.handle_message(START, &Message::Choke).unwrap(), Event::Choked(blocks.to_vec()));
    assert_eq!(connection.outstanding_count(), 0);
    assert_eq!(connection.handle_block(START, blocks[0]).unwrap(), BlockArrival::Late);
    assert_eq!(connection.handle_block(START, blocks[1]).unwrap(), BlockArrival::Late);
    assert!(matches!(connection.handle_block(START, blocks[1]), Err(PeerFault::Unrequested { .. })));
}

#[test]
fn with_the_fast_extension_a_choke_voids_no_request() {
    let mut connection = downloading(true);
    let blocks = [block(0, 0), block(0, 1)];
    blocks.iter().for_each(|&block| connection.request(START, block));
    assert_eq!(connection.handle_message(START, &Message::Choke).unwrap(), Event::Choked(vec![]));
    assert_eq!(connection.outstanding_count(), 2);
    assert_eq!(connection.handle_message(START, &reject(blocks[0])).unwrap(), Event::Rejected(blocks[0]));
    assert!(matches!(connection.handle_block(START, blocks[1]), Ok(BlockArrival::Expected { .. })));
    assert_eq!(connection.handle_message(START, &reject(blocks[0])).unwrap(), Event::Quiet, "answered already");
}

#[test]
fn an_unrequested_block_closes_the_connection() {
    let mut connection = downloading(true);
    connection.request(START, block(0, 0));
    let other = BlockRef { len: 5, ..block(0, 0) };
    for unasked in [block(0, 1), block(1, 0), other] {
        assert!(matches!(connection.handle_block(START, unasked), Err(PeerFault::Unrequested { .. })));
    }
}

#[test]
fn a_request_taken_back_is_cancelled_and_answered_once() {
    let mut connection = downloading(true);
    connection.request(START, block(0, 0));
    sent(&mut connection);
    connection.cancel(block(0, 0));
    connection.cancel(block(0, 0));
    assert_eq!(sent(&mut connection), wire(&[cancel(block(0, 0))]));
    assert_eq!(connection.handle_message(START, &reject(block(0, 0))).unwrap(), Event::Quiet);
    assert!(connection.handle_block(START, block(0, 0)).is_err());
}

#[test]
fn fast_messages_need_the_fast_bit() {
    let fast = [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest { index: 0 },
        Message::AllowedFast { index: 0 },
        reject(block(0, 0)),
    ];
    for message in fast {
        assert!(matches!(connection(false).handle_message(START, &message), Err(PeerFault::FastNotAgreed)));
        assert!(connection(true).handle_message(START, &message).is_ok(), "{message:?}");
    }
    let mut all = connection(true);
    let pieces = setup(true, InitialHave::None).geometry.pieces().collect();
    assert_eq!(all.handle_message(START, &Message::HaveAll).unwrap(), Event::HaveMany(pieces));
    assert!(all.peer_has_all());
}

#[test]
fn messages_that_are_not_understood_are_ignored() {
    let mut connection = connection(true);
    for message in [
        Message::Unknown { id: 21 },
        Message::Port(6881),
        Message::Extended { id: 7, payload: b"whatever" },
        Message::Extended { id: 0, payload: b"not bencoded" },
        Message::Extended { id: 0, payload: b"d4:reqq3:abc1:vi1ee" },
    ] {
        assert_eq!(connection.handle_message(START, &message).unwrap(), Event::Quiet);
    }
    let handshake = Message::Extended { id: 0, payload: b"d11:upload_onlyi1e1:v3:abce" };
    connection.handle_message(START, &handshake).unwrap();
    assert!(connection.peer_upload_only());
    assert_eq!(connection.peer_client(), Some(&b"abc"[..]));
}

#[test]
fn a_keep_alive_is_sent_after_the_interval_and_once() {
    let mut connection = connection(false);
    connection.handle_message(START + Duration::from_secs(99), &Message::KeepAlive).unwrap();
    let due = connection.poll_timeout();
    assert_eq!(due, START + limits::KEEP_ALIVE_INTERVAL);
    assert_eq!(connection.handle_timeout(due).unwrap(), TimeoutEvent::Quiet);
    assert!(connection.poll_timeout() > due, "even if it can't be sent at once");
    assert_eq!(sent_all(&mut connection, due).0, wire(&[Message::KeepAlive]));
}

#[test]
fn a_peer_without_a_byte_for_too_long_is_closed() {
    let mut connection = connection(false);
    let alive = START + Duration::from_secs(50);
    connection.handle_bytes(alive);
    assert!(connection.handle_timeout(alive + limits::SILENCE_TIMEOUT - Duration::from_secs(1)).is_ok());
    assert!(matches!(connection.handle_timeout(alive + limits::SILENCE_TIMEOUT), Err(PeerFault::Silent)));
}

#[test]
fn a_message_that_drips_in_counts_as_silence_after_a_while() {
    let mut connection = connection(false);
    let late = START + limits::MESSAGE_TIMEOUT + limits::SILENCE_TIMEOUT;
    for second in 0..late.as_secs() {
        connection.handle_bytes(START.max(Duration::from_secs(second)));
    }
    assert!(connection.handle_timeout(late - Duration::from_secs(1)).is_ok());
    assert!(matches!(connection.handle_timeout(late), Err(PeerFault::Silent)));
    connection.handle_message(late, &Message::KeepAlive).unwrap();
    assert!(connection.handle_timeout(late + Duration::from_secs(1)).is_ok());
}

#[test]
fn a_snubbed_peer_gets_one_request_at_a_time() {
    let mut connection = downloading(false);
    let blocks = [block(0, 0), block(0, 1)];
    blocks.iter().for_each(|&block| connection.request(START, block));
    sent(&mut connection);
    let due = START + limits::SNUB_TIMEOUT;
    assert_eq!(connection.poll_timeout(), due);
    assert_eq!(connection.handle_timeout(due).unwrap(), TimeoutEvent::Snubbed(blocks.to_vec()));
    // Blocks that other peers send in the meantime must not arrive from here as well.
    assert_eq!(sent(&mut connection), wire(&blocks.map(cancel)));
    assert_eq!(connection.request_room(), 1);
    connection.request(due, block(3, 3));
    assert_eq!(connection.request_room(), 0);
    connection.handle_block(due, blocks[0]).unwrap();
    assert!(connection.is_snubbed(), "a withdrawn block is no answer");
    connection.handle_block(due, block(3, 3)).unwrap();
    assert!(!connection.is_snubbed() && connection.request_room() > 1);
}

#[test]
fn too_many_control_messages_in_a_second_close_the_connection() {
    let mut connection = connection(false);
    let toggle = |n: u32| if n.is_multiple_of(2) { Message::Interested } else { Message::NotInterested };
    for n in 0..1000 {
        connection.handle_message(START + Duration::from_millis(10 * u64::from(n)), &toggle(n)).unwrap();
    }
    let late = START + Duration::from_secs(60);
    let passed = (0..1000).take_while(|&n| connection.handle_message(late, &toggle(n)).is_ok()).count();
    assert_eq!(u32::try_from(passed).unwrap(), limits::CONTROL_MESSAGES_PER_S_MAX);
}

#[test]
fn keep_alives_and_chokes_have_bounds_of_their_own() {
    let flip = |n: u32| if n.is_multiple_of(2) { Message::Choke } else { Message::Unchoke };
    let passed = |message: &dyn Fn(u32) -> Message<'static>, per_s: u32| {
        let mut connection = connection(false);
        let at = |n: u32| START + Duration::from_millis(u64::from(1000 * n / per_s));
        (0..1000).take_while(|&n| connection.handle_message(at(n), &message(n)).is_ok()).count()
    };
    assert_eq!(passed(&|_| Message::KeepAlive, 1), 1000);
    assert!(passed(&|_| Message::KeepAlive, 10) <= 10);
    assert_eq!(passed(&flip, 10), 1000);
    assert!(passed(&flip, 100) <= limits::CHOKES_MAX as usize);
}

#[test]
fn chokes_of_a_minute_may_arrive_at_once() {
    let mut connection = connection(true);
    for message in [Message::Unchoke, Message::Choke].iter().cycle().take(60) {
        connection.handle_message(START, message).unwrap();
    }
}

#[test]
fn repeated_haves_are_counted() {
    let mut connection = connection(false);
    let have = |index| Message::Have { index };
    connection.handle_message(START, &have(1)).unwrap();
    let again = (0..1000).take_while(|_| connection.handle_message(START, &have(1)).is_ok()).count();
    assert_eq!(u32::try_from(again).unwrap(), limits::CONTROL_MESSAGES_PER_S_MAX);
}

#[test]
fn haves_that_arrive_together_act_like_single_ones() {
    let mut connection = connection(true);
    let mut new_pieces = Vec::new();
    assert_eq!(connection.handle_haves(START, [3, 1, 3].into_iter(), &mut new_pieces).unwrap(), 3);
    assert_eq!(new_pieces.iter().map(|piece| piece.get()).collect::<Vec<_>>(), [3, 1]);
    let beyond = connection.handle_haves(START, [0, 10].into_iter(), &mut new_pieces);
    assert!(matches!(beyond, Err(PeerFault::NoSuchPiece(10))));
    let late = connection.handle_message(START, &Message::HaveNone);
    assert!(matches!(late, Err(PeerFault::LateBitfield)));
    let again = |connection: &mut Connection| connection.handle_haves(START, [1].into_iter(), &mut Vec::new());
    assert!((0..10_000).any(|_| matches!(again(&mut connection), Err(PeerFault::Flood))));
}

#[test]
fn haves_leave_with_other_messages_or_when_flushed() {
    let piece = |index| setup(true, InitialHave::None).geometry.piece(index).unwrap();
    let mut connection = downloading(true);
    connection.have(piece(1));
    assert!(sent(&mut connection).is_empty());
    connection.request(START, block(2, 0));
    assert_eq!(sent(&mut connection).len(), 9 + 17, "with a request");
    connection.flush_haves();
    connection.have(piece(3));
    assert_eq!(sent(&mut connection).len(), 9, "by themselves");
    connection.have(piece(4));
    let due = connection.poll_timeout();
    assert_eq!(due, START + limits::HAVE_HELD_MAX);
    connection.handle_timeout(due).unwrap();
    assert_eq!(sent(&mut connection).len(), 9, "after a limited time, without another message");
    let quiet = due + limits::HAVE_HELD_MAX;
    connection.handle_timeout(quiet).unwrap();
    connection.have(piece(5));
    assert_eq!(sent(&mut connection).len(), 9, "at once after a quiet time");
}
