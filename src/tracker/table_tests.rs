use std::time::Duration;

use super::*;
use crate::base::PeerId;
use crate::base::limits::{
    TRACKER_PEER_EXPIRY, TRACKER_PEERS_GIVEN_MAX, TRACKER_PEERS_PER_IP_MAX, TRACKER_SERVED_INTERVAL,
    TRACKER_SERVED_INTERVAL_MIN, TRACKER_SWARM_MAX,
};
use crate::codec::tracker_http::Event;
use crate::tracker::SwarmPeer;

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
        same_family_only: false,
    }
}

fn seeder(n: u8) -> Announcement {
    Announcement { left: 0, ..leecher(n) }
}

fn table() -> Table {
    let table = Table::listed();
    table.allow(HASH);
    table
}

fn announce(table: &Table, now: Time, announcement: &Announcement) -> Reply {
    table.handle_announce(now, announcement, &mut Rng::with_seed(1)).unwrap()
}

/// Returns the first byte of each peer's id, sorted.
fn numbers(reply: &Reply) -> Vec<u8> {
    let mut numbers: Vec<u8> = reply.peers.iter().map(|peer| peer.peer_id.0[0]).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn peers_learn_of_each_other_and_not_of_themselves() {
    let table = table();
    assert_eq!(announce(&table, NOW, &leecher(1)).peers, []);
    let reply = announce(&table, NOW, &leecher(2));
    let first = SwarmPeer { addr: "10.0.0.1:6881".parse().unwrap(), peer_id: PeerId([1; 20]) };
    assert_eq!(reply.peers, [first]);
    assert_eq!((reply.seeders, reply.leechers), (0, 2));
    assert_eq!(numbers(&announce(&table, NOW, &leecher(1))), [2]);
}

#[test]
fn seeders_are_not_given_to_seeders() {
    let table = table();
    announce(&table, NOW, &seeder(1));
    announce(&table, NOW, &leecher(2));
    assert_eq!(numbers(&announce(&table, NOW, &seeder(3))), [2]);
    assert_eq!(numbers(&announce(&table, NOW, &leecher(4))), [1, 2, 3]);
}

#[test]
fn stopped_takes_a_peer_out_and_completed_makes_it_a_seeder() {
    let table = table();
    announce(&table, NOW, &leecher(1));
    let done = Announcement { event: Event::Completed, ..seeder(1) };
    announce(&table, NOW, &done);
    announce(&table, NOW, &done);
    assert_eq!(table.stats(NOW, HASH), Some(SwarmStats { seeders: 1, leechers: 0, completed: 1 }));
    let reply = announce(&table, NOW, &Announcement { event: Event::Stopped, ..seeder(1) });
    assert_eq!((reply.seeders, reply.peers.len()), (0, 0));
    assert_eq!(table.counts().peers, 0);
}

#[test]
fn silent_peers_expire() {
    let table = table();
    announce(&table, NOW, &leecher(1));
    announce(&table, NOW + TRACKER_PEER_EXPIRY / 2, &leecher(2));
    assert_eq!(numbers(&announce(&table, NOW + TRACKER_PEER_EXPIRY, &leecher(3))), [2]);
    assert_eq!(table.counts().peers, 2);
}

#[test]
fn only_listed_torrents_are_served_unless_open() {
    let other = Announcement { info_hash: InfoHash([8; 20]), ..leecher(1) };
    let refused = table().handle_announce(NOW, &other, &mut Rng::with_seed(1));
    assert_eq!(refused, Err(Refusal::UnknownTorrent));

    let open = Table::open();
    for n in 0..TRACKER_SWARM_COUNT_MAX {
        let mut hash = [0; 20];
        hash[12..].copy_from_slice(&n.to_be_bytes());
        // With two hosts no swarm can be evicted.
        announce(&open, NOW, &Announcement { info_hash: InfoHash(hash), ..leecher(1) });
        announce(&open, NOW, &Announcement { info_hash: InfoHash(hash), ..leecher(2) });
    }
    assert_eq!(open.handle_announce(NOW, &other, &mut Rng::with_seed(1)), Err(Refusal::Full));
    announce(&open, NOW + TRACKER_PEER_EXPIRY, &other);
    for hash in 0..=u8::MAX {
        // Each shard is swept on its own.
        let _ = open.stats(NOW + TRACKER_PEER_EXPIRY, InfoHash([hash; 20]));
    }
    assert_eq!(open.counts(), Counts { swarms: 1, peers: 1 });
}

#[test]
fn a_swarm_and_an_address_are_bounded() {
    let table = table();
    for port in 1..=1000 {
        announce(&table, NOW, &Announcement { port, ..leecher(1) });
    }
    assert_eq!(table.counts().peers, TRACKER_PEERS_PER_IP_MAX);
    for n in 0..TRACKER_SWARM_MAX + 100 {
        let source = IpAddr::from((u128::try_from(n).unwrap() << 64).to_be_bytes());
        announce(&table, NOW, &Announcement { source, numwant: 0, ..leecher(2) });
    }
    assert_eq!(table.counts().peers, TRACKER_SWARM_MAX);
    let reply = announce(&table, NOW, &Announcement { numwant: usize::MAX, ..leecher(3) });
    assert_eq!(reply.peers.len(), TRACKER_PEERS_GIVEN_MAX);
}

#[test]
fn peers_that_do_not_listen_are_given_peers_but_not_remembered() {
    let table = table();
    announce(&table, NOW, &leecher(1));
    assert_eq!(numbers(&announce(&table, NOW, &Announcement { port: 0, ..leecher(2) })), [1]);
    assert_eq!(table.counts().peers, 1);
}

#[test]
fn ipv4_inside_ipv6_is_ipv4() {
    let table = table();
    announce(&table, NOW, &Announcement { source: "::ffff:10.0.0.1".parse().unwrap(), ..leecher(1) });
    announce(&table, NOW, &Announcement { source: "2001:db8::2".parse().unwrap(), ..leecher(2) });
    let reply = announce(&table, NOW, &leecher(3));
    let mut addrs: Vec<String> = reply.peers.iter().map(|peer| peer.addr.to_string()).collect();
    addrs.sort_unstable();
    assert_eq!(addrs, ["10.0.0.1:6881", "[2001:db8::2]:6881"]);
}

#[test]
fn the_origin_is_given_where_the_tracker_was_reached() {
    let table = Table::listed();
    table.allow_with_origin(HASH, Origin { port: 7000, peer_id: PeerId([9; 20]), ip: None });
    let reply = announce(&table, NOW, &leecher(1));
    assert_eq!(reply.peers, [SwarmPeer { addr: "192.0.2.1:7000".parse().unwrap(), peer_id: PeerId([9; 20]) }]);
    assert_eq!((reply.seeders, reply.leechers), (1, 1));
    assert_eq!(announce(&table, NOW, &Announcement { numwant: 0, ..leecher(1) }).peers, []);
    assert_eq!(numbers(&announce(&table, NOW, &seeder(2))), [1]);
}

#[test]
fn the_choice_is_random_and_reproducible() {
    let table = table();
    (0..100).for_each(|n| drop(announce(&table, NOW, &leecher(n))));
    let asks = Announcement { numwant: 5, ..leecher(200) };
    let given = |seed| table.handle_announce(NOW, &asks, &mut Rng::with_seed(seed)).unwrap().peers;
    assert_eq!(given(1), given(1));
    assert_ne!(given(1), given(2));
}

#[test]
fn leechers_get_seeders_first_and_always_some_leechers() {
    let table = table();
    (0..100).for_each(|n| drop(announce(&table, NOW, &seeder(n))));
    (100..200).for_each(|n| drop(announce(&table, NOW, &leecher(n))));
    let given = numbers(&announce(&table, NOW, &Announcement { numwant: 40, ..leecher(200) }));
    assert_eq!((given.len(), given.iter().filter(|&&n| n < 100).count()), (40, 30));
    let given = numbers(&announce(&table, NOW, &Announcement { numwant: 160, ..leecher(200) }));
    assert_eq!((given.len(), given.iter().filter(|&&n| n < 100).count()), (160, 100));
    let given = numbers(&announce(&table, NOW, &Announcement { numwant: 200, ..seeder(201) }));
    assert_eq!((given.len(), given.iter().filter(|&&n| n < 100).count()), (101, 0));
}

#[test]
fn no_peer_is_given_twice_and_every_peer_sometimes() {
    let table = table();
    (0..50).for_each(|n| drop(announce(&table, NOW, &leecher(n))));
    let mut seen = HashSet::new();
    for seed in 0..100 {
        let asks = Announcement { numwant: 10, ..leecher(200) };
        let peers = table.handle_announce(NOW, &asks, &mut Rng::with_seed(seed)).unwrap().peers;
        let given: HashSet<PeerId> = peers.iter().map(|peer| peer.peer_id).collect();
        assert_eq!(given.len(), 10);
        seen.extend(given);
    }
    assert_eq!(seen.len(), 50);
}

#[test]
fn intervals_are_short_while_a_swarm_is_young() {
    let table = table();
    let after = |seconds| announce(&table, NOW + Duration::from_secs(seconds), &leecher(1)).interval;
    assert_eq!(after(0), TRACKER_SERVED_INTERVAL_MIN);
    assert_eq!(after(100), Duration::from_secs(100));
    assert_eq!(after(500), TRACKER_SERVED_INTERVAL);
    // All peers had expired, so the swarm is young again.
    assert_eq!(after(10_000), TRACKER_SERVED_INTERVAL_MIN);
}

#[test]
fn replies_of_one_family_have_only_peers_of_that_family() {
    let table = table();
    announce(&table, NOW, &leecher(1));
    announce(&table, NOW, &Announcement { source: "2001:db8::2".parse().unwrap(), ..leecher(2) });
    let own = |announcement| announce(&table, NOW, &Announcement { same_family_only: true, ..announcement });
    assert_eq!(numbers(&own(leecher(3))), [1]);
    assert_eq!(numbers(&own(Announcement { source: "2001:db8::9".parse().unwrap(), ..leecher(4) })), [2]);
}

#[test]
fn a_64_of_ipv6_is_one_host() {
    let table = table();
    for n in 0..1000_u128 {
        let source = IpAddr::from((0x2001_u128 << 112 | n).to_be_bytes());
        announce(&table, NOW, &Announcement { source, ..leecher(1) });
    }
    assert_eq!(table.counts(), Counts { swarms: 1, peers: TRACKER_PEERS_PER_IP_MAX });
}

#[test]
fn positions_stay_right_through_any_joins_and_leaves() {
    let table = table();
    let mut rng = Rng::with_seed(7);
    let mut present = std::collections::HashMap::new();
    for _ in 0..5000 {
        let n = rng.u8(..40);
        let mut announcement = if rng.bool() { leecher(n) } else { seeder(n) };
        if rng.u8(..3) == 0 {
            announcement.event = Event::Stopped;
            present.remove(&n);
        } else {
            present.insert(n, announcement.left == 0);
        }
        announce(&table, NOW, &announcement);
        let seeders = present.values().filter(|&&seeder| seeder).count();
        let stats = table.stats(NOW, HASH).unwrap();
        assert_eq!((stats.seeders, stats.leechers), (seeders, present.len() - seeders));
    }
    let mut expected: Vec<u8> = present.keys().copied().collect();
    expected.sort_unstable();
    assert_eq!(numbers(&announce(&table, NOW, &Announcement { port: 0, ..leecher(200) })), expected);
}

#[test]
fn a_new_list_ends_swarms_that_are_not_on_it() {
    let table = table();
    table.allow_with_origin(InfoHash([9; 20]), Origin { port: 1, peer_id: PeerId([0; 20]), ip: None });
    announce(&table, NOW, &leecher(1));
    table.allow_only(&HashSet::from([InfoHash([8; 20])]));
    assert_eq!(table.stats(NOW, HASH), None);
    assert!(table.stats(NOW, InfoHash([8; 20])).is_some() && table.stats(NOW, InfoHash([9; 20])).is_some());
    assert_eq!(table.counts(), Counts { swarms: 2, peers: 0 });
}

/// aria2 announces a magnet link with nothing left.
#[test]
fn a_peer_that_starts_with_nothing_left_gets_seeders_once() {
    let table = table();
    announce(&table, NOW, &seeder(1));
    assert_eq!(numbers(&announce(&table, NOW, &Announcement { event: Event::Started, ..seeder(2) })), [1]);
    assert_eq!(numbers(&announce(&table, NOW, &seeder(2))), [0; 0]);
}

/// T10: announces of distinct torrents from one address. `BT_FAST_FLOOD` sets their number; ten million take minutes.
#[test]
fn a_flood_of_torrents_evicts_its_own() {
    let count: u64 = std::env::var("BT_FAST_FLOOD").map_or(300_000, |count| count.parse().unwrap());
    let open = Table::open();
    let mut rng = Rng::with_seed(11);
    let mut random_hash = || InfoHash(std::array::from_fn(|_| rng.u8(..)));
    let (lonely, late) = (random_hash(), random_hash());
    announce(&open, NOW, &leecher(1));
    announce(&open, NOW, &seeder(2));
    announce(&open, NOW, &Announcement { info_hash: lonely, ..seeder(3) });
    let flooder = Announcement { numwant: 0, ..leecher(66) };
    let moment = |n: u64| NOW + Duration::from_micros(10 * n);
    for n in 0..count {
        announce(&open, moment(n), &Announcement { info_hash: random_hash(), ..flooder });
        assert!(open.counts().swarms <= TRACKER_SWARM_COUNT_MAX);
    }
    let end = moment(count);
    let evictable: usize = open.shards.iter().map(|shard| lock(shard).eviction_order.len()).sum();
    assert_eq!(
        (open.counts(), evictable),
        (Counts { swarms: TRACKER_SWARM_COUNT_MAX, peers: TRACKER_SWARM_COUNT_MAX + 1 }, TRACKER_SWARM_COUNT_MAX,)
    );
    // Earlier swarms are still found, and so are new ones.
    assert_eq!(numbers(&announce(&open, end, &leecher(4))), [1, 2]);
    assert_eq!(numbers(&announce(&open, end, &Announcement { info_hash: lonely, ..leecher(4) })), [3]);
    announce(&open, end, &Announcement { info_hash: late, ..seeder(5) });
    assert_eq!(numbers(&announce(&open, end, &Announcement { info_hash: late, ..leecher(6) })), [5]);
    assert_eq!(open.counts().swarms, TRACKER_SWARM_COUNT_MAX);
}

/// T10
#[test]
fn a_million_peers_are_remembered_and_no_more() {
    let open = Table::open();
    let swarm_count = TRACKER_PEER_COUNT_MAX / TRACKER_SWARM_MAX;
    let hash = |n: usize| InfoHash([u8::try_from(n).unwrap(); 20]);
    for n in 0..TRACKER_PEER_COUNT_MAX + 1000 {
        let source = IpAddr::from(0x0b00_0000_u32.wrapping_add(u32::try_from(n).unwrap()).to_be_bytes());
        let info_hash = hash(n / TRACKER_SWARM_MAX);
        announce(&open, NOW, &Announcement { info_hash, source, numwant: 0, ..leecher(1) });
    }
    assert_eq!(open.counts(), Counts { swarms: swarm_count + 1, peers: TRACKER_PEER_COUNT_MAX });
    // A new peer is given peers all the same, and is remembered once other peers have expired.
    let newcomer = Announcement { source: [10, 0, 0, 9].into(), ..leecher(9) };
    assert_eq!(announce(&open, NOW, &Announcement { info_hash: hash(0), ..newcomer }).peers.len(), 50);
    let later = NOW + TRACKER_PEER_EXPIRY;
    announce(&open, later, &Announcement { info_hash: hash(0), ..newcomer });
    assert_eq!(open.stats(later, hash(0)).unwrap().leechers, 1);
}
