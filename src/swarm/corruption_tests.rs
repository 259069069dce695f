//! The requests of links while some peers send wrong blocks.

use super::*;

/// Retries when due, at most this number of times. Returns the time of the first request.
fn retry_until_requests(link: &mut Link<NoMemory>, times: usize) -> Option<Time> {
    let mut now = START;
    for _ in 0..times {
        link.request_blocks(now);
        if !outstanding(link).is_empty() {
            return Some(now);
        }
        now = link.poll_timeout();
        link.handle_timeout(now).unwrap();
    }
    None
}

/// The piece that the link requests fails its hash.
fn fail_requested(link: &mut Link<NoMemory>) {
    let swarm = link.swarm.clone();
    let open = swarm.pieces.find_open(outstanding(link)[0].piece).unwrap();
    swarm.totals.corrupt.fetch_add(open.len().into(), Relaxed);
    swarm.pieces.handle_failed(START, &open);
    swarm.reorder(&mut Rng::with_seed(3));
}

#[test]
fn an_unproven_peer_is_asked_for_one_piece_until_it_verifies() {
    let geometry = Geometry::new(64 * BLOCK_LEN, [u64::from(8 * 64 * BLOCK_LEN)]).unwrap();
    let buffers = (0..8).map(|_| NoMemory).collect();
    let swarm = Arc::new(Swarm::new(Arc::new(geometry), &Bitfield::new(8), buffers, &mut Rng::with_seed(1)));
    let mut link = seeded(&swarm, 1);
    let send_all = |link: &mut Link<NoMemory>| {
        let mut sent_blocks = Vec::new();
        link.request_blocks(START);
        while let Some(&block) = outstanding(link).first() {
            link.receive(START, block.piece.get(), block.begin, block.len, |_, _| true).unwrap();
            sent_blocks.push(block);
            link.request_blocks(START);
        }
        sent_blocks
    };
    let sent_blocks = send_all(&mut link);
    assert_eq!(sent_blocks.len(), 64);
    assert!(sent_blocks.iter().all(|block| block.piece == sent_blocks[0].piece), "all of one piece");
    // The missing verdict may not be the peer's fault.
    let due = link.poll_timeout();
    assert_eq!(due, START + limits::IDLE_RETRY);
    link.handle_timeout(due).unwrap();
    assert_eq!(send_all(&mut link).len(), 64);
    let open = swarm.pieces.find_open(sent_blocks[0].piece).unwrap();
    assert_eq!(open.prove().len(), 1);
    assert!(open.prove().is_empty());
    assert_eq!(send_all(&mut link).len(), 6 * 64);
}

#[test]
fn unproven_peers_wait_while_much_fails() {
    let swarm = swarm_of(60, &[], 60);
    let mut links = vec![seeded(&swarm, 1), seeded(&swarm, 2), seeded(&swarm, 3)];
    swarm.totals.corrupt.store(1, Relaxed);
    for link in &mut links[1..] {
        link.request_blocks(START);
        assert!(!outstanding(link).is_empty(), "no proven peer is known");
    }
    links[1].shared().set_proven();
    links[1].request_blocks(START);
    links[0].request_blocks(START);
    assert!(outstanding(&links[0]).is_empty());
    let due = START + limits::IDLE_RETRY;
    assert_eq!(links[0].poll_timeout(), due);
    links[0].handle_timeout(due).unwrap();
    links[0].request_blocks(due);
    assert!(outstanding(&links[0]).is_empty(), "another unproven peer is asked");
    drop(links.pop());
    links[0].request_blocks(due);
    assert!(!outstanding(&links[0]).is_empty(), "after one retry");
}

#[test]
fn a_piece_that_just_failed_is_left_to_proven_peers() {
    let last_missing = || swarm(&[0, 1, 2, 3, 4], 6);
    let swarm = last_missing();
    let [mut corrupting, mut proven, mut unproven] = [1, 2, 3].map(|key| seeded(&swarm, key));
    proven.shared().set_proven();
    corrupting.request_blocks(START);
    proven.request_blocks(START);
    fail_requested(&mut corrupting);
    unproven.request_blocks(START);
    assert!(outstanding(&unproven).is_empty());
    proven.sync(START).unwrap();
    proven.request_blocks(START);
    assert_eq!(outstanding(&proven).len(), 2);

    // A proven peer that sends blocks, but lacks this piece.
    let swarm = last_missing();
    let [mut corrupting, mut proven, mut unproven] = [seeded(&swarm, 1), link(&swarm, 2), seeded(&swarm, 3)];
    proven.shared().set_proven();
    take(&mut proven, Message::Bitfield(&[0b1111_1000]));
    take(&mut proven, Message::Unchoke);
    proven.request_blocks(START);
    corrupting.request_blocks(START);
    fail_requested(&mut corrupting);
    assert_eq!(retry_until_requests(&mut unproven, 5), Some(START + limits::FAILED_PIECE_WAIT));

    // A proven peer that sends nothing.
    let swarm = last_missing();
    let [mut corrupting, mut proven, mut unproven] = [1, 2, 3].map(|key| seeded(&swarm, key));
    proven.shared().set_proven();
    proven.request_blocks(START);
    let requested = outstanding(&proven);
    take(&mut proven, Message::Choke);
    requested.into_iter().for_each(|block| take(&mut proven, reject(block)));
    proven.request_blocks(START);
    corrupting.request_blocks(START);
    fail_requested(&mut corrupting);
    unproven.request_blocks(START);
    assert_eq!(outstanding(&unproven).len(), 2);
}

#[test]
fn unproven_peers_get_pieces_of_their_own_while_much_fails() {
    let swarm = swarm(&[0, 1, 2], 6);
    swarm.totals.corrupt.store(1, Relaxed);
    let mut links = [1, 2, 3, 4].map(|key| seeded(&swarm, key));
    for link in &mut links {
        take(link, Message::Extended { id: 0, payload: b"d4:reqqi2ee" });
        link.request_blocks(START);
    }
    let pieces_of = |link: &Link<NoMemory>| -> Vec<_> { outstanding(link).iter().map(|block| block.piece).collect() };
    let mut pieces: Vec<_> = links.iter().map(pieces_of).collect();
    pieces.sort_unstable();
    let missing: Vec<_> = (3..6).map(|index| vec![swarm.geometry.piece(index).unwrap(); 2]).collect();
    assert_eq!(pieces, [vec![Vec::new()], missing].concat(), "one link finds nothing");
}

#[test]
fn an_exclusive_piece_is_requested_elsewhere_only_after_a_stall() {
    let swarm = swarm(&[0, 1, 2, 3, 4], 6);
    let [mut on_parole, mut idle] = [1, 2].map(|key| seeded(&swarm, key));
    idle.shared().set_proven();
    on_parole.shared().set_on_parole(true);
    on_parole.request_blocks(START);
    assert!(swarm.pieces.is_endgame());
    assert_eq!(retry_until_requests(&mut idle, 5), Some(START + limits::RESCUE_AFTER));
}

#[test]
fn stalled_pieces_are_rescued_while_all_peers_are_on_parole() {
    let swarm = swarm(&[0, 1, 2, 3, 4], 6);
    let [mut first, mut second] = [1, 2].map(|key| seeded(&swarm, key));
    [&first, &second].iter().for_each(|link| link.shared().set_on_parole(true));
    first.request_blocks(START);
    assert_eq!(outstanding(&first).len(), 2);
    drop(first);
    assert_eq!(retry_until_requests(&mut second, 5), Some(START + limits::RESCUE_AFTER));
    assert_eq!(outstanding(&second).len(), 2);
}
