use super::*;

const HASH: InfoHash = InfoHash([7; 20]);
const NOW: Time = Time::from_secs(500);

fn leecher(n: u8) -> Announcement {
    Announcement {
        info_hash: HASH,
        peer_id: PeerId([n; 20]),
        source: IpAddr::from([10, 0, 0, n]),
        local: IpAddr::from([192, 0, 2, 1]),
        port: 6881,
        left: 1,
        event: Event::Empty,
        numwant: 50,
    }
}

fn seeder(n: u8) -> Announcement {
    Announcement { left: 0, ..leecher(n) }
}

fn table() -> Table {
    let mut table = Table::listed();
    table.allow(HASH);
    table
}

fn announce(table: &mut Table, now: Time, announcement: &Announcement) -> Reply {
    table.handle_announce(now, announcement, &mut Rng::with_seed(1)).unwrap()
}

/// The last number of each peer's address, sorted.
fn numbers(reply: &Reply) -> Vec<u8> {
    let mut numbers: Vec<u8> = reply.peers.iter().map(|peer| peer.peer_id.0[0]).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn peers_learn_of_each_other_and_not_of_themselves() {
    let mut table = table();
    assert_eq!(announce(&mut table, NOW, &leecher(1)).peers, []);
    let reply = announce(&mut table, NOW, &leecher(2));
    let first = SwarmPeer { addr: "10.0.0.1:6881".parse().unwrap(), peer_id: PeerId([1; 20]) };
    assert_eq!(reply.peers, [first]);
    assert_eq!((reply.seeders, reply.leechers), (0, 2));
    assert_eq!(numbers(&announce(&mut table, NOW, &leecher(1))), [2]);
}

#[test]
fn seeders_are_not_given_to_seeders() {
    let mut table = table();
    announce(&mut table, NOW, &seeder(1));
    announce(&mut table, NOW, &leecher(2));
    assert_eq!(numbers(&announce(&mut table, NOW, &seeder(3))), [2]);
    assert_eq!(numbers(&announce(&mut table, NOW, &leecher(4))), [1, 2, 3]);
}

#[test]
fn stopped_takes_a_peer_out_and_completed_makes_it_a_seeder() {
    let mut table = table();
    announce(&mut table, NOW, &leecher(1));
    let done = Announcement { event: Event::Completed, ..seeder(1) };
    announce(&mut table, NOW, &done);
    announce(&mut table, NOW, &done);
    assert_eq!(table.stats(HASH), Some(SwarmStats { seeders: 1, leechers: 0, completed: 1 }));
    let reply = announce(&mut table, NOW, &Announcement { event: Event::Stopped, ..seeder(1) });
    assert_eq!((reply.seeders, reply.peers.len()), (0, 0));
    assert_eq!(table.peer_count, 0);
}

#[test]
fn silent_peers_expire() {
    let mut table = table();
    announce(&mut table, NOW, &leecher(1));
    announce(&mut table, NOW + TRACKER_PEER_EXPIRY / 2, &leecher(2));
    assert_eq!(numbers(&announce(&mut table, NOW + TRACKER_PEER_EXPIRY, &leecher(3))), [2]);
    assert_eq!(table.peer_count, 2);
}

#[test]
fn only_listed_torrents_are_served_unless_open() {
    let other = Announcement { info_hash: InfoHash([8; 20]), ..leecher(1) };
    let refused = table().handle_announce(NOW, &other, &mut Rng::with_seed(1));
    assert_eq!(refused, Err(Refusal::UnknownTorrent));

    let mut open = Table::open();
    for n in 0..TRACKER_SWARM_COUNT_MAX {
        let mut hash = [0; 20];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        announce(&mut open, NOW, &Announcement { info_hash: InfoHash(hash), ..leecher(1) });
    }
    assert_eq!(open.handle_announce(NOW, &other, &mut Rng::with_seed(1)), Err(Refusal::Full));
    announce(&mut open, NOW + TRACKER_PEER_EXPIRY, &other);
    assert_eq!(open.info_hashes().count(), 1);
}

#[test]
fn a_swarm_and_an_address_are_bounded() {
    let mut table = table();
    for port in 1..=1000 {
        announce(&mut table, NOW, &Announcement { port, ..leecher(1) });
    }
    assert_eq!(table.peer_count, TRACKER_PEERS_PER_IP_MAX);
    for n in 0..TRACKER_SWARM_MAX + 100 {
        let source = IpAddr::from(u128::try_from(n).unwrap().to_be_bytes());
        announce(&mut table, NOW, &Announcement { source, numwant: 0, ..leecher(2) });
    }
    assert_eq!(table.peer_count, TRACKER_SWARM_MAX);
    let reply = announce(&mut table, NOW, &Announcement { numwant: usize::MAX, ..leecher(3) });
    assert_eq!(reply.peers.len(), TRACKER_PEERS_GIVEN_MAX);
}

#[test]
fn who_does_not_listen_is_given_peers_and_not_remembered() {
    let mut table = table();
    announce(&mut table, NOW, &leecher(1));
    assert_eq!(numbers(&announce(&mut table, NOW, &Announcement { port: 0, ..leecher(2) })), [1]);
    assert_eq!(table.peer_count, 1);
}

#[test]
fn ipv4_inside_ipv6_is_ipv4() {
    let mut table = table();
    announce(&mut table, NOW, &Announcement { source: "::ffff:10.0.0.1".parse().unwrap(), ..leecher(1) });
    announce(&mut table, NOW, &Announcement { source: "2001:db8::2".parse().unwrap(), ..leecher(2) });
    let reply = announce(&mut table, NOW, &leecher(3));
    let mut addrs: Vec<String> = reply.peers.iter().map(|peer| peer.addr.to_string()).collect();
    addrs.sort_unstable();
    assert_eq!(addrs, ["10.0.0.1:6881", "[2001:db8::2]:6881"]);
}

#[test]
fn the_origin_is_given_where_the_tracker_was_reached() {
    let mut table = Table::listed();
    table.allow_with_origin(HASH, Origin { port: 7000, peer_id: PeerId([9; 20]) });
    let reply = announce(&mut table, NOW, &leecher(1));
    assert_eq!(reply.peers, [SwarmPeer { addr: "192.0.2.1:7000".parse().unwrap(), peer_id: PeerId([9; 20]) }]);
    assert_eq!((reply.seeders, reply.leechers), (1, 1));
    assert_eq!(announce(&mut table, NOW, &Announcement { numwant: 0, ..leecher(1) }).peers, []);
    assert_eq!(numbers(&announce(&mut table, NOW, &seeder(2))), [1]);
}

#[test]
fn the_choice_is_random_and_reproducible() {
    let mut table = table();
    (0..100).for_each(|n| drop(announce(&mut table, NOW, &leecher(n))));
    let asks = Announcement { numwant: 5, ..leecher(200) };
    let mut given = |seed| table.handle_announce(NOW, &asks, &mut Rng::with_seed(seed)).unwrap().peers;
    assert_eq!(given(1), given(1));
    assert_ne!(given(1), given(2));
}
