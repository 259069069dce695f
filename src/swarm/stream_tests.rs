//! Several links to the same peer.

use super::*;

/// A further connection to the peer of `first`.
fn further(first: &Link<NoMemory>, key: u32) -> Link<NoMemory> {
    Link::further(setup(&first.swarm), first.swarm.clone(), first.shared.clone(), key, START)
}

#[test]
fn several_connections_are_one_peer() {
    let swarm = swarm(&[], 6);
    let mut first = seeded(&swarm, 1);
    let mut second = further(&first, 2);
    take(&mut second, Message::HaveAll);
    take(&mut second, Message::Unchoke);
    let counts = |swarm: &Swarm<NoMemory>| -> Vec<u32> {
        swarm.geometry.pieces().map(|piece| swarm.availability.of(piece)).collect()
    };
    assert_eq!((counts(&swarm), first.shared.have_count()), (vec![1; 6], PIECE_COUNT));
    take(&mut first, Message::Interested);
    take(&mut second, Message::NotInterested);
    assert!(first.shared.is_interested());
    assert_eq!(swarm.interested.get(), 1);
    // The choker's decision is for both.
    first.shared.set_unchoked(true);
    let unchoked = |link: &mut Link<NoMemory>| sent(link).contains(&"Unchoke".to_owned());
    assert!(unchoked(&mut first) && unchoked(&mut second));
    // Each block is requested once, also in the endgame.
    first.request_blocks(START);
    second.request_blocks(START);
    assert_eq!((outstanding(&first).len(), outstanding(&second).len()), (12, 0));
    drop(second);
    assert!(first.shared.is_interested());
    assert_eq!((counts(&swarm), swarm.interested.get()), (vec![1; 6], 1));
    drop(first);
    assert_eq!((counts(&swarm), swarm.interested.get()), (vec![0; 6], 0));
}
