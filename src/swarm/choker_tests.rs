//! Tests of choking: the sentences of BEP 3's paragraphs, and our rules for seeders, newcomers and the number of slots.

use super::*;

/// A handful of peers that obey the choker, in virtual time.
struct World {
    peers: Vec<PeerView>,
    choker: Choker,
    role: Role,
    rng: Rng,
    now: Time,
}

/// Interested, choked, and sending us `download_rate`.
fn leecher(key: u64, download_rate: u64) -> PeerView {
    PeerView { key, interested: true, choked: true, snubbed: false, download_rate, upload_rate: 0, uploaded: 0 }
}

impl World {
    fn new(slots: Slots, peers: impl IntoIterator<Item = PeerView>) -> Self {
        let peers = peers.into_iter().collect();
        let choker = Choker::new(slots, Time::ZERO);
        Self { peers, choker, role: Role::Downloading, rng: Rng::with_seed(7), now: Time::ZERO }
    }

    fn apply(&mut self, changes: &Changes) {
        for peer in &mut self.peers {
            assert!(!changes.unchoke.contains(&peer.key) || peer.choked, "unchoked twice");
            assert!(!changes.choke.contains(&peer.key) || !peer.choked, "choked twice");
            peer.choked = (peer.choked || changes.choke.contains(&peer.key)) && !changes.unchoke.contains(&peer.key);
        }
    }

    /// Runs the next round when it is due.
    fn round(&mut self) -> Changes {
        self.now = self.choker.poll_timeout();
        let changes = self.choker.handle_timeout(self.now, &self.peers, self.role, &mut self.rng);
        self.apply(&changes);
        changes
    }

    fn interested(&mut self, key: u64) -> Changes {
        self.peer(key).interested = true;
        let changes = self.choker.handle_interested(key, &self.peers, self.role);
        self.apply(&changes);
        changes
    }

    fn peer(&mut self, key: u64) -> &mut PeerView {
        self.peers.iter_mut().find(|peer| peer.key == key).unwrap()
    }

    fn unchoked(&self) -> Vec<u64> {
        self.peers.iter().filter(|peer| !peer.choked).map(|peer| peer.key).collect()
    }

    /// Unchoked peers without the optimistic unchoke.
    fn regular(&self) -> Vec<u64> {
        self.unchoked().into_iter().filter(|&key| Some(key) != self.choker.optimistic()).collect()
    }
}

#[test]
fn the_number_of_simultaneous_uploads_is_capped() {
    let mut world = World::new(Slots::Count(4), (0..100).map(|key| leecher(key, key)));
    for _ in 0..50 {
        world.round();
        assert_eq!(world.unchoked().len(), 4);
    }
    let mut world = World::new(Slots::Count(0), (0..10).map(|key| leecher(key, key)));
    world.round();
    assert!(world.unchoked().is_empty());
}

#[test]
fn choking_changes_only_once_every_ten_seconds() {
    let mut world = World::new(Slots::Count(4), (0..10).map(|key| leecher(key, key)));
    world.round();
    let before = world.unchoked();
    for peer in &mut world.peers {
        peer.download_rate = 1000 - peer.download_rate;
    }
    let early = world.now + CHOKE_INTERVAL - Time::from_millis(1);
    assert!(world.choker.handle_timeout(early, &world.peers, Role::Downloading, &mut world.rng).is_empty());
    assert_eq!(world.choker.poll_timeout(), world.now + Time::from_secs(10));
    world.round();
    assert_ne!(world.unchoked(), before);
}

#[test]
fn equal_peers_are_not_swapped_from_round_to_round() {
    let mut world = World::new(Slots::Count(4), (0..10).map(|key| leecher(key, 500)));
    world.round();
    let before = world.regular();
    assert!(world.round().is_empty());
    assert!(world.round().is_empty());
    assert_eq!(world.regular(), before);
}

#[test]
fn the_best_download_rates_that_are_interested_get_unchoked() {
    let mut world = World::new(Slots::Count(4), (0..10).map(|key| leecher(key, 100 * key)));
    world.peer(9).interested = false;
    world.peer(9).download_rate = 0;
    for _ in 0..20 {
        world.round();
        // Three by rate; the fourth slot is the optimistic unchoke's.
        assert_eq!(world.regular(), [6, 7, 8]);
        assert!(world.choker.optimistic().is_some_and(|key| key < 6));
    }
}

#[test]
fn a_better_rate_that_is_not_interested_gets_unchoked_too() {
    let mut world = World::new(Slots::Count(4), (0..8).map(|key| leecher(key, 100 * key)));
    world.peer(6).interested = false;
    world.peer(1).interested = false;
    world.round();
    assert_eq!(world.regular(), [4, 5, 6, 7]);
    assert!(world.peer(1).choked, "a worse rate does not");
}

#[test]
fn if_it_becomes_interested_the_worst_uploader_gets_choked() {
    let mut world = World::new(Slots::Count(4), (0..8).map(|key| leecher(key, 100 * key)));
    world.peer(6).interested = false;
    world.round();
    assert_eq!(world.regular(), [4, 5, 6, 7]);
    let optimistic = world.choker.optimistic();
    assert_eq!(world.interested(6), Changes { choke: vec![4], unchoke: vec![] });
    assert_eq!(world.regular(), [5, 6, 7]);
    assert_eq!(world.choker.optimistic(), optimistic, "the rotation does not move");
}

#[test]
fn a_choked_peer_that_becomes_interested_waits_for_the_round() {
    let mut world = World::new(Slots::Count(4), (0..8).map(|key| leecher(key, 100)));
    world.peer(7).interested = false;
    world.peer(7).download_rate = 50;
    world.round();
    assert!(world.interested(7).is_empty());
}

#[test]
fn a_free_slot_is_given_at_once() {
    let mut world = World::new(Slots::Count(4), (0..3).map(|key| leecher(key, 100)));
    world.round();
    assert_eq!(world.unchoked(), [0, 1, 2]);
    world.peers.push(leecher(3, 0));
    assert_eq!(world.interested(3).unchoke, [3]);
    world.peers.push(leecher(4, 0));
    assert!(world.interested(4).is_empty(), "no slot is left");
    world.peers.retain(|peer| peer.key != 1);
    let changes = world.choker.handle_freed(&world.peers, Role::Downloading);
    assert_eq!(changes, Changes { choke: vec![], unchoke: vec![4] });
}

/// The newest peer does not wait for a crowd that came before and reads nothing.
#[test]
fn one_in_four_free_slots_of_a_seeder_goes_to_the_newest_peer() {
    let mut world = World::new(Slots::Count(2), (0..100).map(|key| leecher(key, 0)));
    world.role = Role::Seeding;
    world.round();
    world.peers.push(leecher(200, 0));
    world.round();
    let mut given = Vec::new();
    while given.len() < 8 {
        world.peers.iter_mut().filter(|peer| !peer.choked).for_each(|peer| peer.interested = false);
        let changes = world.choker.handle_freed(&world.peers, Role::Seeding);
        given.extend(&changes.unchoke);
        world.apply(&changes);
    }
    assert!(given[..NEWCOMER_SHARE].contains(&200), "{given:?}");
    assert_eq!(given.iter().filter(|&&key| key >= 99).count(), 2, "and the older peers in their order: {given:?}");
}

/// The upload rate ranks the peers whose turn it is; every peer gets a turn.
#[test]
fn a_seeder_ranks_by_upload_rate() {
    let mut world = World::new(Slots::Count(8), (0..8).map(|key| leecher(key, 100 * key)));
    world.role = Role::Seeding;
    world.round();
    for peer in &mut world.peers {
        peer.upload_rate = 1000 - peer.download_rate;
    }
    world.choker.slots = Slots::Count(3);
    world.round();
    assert_eq!(world.unchoked(), [0, 1, 2]);
}

#[test]
fn one_peer_is_unchoked_regardless_of_its_rate() {
    let mut world = World::new(Slots::Count(4), (0..8).map(|key| leecher(key, 1000 * (key / 5))));
    world.round();
    let optimistic = world.choker.optimistic().unwrap();
    assert_eq!(world.peer(optimistic).download_rate, 0);
    assert!(!world.peer(optimistic).choked);
}

#[test]
fn the_optimistic_unchoke_counts_only_if_interested() {
    let mut world = World::new(Slots::Count(4), (0..3).map(|key| leecher(key, 100)));
    world.peers.push(PeerView { interested: false, ..leecher(3, 0) });
    world.round();
    assert_eq!(world.choker.optimistic(), Some(3));
    assert_eq!(world.unchoked(), [0, 1, 2, 3]);
    assert_eq!(slots_used(&world.peers), 3, "a fourth slot is free");
    world.peers.push(leecher(4, 0));
    assert_eq!(world.interested(4).unchoke, [4]);
    // Its interest makes it one of the four, and another one is choked.
    assert_eq!(world.interested(3).choke, [4]);
}

#[test]
fn the_optimistic_unchoke_rotates_every_30_seconds() {
    let mut world = World::new(Slots::Count(4), (0..12).map(|key| leecher(key, 1000 * (key / 9))));
    let mut served = Vec::new();
    for _ in 0..9 {
        world.round();
        let optimistic = world.choker.optimistic().unwrap();
        assert!(!served.contains(&optimistic), "served again before all other peers");
        served.push(optimistic);
        for _ in 0..2 {
            world.round();
            assert_eq!(world.choker.optimistic(), Some(optimistic), "it keeps its 30 seconds");
        }
    }
    served.sort_unstable();
    assert_eq!(served, (0..9).collect::<Vec<_>>());
}

#[test]
fn new_connections_are_three_times_as_likely_to_be_optimistic() {
    const TRIALS: u32 = 20_000;
    const OTHERS: u32 = 7;
    let newcomer = u64::from(OTHERS);
    let mut places = [0u32; OTHERS as usize + 1];
    let mut rng = Rng::with_seed(3);
    for _ in 0..TRIALS {
        let mut choker = Choker::new(Slots::Count(4), Time::ZERO);
        choker.rotation = (0..newcomer).collect();
        let peers: Vec<PeerView> = (0..=newcomer).map(|key| leecher(key, 0)).collect();
        choker.follow_connections(&peers, &mut rng);
        places[choker.rotation.iter().position(|&key| key == newcomer).unwrap()] += 1;
    }
    let expected = TRIALS / (OTHERS + 3);
    assert!(places[0].abs_diff(3 * expected) < expected / 4, "{places:?}");
    assert!(places[1..].iter().all(|place| place.abs_diff(expected) < expected / 4), "{places:?}");
}

#[test]
fn a_snubbing_peer_is_unchoked_only_optimistically() {
    let mut world = World::new(Slots::Count(4), (0..6).map(|key| leecher(key, 100 * key)));
    world.peer(5).snubbed = true;
    for _ in 0..30 {
        world.round();
        assert!(!world.regular().contains(&5));
    }
    world.role = Role::Seeding;
    let mut served = HashSet::new();
    for _ in 0..20 {
        world.round();
        served.extend(world.unchoked());
    }
    assert!(served.contains(&5), "a seeder ignores snubs");
}

#[test]
fn a_seeder_serves_every_peer_in_the_end() {
    let mut world = World::new(Slots::Count(4), (0..20).map(|key| leecher(key, 0)));
    world.role = Role::Seeding;
    let mut served = HashSet::new();
    let mut bytes = 0;
    for _ in 0..3 * 5 {
        world.round();
        bytes += serve(&mut world, TURN_LEN);
        served.extend(world.unchoked());
    }
    assert_eq!(served.len(), 20);
    let most = world.peers.iter().map(|peer| peer.uploaded).max().unwrap();
    assert!(most <= 2 * bytes / 20, "all are served equally");
}

/// Sends this many bytes to each unchoked peer until the next round.
fn serve(world: &mut World, bytes: u64) -> u64 {
    let unchoked = world.peers.iter_mut().filter(|peer| !peer.choked);
    unchoked.map(|peer| (peer.uploaded += bytes, bytes).1).sum()
}

#[test]
fn a_seeders_turn_ends_after_enough_bytes_or_a_minute() {
    let mut world = World::new(Slots::Count(2), (0..6).map(|key| leecher(key, 0)));
    world.role = Role::Seeding;
    world.round();
    let [fast, slow] = world.unchoked()[..] else { panic!("two slots") };
    for round in 1.. {
        world.peer(fast).uploaded += TURN_LEN / 2;
        world.peer(slow).uploaded += 1;
        world.round();
        match round {
            1 => assert_eq!(world.unchoked(), [fast, slow], "round {round}"),
            2..6 => assert!(!world.unchoked().contains(&fast) && world.unchoked().contains(&slow), "round {round}"),
            _ => break,
        }
    }
    assert!(!world.unchoked().contains(&slow));
}

#[test]
fn newcomers_get_a_share_of_a_seeders_slots() {
    let mut world = World::new(Slots::Count(8), (0..24).map(|key| leecher(key, 0)));
    world.role = Role::Seeding;
    (0..9).for_each(|_| {
        world.round();
        serve(&mut world, TURN_LEN);
    });
    assert!(world.peers.iter().all(|peer| peer.uploaded > 0));
    // From here on more peers come than there are slots.
    for key in 0..40 {
        world.peers.push(leecher(100 + key, 0));
    }
    let mut before_newcomers = 0;
    for _ in 0..6 {
        let before = world.unchoked();
        world.round();
        serve(&mut world, TURN_LEN);
        let new = world.unchoked().into_iter().filter(|key| !before.contains(key));
        let (newcomers, others): (Vec<u64>, Vec<u64>) = new.partition(|&key| key >= 100);
        assert!(newcomers.len() >= (newcomers.len() + others.len()).div_ceil(NEWCOMER_SHARE));
        before_newcomers += others.len();
    }
    assert!(before_newcomers >= 8, "peers that have waited longer come before most newcomers");
}

#[test]
fn slots_grow_with_the_upload_rate_and_while_the_uplink_is_idle() {
    let mut world = World::new(Slots::Auto, (0..100).map(|key| leecher(key, 100)));
    world.round();
    assert_eq!(world.unchoked().len(), UPLOAD_SLOTS_GET);
    let load = |world: &mut World, rate: u64, uplink: Uplink| {
        let changes = world.choker.handle_load(rate, uplink, &world.peers, Role::Downloading);
        world.apply(&changes);
        world.unchoked().len()
    };
    assert_eq!(load(&mut world, 400_000, Uplink::Busy), 4, "a slow uplink has BEP 3's four");
    assert_eq!(load(&mut world, 5_000_000, Uplink::Busy), 14, "at once: no peer is displaced");
    assert_eq!(load(&mut world, 5_000_000, Uplink::Idle), 22, "half as many again");
    assert_eq!(load(&mut world, 1_000_000_000, Uplink::Busy), UPLOAD_SLOTS_MAX);
    assert_eq!(load(&mut world, 400_000, Uplink::Busy), UPLOAD_SLOTS_MAX, "withdrawn in rounds alone");
    world.round();
    assert_eq!(world.unchoked().len(), 12, "four, and the spare slots of an idle uplink");
    world.round();
    assert_eq!(world.unchoked().len(), 10, "the uplink was busy for a whole round");
}

#[test]
fn with_all_slots_every_peer_is_unchoked() {
    let mut world = World::new(Slots::All, (0..50).map(|key| leecher(key, key)));
    world.round();
    assert_eq!(world.unchoked().len(), 50);
    world.peers.push(leecher(50, 0));
    assert_eq!(world.interested(50).unchoke, [50]);
}

#[test]
fn connections_that_ended_leave_the_rotation() {
    let mut world = World::new(Slots::Count(4), (0..10).map(|key| leecher(key, 0)));
    world.round();
    let optimistic = world.choker.optimistic().unwrap();
    world.peers.retain(|peer| peer.key != optimistic);
    world.round();
    assert!(world.choker.optimistic().is_some_and(|key| key != optimistic));
    assert_eq!(world.choker.rotation.len(), 9);
}
