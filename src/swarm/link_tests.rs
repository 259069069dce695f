//! One link with a scripted peer, message by message.

#[path = "progress_tests.rs"]
mod progress;
#[path = "stream_tests.rs"]
mod streams;

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Bitfield, Geometry, Rng};
use crate::codec::message::{Bounds, Decoded, decode};
use crate::swarm::testing::NoMemory;

const START: Time = Time::from_secs(5000);
const PIECE_COUNT: u32 = 6;

/// Six pieces of two blocks.
fn swarm(have: &[u32], buffer_count: usize) -> Arc<Swarm<NoMemory>> {
    swarm_of(PIECE_COUNT, have, buffer_count)
}

fn swarm_of(piece_count: u32, have: &[u32], buffer_count: usize) -> Arc<Swarm<NoMemory>> {
    seeded_swarm(piece_count, have, buffer_count, 1)
}

fn seeded_swarm(piece_count: u32, have: &[u32], buffer_count: usize, seed: u64) -> Arc<Swarm<NoMemory>> {
    let geometry = Geometry::new(2 * BLOCK_LEN, [u64::from(piece_count * 2 * BLOCK_LEN)]).unwrap();
    let mut set = Bitfield::new(piece_count);
    for &index in have {
        set.insert(geometry.piece(index).unwrap());
    }
    let buffers = (0..buffer_count).map(|_| NoMemory).collect();
    Arc::new(Swarm::new(Arc::new(geometry), &set, buffers, &mut Rng::with_seed(seed)))
}

fn setup(swarm: &Arc<Swarm<NoMemory>>) -> Setup {
    Setup {
        geometry: swarm.geometry.clone(),
        fast: true,
        extension: false,
        have: InitialHave::None,
        upload_only: false,
        info_hash: None,
        listen_port: None,
        peer_ip: None,
        metadata: None,
        streams: None,
    }
}

fn link(swarm: &Arc<Swarm<NoMemory>>, key: u32) -> Link<NoMemory> {
    let shared = Arc::new(PeerShared::new(key, ([127, 0, 0, 1], 6881).into()));
    Link::new(setup(swarm), swarm.clone(), shared, START)
}

/// The peer has everything and unchokes us.
fn seeded(swarm: &Arc<Swarm<NoMemory>>, key: u32) -> Link<NoMemory> {
    let mut link = link(swarm, key);
    take(&mut link, Message::HaveAll);
    take(&mut link, Message::Unchoke);
    link
}

fn take(link: &mut Link<NoMemory>, message: Message<'_>) {
    link.handle_message(START, &message).unwrap();
    link.sync(START).unwrap();
}

/// Sends everything and returns it as text.
fn sent(link: &mut Link<NoMemory>) -> Vec<String> {
    link.flush_haves();
    link.sync(START).unwrap();
    let bounds = Bounds { piece_count: PIECE_COUNT, block_len_max: BLOCK_LEN };
    let (mut transmit, mut out) = (Transmit::default(), Vec::new());
    while link.poll_transmit(START, &mut transmit, |_| true) {
        let mut bytes = &transmit.control[..];
        while let Ok(Decoded::Message { message, consumed }) = decode(bytes, &bounds) {
            out.push(format!("{message:?}"));
            bytes = &bytes[consumed..];
        }
    }
    out
}

fn outstanding(link: &Link<NoMemory>) -> Vec<BlockRef> {
    link.connection.outstanding().map(|request| request.block).collect()
}

/// The peer answers a request. A complete piece counts as verified and written at once.
fn answer(link: &mut Link<NoMemory>, block: BlockRef) {
    let is_new = |open: &OpenPiece<NoMemory>, block: BlockRef| !open.is_received(block.block_index());
    let receipt = link.receive(START, block.piece.get(), block.begin, block.len, is_new).unwrap();
    if let Some(open) = receipt.completed {
        link.swarm.pieces.handle_written(&open);
    }
    link.sync(START).unwrap();
}

fn reject(block: BlockRef) -> Message<'static> {
    Message::Reject { index: block.piece.get(), begin: block.begin, length: block.len }
}

#[test]
fn interest_follows_what_the_peer_has_and_we_lack() {
    let swarm = swarm(&[0, 1], 4);
    let mut link = link(&swarm, 1);
    sent(&mut link);
    take(&mut link, Message::Have { index: 0 });
    assert!(sent(&mut link).is_empty(), "we have the piece too");
    take(&mut link, Message::Have { index: 3 });
    assert_eq!(sent(&mut link), ["Interested"]);
    let open = swarm.pieces.open(swarm.geometry.piece(3).unwrap()).unwrap();
    assert!(sent(&mut link).is_empty());
    swarm.pieces.handle_written(&open);
    assert_eq!(sent(&mut link), ["Have { index: 3 }", "NotInterested"]);
}

#[test]
fn a_download_claims_everything_once_and_ends_not_interested() {
    let swarm = swarm(&[], 6);
    let mut links = [seeded(&swarm, 1), seeded(&swarm, 2)];
    links.iter_mut().for_each(|link| link.request_blocks(START));
    let claims: Vec<BlockRef> = links.iter().flat_map(outstanding).collect();
    assert_eq!(claims.len(), 12 + 12, "the second link is idle and every block is requested: endgame");
    for block in outstanding(&links[0]) {
        answer(&mut links[0], block);
    }
    assert!(swarm.pieces.is_complete());
    assert!(links[0].is_useless());
    let messages = sent(&mut links[1]);
    assert_eq!(messages.iter().filter(|message| message.starts_with("Cancel")).count(), 12);
    assert!(messages.contains(&"NotInterested".to_owned()));
    drop(links);
    assert_eq!(swarm.pieces.free_buffers(), 6);
}

#[test]
fn every_announced_piece_is_requested() {
    let piece_count = 3 * u32::try_from(limits::ANNOUNCED_PIECES_MAX).unwrap();
    let swarm = swarm_of(piece_count, &[], 4);
    let mut link = link(&swarm, 1);
    link.shared().set_proven();
    take(&mut link, Message::Unchoke);
    take(&mut link, Message::Have { index: 0 });
    link.request_blocks(START);
    // The cursor is at the end of the order, which is not rebuilt.
    (1..piece_count).for_each(|index| take(&mut link, Message::Have { index }));
    while let Some(&block) = outstanding(&link).first() {
        answer(&mut link, block);
        link.request_blocks(START);
    }
    assert_eq!(swarm.pieces.have_count(), piece_count);
}

#[test]
fn each_download_requests_announced_pieces_in_its_own_order() {
    let asked_first = |seed: u64, sequential: bool| {
        let swarm = seeded_swarm(100, &[], 100, seed);
        swarm.order.set_sequential(sequential);
        let mut link = link(&swarm, 1);
        link.shared().set_proven();
        take(&mut link, Message::Unchoke);
        take(&mut link, Message::Have { index: 0 });
        link.request_blocks(START);
        let begun = outstanding(&link).len();
        // The cursor is at the end of the order.
        (1..100).rev().for_each(|index| take(&mut link, Message::Have { index }));
        link.request_blocks(START);
        outstanding(&link)[begun..].iter().map(|block| block.piece.get()).collect::<Vec<_>>()
    };
    let orders: Vec<Vec<u32>> = (1..=4).map(|seed| asked_first(seed, false)).collect();
    for (at, order) in orders.iter().enumerate() {
        assert!(!order.is_sorted_by_key(|&index| Reverse(index)) && !orders[..at].contains(order), "{orders:?}");
    }
    assert!(asked_first(5, true).is_sorted());
}

#[test]
fn a_choke_releases_claims_for_other_peers() {
    let swarm = swarm(&[], 1);
    let [mut first, mut second] = [seeded(&swarm, 1), seeded(&swarm, 2)];
    first.request_blocks(START);
    second.request_blocks(START);
    let claims = outstanding(&first);
    assert_eq!((claims.len(), outstanding(&second).len()), (2, 0));
    take(&mut first, Message::Choke);
    claims.iter().for_each(|&block| take(&mut first, reject(block)));
    // The second link is not notified: it retries by itself.
    let due = second.poll_timeout();
    assert_eq!(due, START + limits::IDLE_RETRY);
    second.handle_timeout(due).unwrap();
    second.request_blocks(due);
    assert_eq!(outstanding(&second), claims);
}

#[test]
fn without_free_buffers_an_idle_link_requests_owed_blocks() {
    let swarm = swarm(&[], 1);
    let [mut slow, mut idle] = [seeded(&swarm, 1), seeded(&swarm, 2)];
    slow.request_blocks(START);
    idle.request_blocks(START);
    assert!(!swarm.pieces.is_endgame() && outstanding(&idle).is_empty());
    let due = idle.poll_timeout();
    idle.handle_timeout(due).unwrap();
    idle.request_blocks(due);
    let blocks = outstanding(&idle);
    assert_eq!(blocks, outstanding(&slow));
    blocks.into_iter().for_each(|block| answer(&mut idle, block));
    assert_eq!(sent(&mut slow).iter().filter(|message| message.starts_with("Cancel")).count(), 2);
}

#[test]
fn rejected_pieces_are_not_requested_again_at_once() {
    let swarm = swarm(&[], 6);
    let mut link = seeded(&swarm, 1);
    take(&mut link, Message::Extended { id: 0, payload: b"d4:reqqi2ee" });
    link.request_blocks(START);
    let rejected = outstanding(&link);
    rejected.iter().for_each(|&block| take(&mut link, reject(block)));
    link.request_blocks(START);
    let next = outstanding(&link);
    assert!(!next.is_empty() && next.iter().all(|block| block.piece != rejected[0].piece));
    // The peer rejects every request.
    let mut seen = 1;
    while let Some(&block) = outstanding(&link).first() {
        outstanding(&link).into_iter().for_each(|block| take(&mut link, reject(block)));
        assert_ne!(block.piece, rejected[0].piece);
        seen += 1;
        link.request_blocks(START);
    }
    assert_eq!(seen, PIECE_COUNT);
    let due = link.poll_timeout();
    link.handle_timeout(due).unwrap();
    link.request_blocks(due);
    assert!(!outstanding(&link).is_empty(), "later all pieces are requested again");
}

#[test]
fn requests_for_lost_pieces_are_rejected_and_no_fault() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    let mut link = link(&swarm, 1);
    link.shared.set_unchoked(true);
    link.sync(START).unwrap();
    swarm.pieces.handle_lost(swarm.geometry.piece(2).unwrap());
    sent(&mut link);
    for _ in 0..500 {
        take(&mut link, Message::Request { index: 2, begin: 0, length: BLOCK_LEN });
    }
    assert!(sent(&mut link).iter().all(|message| message.starts_with("Reject { index: 2")));
    assert!(!link.connection.am_interested(), "there is no memory to receive it");
}

#[test]
fn requests_for_lost_pieces_that_are_refetched_are_no_fault() {
    let swarm = swarm(&[0, 1, 2, 3, 4], 1);
    let mut link = link(&swarm, 1);
    link.shared.set_unchoked(true);
    swarm.pieces.handle_lost(swarm.geometry.piece(2).unwrap());
    sent(&mut link);
    for _ in 0..500 {
        take(&mut link, Message::Request { index: 2, begin: 0, length: BLOCK_LEN });
    }
    assert!(sent(&mut link).iter().all(|message| message.starts_with("Reject { index: 2")));
}

#[test]
fn requests_for_pieces_we_never_had_are_counted() {
    let swarm = swarm(&[0], 1);
    let mut link = link(&swarm, 1);
    link.shared.set_unchoked(true);
    link.sync(START).unwrap();
    let request = Message::Request { index: 2, begin: 0, length: BLOCK_LEN };
    let rejected = (0..500).take_while(|_| link.handle_message(START, &request).is_ok()).count();
    assert_eq!(u32::try_from(rejected).unwrap(), limits::INVALID_REQUESTS_MAX);
}

#[test]
fn a_lost_piece_is_wanted_again_and_announced_again() {
    let swarm = swarm(&[0, 1, 2, 3, 4], 2);
    let mut link = seeded(&swarm, 1);
    link.request_blocks(START);
    outstanding(&link).into_iter().for_each(|block| answer(&mut link, block));
    sent(&mut link);
    assert!(!link.connection.am_interested());
    swarm.pieces.handle_lost(swarm.geometry.piece(1).unwrap());
    swarm.reorder_if_changed(&mut Rng::with_seed(2));
    assert_eq!(sent(&mut link), ["Interested"]);
    link.request_blocks(START);
    assert_eq!(outstanding(&link).len(), 2);
    outstanding(&link).into_iter().for_each(|block| answer(&mut link, block));
    let messages = sent(&mut link);
    assert_eq!(messages[2..], ["Have { index: 1 }", "NotInterested"]);
}

#[test]
fn a_late_block_is_used_and_cancelled_elsewhere() {
    for proven in [true, false] {
        let swarm = swarm(&[0, 1, 2, 3, 4], 1);
        let [mut first, mut second] = [seeded(&swarm, 1), seeded(&swarm, 2)];
        if proven {
            first.shared.set_proven();
        }
        first.request_blocks(START);
        let block = outstanding(&first)[0];
        let snub = START + limits::SNUB_TIMEOUT;
        first.handle_timeout(snub).unwrap();
        second.request_blocks(START);
        assert!(outstanding(&second).contains(&block));
        answer(&mut first, block);
        sent(&mut second);
        // An unproven peer could corrupt a piece with each choke: its late blocks are refused.
        assert_eq!(outstanding(&second).contains(&block), !proven);
        assert_eq!(swarm.totals.wasted.load(Relaxed) > 0, !proven);
    }
}

#[test]
fn a_connection_ends_when_its_close_is_requested() {
    let swarm = swarm(&[], 1);
    let mut link = link(&swarm, 1);
    link.shared.request_close();
    assert!(matches!(link.sync(START), Err(PeerFault::CloseRequested)));
}

#[test]
fn selection_requests_wanted_and_announces_whole_pieces() {
    use super::super::{Choice, Selection};
    // Six pieces in three files of one and a half, three, and one and a half.
    let lens = [3, 6, 3].map(|blocks| blocks * u64::from(BLOCK_LEN));
    let geometry = Arc::new(Geometry::new(2 * BLOCK_LEN, lens).unwrap());
    let selection = Selection::new(&geometry, &[Choice::Deselected, Choice::Wanted(1), Choice::Kept]);
    let buffers = (0..6).map(|_| NoMemory).collect();
    let have = Bitfield::new(PIECE_COUNT);
    let swarm = Arc::new(Swarm::with_selection(geometry, &have, Some(selection), buffers, &mut Rng::with_seed(1)));
    assert_eq!(swarm.pieces.wanted_left(), 6 * u64::from(BLOCK_LEN));
    let mut link = link(&swarm, 1);
    take(&mut link, Message::Have { index: 5 });
    assert!(!link.connection().am_interested(), "the piece is not wanted");
    for index in 1..5 {
        take(&mut link, Message::Have { index });
    }
    assert!(link.connection().am_interested());
    take(&mut link, Message::Unchoke);
    link.request_blocks(START);
    let mut asked = outstanding(&link);
    asked.sort_by_key(|block| (block.piece, block.begin));
    assert_eq!(asked.iter().map(|block| block.piece.get()).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 4, 4]);
    sent(&mut link);
    let is_have = |message: &String| message.starts_with("Have");
    asked.into_iter().for_each(|block| answer(&mut link, block));
    let messages: Vec<String> = sent(&mut link).into_iter().filter(is_have).collect();
    assert_eq!(
        messages,
        ["Have { index: 2 }", "Have { index: 3 }", "Have { index: 4 }"],
        "half of piece 1 is not written"
    );
    assert!(swarm.pieces.is_complete() && !swarm.pieces.has_all() && !link.connection().am_interested());
    assert_eq!((swarm.pieces.wanted_left(), swarm.pieces.left()), (0, 6 * u64::from(BLOCK_LEN)));
    assert!(!link.is_useless(), "the peer lacks a piece");
    take(&mut link, Message::Have { index: 0 });
    assert!(link.is_useless());
}

fn haves(link: &mut Link<NoMemory>, now: Time) -> Vec<u32> {
    link.sync(now).unwrap();
    let number = |message: &String| message.strip_prefix("Have { index: ")?.strip_suffix(" }")?.parse().ok();
    sent(link).iter().filter_map(number).collect()
}

#[test]
fn a_super_seed_shows_the_next_piece_when_the_last_was_seen() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    swarm.start_super_seeding();
    let (mut one, mut other) = (link(&swarm, 1), link(&swarm, 2));
    let (shown_to_one, shown_to_other) = (haves(&mut one, START), haves(&mut other, START));
    assert_eq!((shown_to_one.len(), shown_to_other.len()), (2, 2));
    assert!(shown_to_one.iter().all(|index| !shown_to_other.contains(index)));
    for link in [&mut one, &mut other] {
        take(link, Message::Interested);
        link.shared().set_unchoked(true);
        sent(link);
    }
    let request = |index| Message::Request { index, begin: 0, length: BLOCK_LEN };
    take(&mut one, request(shown_to_other[0]));
    assert!(sent(&mut one).iter().any(|message| message.starts_with("Reject")), "the piece was not shown");
    take(&mut one, request(shown_to_one[0]));
    assert_eq!(one.connection().queued_count(), 1);
    take(&mut one, Message::Have { index: shown_to_one[0] });
    assert_eq!(haves(&mut one, START), [0; 0], "no other peer has the piece");
    take(&mut other, Message::Have { index: shown_to_one[0] });
    assert_eq!(haves(&mut one, START).len(), 1);
    assert_eq!(haves(&mut other, START), [0; 0]);
    // A peer without rivals does not wait for other peers.
    drop(other);
    take(&mut one, Message::Have { index: shown_to_one[1] });
    assert_eq!(haves(&mut one, START).len(), 1);
    assert!(one.poll_timeout() <= START + limits::SUPER_SEED_CHECK_INTERVAL);
}

#[test]
fn a_super_seed_shows_no_other_peer_an_awaited_piece() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    swarm.start_super_seeding();
    let (mut one, mut other) = (link(&swarm, 1), link(&swarm, 2));
    let shown_to_one = haves(&mut one, START);
    for index in (0..6).filter(|index| !shown_to_one.contains(index)) {
        take(&mut other, Message::Have { index });
    }
    haves(&mut other, START);
    take(&mut one, Message::Interested);
    one.shared().set_unchoked(true);
    sent(&mut one);
    // On a slow uplink not even a block leaves for a long time.
    take(&mut one, Message::Request { index: shown_to_one[0], begin: 0, length: BLOCK_LEN });
    let mut now = START;
    while now < START + limits::SUPER_SEED_HELD_MAX {
        assert_eq!(haves(&mut other, now), [0; 0], "{now:?}");
        one.sync(now).unwrap();
        now += limits::SUGGEST_AGAIN / 4;
    }
    // But a peer reserves a piece for a limited time.
    let mut shown = haves(&mut other, now + limits::SUGGEST_AGAIN);
    shown.sort_unstable();
    assert!(shown.len() == 2 && shown.iter().all(|index| shown_to_one.contains(index)), "{shown:?} {shown_to_one:?}");
}

#[test]
fn a_super_seed_shows_every_piece_after_the_first_copy() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    swarm.start_super_seeding();
    let (mut one, mut other) = (link(&swarm, 1), link(&swarm, 2));
    haves(&mut one, START);
    for index in 0..6 {
        take(&mut one, Message::Have { index });
    }
    let shown = haves(&mut other, START).len();
    let late = START + limits::SUPER_SEED_GRACE / 2;
    assert_eq!(haves(&mut other, late).len(), 0);
    assert_eq!(haves(&mut other, START + limits::SUPER_SEED_GRACE).len(), 6 - shown);
    let mut third = link(&swarm, 3);
    third.sync(START + limits::SUPER_SEED_GRACE).unwrap();
    assert_eq!(third.connection().peer_have().count(), 0);
}

#[test]
fn a_choked_newcomer_requests_its_allowed_fast_pieces() {
    let info_hash = Some(crate::base::InfoHash([0xaa; 20]));
    let setup = |swarm| Setup { info_hash, ..setup(swarm) };
    // Not an origin, so it does not distribute first copies.
    let (ours, theirs) = (swarm(&[0, 1, 2, 3, 4], 1), swarm(&[], 6));
    let shared = |key| Arc::new(PeerShared::new(key, ([80, 4, 4, 200], 6881).into()));
    let mut link = Link::new(setup(&ours), ours.clone(), shared(1), START);
    sent(&mut link);
    take(&mut link, Message::HaveNone);
    let offered = sent(&mut link);
    assert_eq!(offered.iter().filter(|message| message.starts_with("AllowedFast")).count(), 5, "{offered:?}");
    take(&mut link, Message::Request { index: 5, begin: 0, length: BLOCK_LEN });
    take(&mut link, Message::Request { index: 2, begin: 0, length: BLOCK_LEN });
    assert_eq!(link.connection().queued().map(|block| block.piece.get()).collect::<Vec<_>>(), [2]);
    // The other side of such a connection.
    let mut newcomer = Link::new(setup(&theirs), theirs.clone(), shared(2), START);
    take(&mut newcomer, Message::HaveAll);
    newcomer.request_blocks(START);
    assert!(outstanding(&newcomer).is_empty(), "the newcomer is choked");
    take(&mut newcomer, Message::AllowedFast { index: 3 });
    newcomer.request_blocks(START);
    let asked = outstanding(&newcomer);
    assert_eq!(asked.iter().map(|block| block.piece.get()).collect::<Vec<_>>(), [3, 3]);
    answer(&mut newcomer, asked[0]);
    take(&mut newcomer, reject(asked[1]));
    newcomer.request_blocks(START);
    assert!(outstanding(&newcomer).is_empty(), "a rejected piece is not requested again");
    take(&mut newcomer, Message::Unchoke);
    newcomer.request_blocks(START);
    assert!(outstanding(&newcomer).contains(&asked[1]));
}

#[test]
fn an_idle_download_does_not_wait_for_suggestions() {
    let swarm = swarm(&[], 6);
    let mut link = seeded(&swarm, 1);
    take(&mut link, Message::Suggest { index: 3 });
    link.request_blocks(START);
    for block in outstanding(&link) {
        answer(&mut link, block);
    }
    link.request_blocks(START);
    assert!(outstanding(&link).is_empty(), "the next suggestion may be on its way");
    let due = START + limits::GUIDED_IDLE_TIME;
    assert_eq!(link.poll_timeout(), due);
    link.handle_timeout(due).unwrap();
    link.request_blocks(due);
    assert_eq!(outstanding(&link).len(), 10);
}

#[test]
fn a_stalled_peer_does_not_count_as_interested() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    let mut links = [link(&swarm, 1), link(&swarm, 2)];
    links.iter_mut().for_each(|link| take(link, Message::Interested));
    let count = || swarm.interested.get();
    assert_eq!(count(), 2);
    links[0].follow_use(START, Reading::Stalled);
    assert_eq!(count(), 1);
    links[0].follow_use(START, Reading::Nothing);
    assert_eq!(count(), 2);
    links[0].follow_use(START, Reading::Stalled);
    drop(links);
    assert_eq!(count(), 0);
}

#[test]
fn a_peer_that_requests_nothing_does_not_count_as_interested() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    let mut link = link(&swarm, 1);
    take(&mut link, Message::Interested);
    let late = START + 10 * limits::SLOT_IDLE_NOTICE;
    link.follow_use(late, Reading::Nothing);
    assert!(link.shared().wants_blocks(), "it waits for a slot");
    link.shared().set_unchoked(true);
    link.sync(late).unwrap();
    link.follow_use(late + limits::SLOT_IDLE_NOTICE / 2, Reading::Nothing);
    assert!(link.shared().wants_blocks(), "it may request at any moment");
    let idle = late + limits::SLOT_IDLE_NOTICE;
    link.follow_use(idle, Reading::Nothing);
    assert!(!link.shared().wants_blocks() && swarm.interested.get() == 0);
    assert!(link.shared().is_choke_review_due());
    link.handle_message(idle, &Message::Request { index: 0, begin: 0, length: BLOCK_LEN }).unwrap();
    link.follow_use(idle, Reading::Nothing);
    assert!(link.shared().wants_blocks() && swarm.interested.get() == 1);
    // Requests that are cancelled are no use.
    link.handle_message(idle, &Message::Cancel { index: 0, begin: 0, length: BLOCK_LEN }).unwrap();
    link.follow_use(idle + limits::SLOT_IDLE_NOTICE, Reading::Nothing);
    assert!(!link.shared().wants_blocks());
    link.handle_message(idle, &Message::Request { index: 0, begin: 0, length: BLOCK_LEN }).unwrap();
    // A slow peer reads the blocks of its last requests.
    let later = idle + limits::SLOT_IDLE_NOTICE;
    link.follow_use(later, Reading::Underway);
    assert!(link.shared().wants_blocks());
    // The request waits to be served.
    link.follow_use(idle + 10 * limits::SLOT_IDLE_NOTICE, Reading::Nothing);
    assert!(link.shared().wants_blocks());
}

#[test]
fn a_peer_that_requests_nothing_loses_its_suggestions() {
    let swarm = swarm(&[0, 1, 2, 3, 4, 5], 0);
    let mut links = [link(&swarm, 1), link(&swarm, 2)];
    for link in &mut links {
        link.shared().set_unchoked(true);
        take(link, Message::Interested);
    }
    let suggested = |link: &Link<NoMemory>| link.offers.pieces().len();
    links.iter_mut().for_each(|link| link.sync(START).unwrap());
    assert_eq!(links.each_ref().map(suggested), [3, 3], "both may request at any moment");
    let later = START + limits::SLOT_UNUSED_NOTICE;
    let request = Message::Request { index: links[0].offers.pieces()[0].get(), begin: 0, length: BLOCK_LEN };
    links[0].handle_message(later, &request).unwrap();
    links.iter_mut().for_each(|link| link.follow_use(later, Reading::Nothing));
    assert_eq!(links.each_ref().map(suggested), [2, 0]);
    assert_eq!(swarm.served.get(), 1);
    links[0].sync(later).unwrap();
    assert_eq!(suggested(&links[0]), 2, "alone it gets no more suggestions");
    let request = Message::Request { index: 0, begin: 0, length: BLOCK_LEN };
    links[1].handle_message(later, &request).unwrap();
    links[1].sync(later).unwrap();
    assert!(suggested(&links[1]) > 0);
    drop(links);
    assert_eq!(swarm.served.get(), 0);
}

#[path = "corruption_tests.rs"]
mod corruption;
