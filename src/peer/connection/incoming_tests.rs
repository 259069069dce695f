//! Limits on messages that a peer sends without a reason.

use super::*;
use crate::base::Geometry;
use crate::base::geometry::BLOCK_LEN;
use crate::peer::setup::{InitialHave, Setup};
use crate::peer::transmit::Transmit;
use std::sync::Arc;

const START: Time = Time::from_secs(5000);
const PIECE_COUNT: u32 = 5000;

/// Pieces of one block each; both sides are unchoked and interested.
fn connection(fast: bool) -> Connection {
    let len = u64::from(PIECE_COUNT) * u64::from(BLOCK_LEN);
    let setup = Setup {
        geometry: Arc::new(Geometry::new(BLOCK_LEN, [len]).unwrap()),
        fast,
        extension: false,
        upload_only: false,
        info_hash: None,
        have: InitialHave::None,
        listen_port: None,
        peer_ip: None,
        metadata: None,
        streams: None,
    };
    let mut connection = Connection::new(setup, START);
    connection.unchoke();
    connection.set_interested(true);
    connection.handle_message(START, &Message::Unchoke).unwrap();
    connection
}

fn block(index: u32) -> BlockRef {
    Geometry::new(BLOCK_LEN, [u64::from(PIECE_COUNT) * u64::from(BLOCK_LEN)])
        .unwrap()
        .span(index, 0, BLOCK_LEN)
        .unwrap()
}

fn cancel(index: u32) -> Message<'static> {
    Message::Cancel { index, begin: 0, length: BLOCK_LEN }
}

fn reject(index: u32) -> Message<'static> {
    Message::Reject { index, begin: 0, length: BLOCK_LEN }
}

/// Returns the number of messages of this kind that are accepted in one second.
fn accepted(connection: &mut Connection, message: impl Fn(u32) -> Message<'static>) -> u32 {
    let count = (0..20_000).take_while(|&n| connection.handle_message(START, &message(n)).is_ok()).count();
    u32::try_from(count).unwrap()
}

fn request_blocks(connection: &mut Connection, count: u32) {
    for index in 0..count {
        let request = Message::Request { index, begin: 0, length: BLOCK_LEN };
        let Ok(Event::Request(block)) = connection.handle_message(START, &request) else { panic!("{index}") };
        connection.serve(block).unwrap();
    }
}

fn send_all(connection: &mut Connection) {
    while connection.poll_transmit(START, &mut Transmit::default(), |_| false) {}
}

#[test]
fn a_whole_queue_may_be_cancelled_at_once_and_no_more() {
    for fast in [false, true] {
        let mut connection = connection(fast);
        let queued = u32::try_from(limits::REQUESTS_IN_MAX).unwrap();
        request_blocks(&mut connection, queued);
        // From the end: each cancelled request is the last one.
        let cancelled = accepted(&mut connection, |n| cancel(queued.saturating_sub(n + 1)));
        assert_eq!(cancelled, queued + limits::CONTROL_MESSAGES_PER_S_MAX - 1, "the unchoke was one");
        assert_eq!(connection.queued_count(), 0);
    }
}

#[test]
fn cancels_without_requests_are_a_flood() {
    let mut connection = connection(true);
    request_blocks(&mut connection, 100);
    let accepted = accepted(&mut connection, |_| Message::Cancel { index: 7, begin: 0, length: 77 });
    assert_eq!(accepted, 100 + limits::CONTROL_MESSAGES_PER_S_MAX - 1);
    assert_eq!(connection.queued_count(), 100);
}

#[test]
fn rejects_without_requests_are_a_flood() {
    let mut connection = connection(true);
    (0..100).for_each(|index| connection.request(START, block(index)));
    let accepted = accepted(&mut connection, |n| reject(n % 200));
    assert_eq!(accepted, 100 + limits::CONTROL_MESSAGES_PER_S_MAX - 1);
    assert_eq!(connection.outstanding_count(), 0);
}

#[test]
fn answers_that_are_not_read_are_bounded() {
    let mut connection = connection(true);
    let mut pairs = 0;
    let fault = loop {
        let request = Message::Request { index: 1, begin: 0, length: BLOCK_LEN };
        let Event::Request(block) = connection.handle_message(START, &request).unwrap() else { panic!() };
        connection.serve(block).unwrap();
        if let Err(fault) = connection.handle_message(START, &cancel(1)) {
            break fault;
        }
        pairs += 1;
        assert!(pairs < 100_000);
    };
    assert!(matches!(fault, PeerFault::InvalidRequests));
    send_all(&mut connection);
}

#[test]
fn an_origin_may_suggest_each_piece_as_fast_as_it_serves() {
    let mut connection = connection(true);
    let suggest = |n| Message::Suggest { index: n % PIECE_COUNT };
    assert_eq!(accepted(&mut connection, suggest), PIECE_COUNT + limits::CONTROL_MESSAGES_PER_S_MAX - 1);
}

#[test]
fn bitfields_and_handshakes_count_by_their_length() {
    let bitfield = vec![0; PIECE_COUNT.div_ceil(8) as usize];
    let mut late = connection(true);
    let again = |late: &mut Connection| late.handle_message(START, &Message::Bitfield(&bitfield)).is_ok();
    assert!((0..limits::CONTROL_MESSAGES_PER_S_MAX).take_while(|_| again(&mut late)).count() >= 100);
    let handshake = [b"d1:v60000:".to_vec(), vec![b'x'; 60_000], b"e".to_vec()].concat();
    let mut talking = connection(true);
    let accepted = (0..100).take_while(|_| {
        let message = Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: &handshake };
        talking.handle_message(START, &message).is_ok()
    });
    assert!((1..5).contains(&accepted.count()));
}

#[test]
fn a_late_block_was_requested_here_and_counts_once() {
    let mut connection = connection(false);
    (0..3).for_each(|index| connection.request(START, block(index)));
    connection.handle_message(START, &Message::Choke).unwrap();
    let other = connection.handle_block(START, block(9));
    assert!(matches!(other, Err(PeerFault::Unrequested { .. })), "a block of another piece");
    assert_eq!(connection.handle_block(START, block(1)).unwrap(), BlockArrival::Late);
    assert!(connection.handle_block(START, block(1)).is_err(), "once");
    assert_eq!(connection.handle_block(START, block(2)).unwrap(), BlockArrival::Late);
}

#[test]
fn withdrawn_requests_are_remembered_up_to_a_bound() {
    let mut connection = connection(false);
    let count = u32::try_from(limits::REQUESTS_WITHDRAWN_MAX).unwrap() + 1;
    (0..count).for_each(|index| connection.request(START, block(index)));
    connection.handle_message(START, &Message::Choke).unwrap();
    assert!(connection.handle_block(START, block(0)).is_err(), "the oldest is forgotten");
    assert!((1..count).rev().all(|index| connection.handle_block(START, block(index)).is_ok()));
}
