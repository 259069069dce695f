use super::*;
use crate::base::limits::{AWAITED_FOR, CONNECT_TIMEOUT};

const NOW: Time = Time::from_secs(1000);

fn rng() -> Rng {
    Rng::with_seed(1)
}

fn peer(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 6881)
}

fn list(count: u32) -> PeerList {
    let mut list = PeerList::new();
    list.handle_announced((0..count).map(peer), Source::Tracker, &mut rng());
    list
}

fn fail_all(list: &mut PeerList, now: Time) -> usize {
    let tried = list.poll_connect(now, usize::MAX, usize::MAX, &mut rng());
    tried.iter().for_each(|&addr| list.handle_failed(now, addr));
    tried.len()
}

#[test]
fn addresses_that_cannot_be_listened_on_are_skipped() {
    let mut list = PeerList::new();
    let addrs = [
        "10.0.0.1:0",
        "0.0.0.0:1",
        "[::]:1",
        "224.0.0.1:1",
        "[ff02::1]:1",
        "255.255.255.255:1",
        "127.0.0.1:1",
        "[::ffff:127.0.0.1]:1",
        "[2001:db8::1]:1",
    ];
    list.handle_announced(addrs.iter().map(|text| text.parse().unwrap()), Source::Tracker, &mut rng());
    let mut chosen = list.poll_connect(NOW, 10, usize::MAX, &mut rng());
    chosen.sort_unstable();
    assert_eq!(chosen, ["127.0.0.1:1", "[2001:db8::1]:1"].map(|text| text.parse().unwrap()));
}

#[test]
fn each_peer_is_tried_by_one_connection() {
    let mut list = list(50);
    let first = list.poll_connect(NOW, 30, usize::MAX, &mut rng());
    assert_eq!(first.len(), 30);
    list.handle_connected(first[0]);
    let second = list.poll_connect(NOW, usize::MAX, usize::MAX, &mut rng());
    assert_eq!(second.len(), 20);
    assert!(second.iter().all(|addr| !first.contains(addr)));
    assert_eq!(list.poll_timeout(), None);
}

#[test]
fn the_same_seed_gives_the_same_order() {
    let order = |seed| list(100).poll_connect(NOW, 10, usize::MAX, &mut Rng::with_seed(seed));
    assert_eq!(order(5), order(5));
    assert_ne!(order(5), order(6));
}

#[test]
fn a_host_with_many_ports_does_not_delay_other_hosts() {
    let mut list = PeerList::new();
    let crowd = (1..=400).map(|port| SocketAddr::from(([192, 0, 2, 66], port)));
    let others: Vec<SocketAddr> = (1..=5).map(peer).collect();
    list.handle_announced(crowd.chain(others.iter().copied()), Source::Tracker, &mut rng());
    let first = list.poll_connect(NOW, 20, usize::MAX, &mut rng());
    assert!(others.iter().all(|other| first[..6].contains(other)), "{first:?}");
    assert_eq!(first.len(), 20);
    // A peer that is announced later comes before the next port of the crowd.
    list.handle_announced([peer(6)], Source::Tracker, &mut rng());
    first.iter().for_each(|&addr| list.handle_connected(addr));
    assert_eq!(list.poll_connect(NOW, 1, usize::MAX, &mut rng()), [peer(6)]);
}

#[test]
fn a_leecher_that_does_not_connect_is_connected_to() {
    let mut list = PeerList::new();
    let [absent, present] = [peer(1), peer(2)];
    list.handle_leecher(NOW, absent);
    list.handle_leecher(NOW, present);
    assert_eq!(list.poll_timeout(), Some(NOW + AWAITED_FOR));
    assert!(list.poll_connect(NOW, usize::MAX, usize::MAX, &mut rng()).is_empty());
    // It connects from another port of its host.
    list.handle_accepted(SocketAddr::new(present.ip(), 50_000));
    assert_eq!(list.poll_connect(NOW + AWAITED_FOR, usize::MAX, usize::MAX, &mut rng()), [absent]);
    list.handle_connected(absent);
    list.handle_leecher(NOW + AWAITED_FOR, absent);
    assert_eq!(list.poll_timeout(), None);
}

#[test]
fn attempts_back_off_and_end_until_announced_again() {
    let mut list = list(1);
    assert_eq!(fail_all(&mut list, NOW), 1);
    assert_eq!(list.poll_timeout(), Some(NOW + CONNECT_RETRY_MIN));
    assert_eq!(fail_all(&mut list, NOW + Time::from_secs(9)), 0);
    assert_eq!(fail_all(&mut list, NOW + Time::from_secs(10)), 1);
    assert_eq!(fail_all(&mut list, NOW + Time::from_secs(29)), 0);
    assert_eq!(fail_all(&mut list, NOW + Time::from_secs(30)), 1);
    assert_eq!(list.poll_timeout(), None);
    list.handle_announced([peer(0)], Source::Tracker, &mut rng());
    assert_eq!(list.poll_timeout(), Some(NOW + Time::from_secs(70)));
    assert_eq!(fail_all(&mut list, NOW + Time::from_secs(70)), 1);
    assert_eq!(list.poll_timeout(), None);
}

#[test]
fn a_peer_the_user_names_is_tried_for_ever() {
    let mut list = PeerList::new();
    list.handle_announced([peer(0)], Source::User, &mut rng());
    for _ in 0..100 {
        let due = list.poll_timeout().unwrap();
        assert_eq!(fail_all(&mut list, due), 1);
        assert!(list.poll_timeout().unwrap() <= due + CONNECT_RETRY_MAX);
    }
}

#[test]
fn a_useful_connection_clears_the_failures() {
    let mut list = list(1);
    fail_all(&mut list, NOW);
    fail_all(&mut list, NOW + Time::from_secs(10));
    let later = NOW + Time::from_secs(60);
    list.poll_connect(later, 1, usize::MAX, &mut rng());
    list.handle_connected(peer(0));
    list.handle_disconnected(later, peer(0), Traffic::Sent);
    assert_eq!(list.poll_timeout(), Some(later + CONNECT_RETRY_MIN));
}

/// Fails every attempt until `end`. Returns the seconds from [`NOW`] at which one was made.
fn attempts(list: &mut PeerList, end: Time) -> Vec<u64> {
    let mut made = Vec::new();
    while let Some(due) = list.poll_timeout().filter(|&due| due <= end) {
        assert_eq!(fail_all(list, due), 1);
        made.push((due - NOW).as_secs());
    }
    made
}

#[test]
fn a_lost_peer_is_tried_soon_and_for_ten_minutes() {
    let mut list = list(1);
    list.poll_connect(NOW, 1, usize::MAX, &mut rng());
    list.handle_connected(peer(0));
    list.handle_disconnected(NOW, peer(0), Traffic::Received);
    let made = attempts(&mut list, Time::MAX);
    assert_eq!(made[..7], [1, 2, 3, 4, 5, 6, 7]);
    let waits = made.windows(2).map(|pair| (pair[0], pair[1] - pair[0]));
    assert!(waits.clone().all(|(lasted, wait)| wait <= 1 + lasted / 4), "{made:?}");
    assert!((600..900).contains(made.last().unwrap()), "{made:?}");
    assert_eq!(list.poll_timeout(), None);
    list.handle_announced([peer(0)], Source::Tracker, &mut rng());
    assert!(list.poll_timeout().is_some());
}

#[test]
fn a_lost_peer_that_dialled_us_is_tried_at_its_own_port() {
    let mut list = list(2);
    assert_eq!(fail_all(&mut list, NOW), 2);
    let incoming = SocketAddr::new(peer(0).ip(), 50_000);
    list.handle_accepted(incoming);
    list.handle_disconnected(NOW, incoming, Traffic::Received);
    let soon = NOW + CONNECT_RETRY_LOST_MIN;
    assert_eq!(list.poll_connect(soon, usize::MAX, usize::MAX, &mut rng()), [peer(0)]);
}

#[test]
fn a_peer_that_takes_our_call_and_sends_nothing_is_backed_off() {
    let mut list = PeerList::new();
    list.handle_announced([peer(0)], Source::User, &mut rng());
    let mut now = NOW;
    for _ in 0..10 {
        now = now.max(list.poll_timeout().unwrap());
        list.poll_connect(now, 1, usize::MAX, &mut rng());
        list.handle_connected(peer(0));
        list.handle_disconnected(now, peer(0), Traffic::None);
    }
    assert!(list.poll_timeout().unwrap() >= now + 2 * CONNECT_RETRY_LOST_MIN);
}

#[test]
fn our_own_address_is_never_tried_again() {
    let mut list = list(1);
    list.poll_connect(NOW, 1, usize::MAX, &mut rng());
    list.handle_own(peer(0));
    list.handle_disconnected(NOW, peer(0), Traffic::None);
    list.handle_announced([peer(0)], Source::User, &mut rng());
    assert_eq!(list.poll_connect(NOW + Time::from_secs(9999), 1, usize::MAX, &mut rng()), []);
}

#[test]
fn trust_falls_to_a_ban_and_grows_to_a_bound() {
    let mut list = list(2);
    let ip = peer(0).ip();
    assert!(
        (0..100).all(|_| !list.handle_verdict(ip, HashOutcome::Failed, Contribution::Shared)),
        "another host may have sent the wrong block"
    );
    assert!(list.handle_verdict(ip, HashOutcome::Failed, Contribution::Sole));
    assert!(list.is_banned(ip) && !list.accepts(ip));
    assert!(list.handle_verdict(ip, HashOutcome::Verified, Contribution::Shared), "a ban stays");
    assert_eq!(list.poll_connect(NOW, 10, usize::MAX, &mut rng()), [peer(1)]);

    let honest = peer(1).ip();
    (0..100).for_each(|_| assert!(!list.handle_verdict(honest, HashOutcome::Verified, Contribution::Sole)));
    assert!((0..2).all(|_| !list.handle_verdict(honest, HashOutcome::Failed, Contribution::Sole)));
    assert!(list.handle_verdict(honest, HashOutcome::Failed, Contribution::Sole));
}

#[test]
fn an_unproven_host_is_banned_at_its_first_failed_piece() {
    let mut list = PeerList::new();
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert!(list.handle_verdict(mapped, HashOutcome::Failed, Contribution::Sole));
    assert!(list.is_banned("10.0.0.1".parse().unwrap()));

    // A host with full trust is banned by the third failure all the same.
    let trusted = peer(9).ip();
    (0..100).for_each(|_| assert!(!list.handle_verdict(trusted, HashOutcome::Verified, Contribution::Sole)));
    assert!((0..2).all(|_| !list.handle_verdict(trusted, HashOutcome::Failed, Contribution::Sole)));
    assert!(list.handle_verdict(trusted, HashOutcome::Failed, Contribution::Sole));
}

#[test]
fn bans_outlive_a_flood_of_addresses() {
    let mut list = PeerList::new();
    list.handle_verdict(peer(0).ip(), HashOutcome::Failed, Contribution::Sole);
    list.handle_verdict(peer(0).ip(), HashOutcome::Failed, Contribution::Sole);
    for n in 1..u32::try_from(TRUST_LIST_MAX).unwrap() + 50 {
        list.handle_verdict(peer(n).ip(), HashOutcome::Verified, Contribution::Shared);
    }
    assert!(list.is_banned(peer(0).ip()));
    assert_eq!(list.trust.len(), TRUST_LIST_MAX);
}

#[test]
fn connections_for_an_ip_are_bounded() {
    let mut list = PeerList::new();
    let port = |port| SocketAddr::new(peer(0).ip(), port);
    list.handle_announced((1..=100).map(port), Source::Tracker, &mut rng());
    assert_eq!(list.poll_connect(NOW, 1000, usize::MAX, &mut rng()).len(), CONNECTIONS_PER_IP_MAX);
    assert!(!list.accepts(peer(0).ip()));
    assert_eq!(list.poll_timeout(), None);
    list.handle_failed(NOW, port(1));
    assert!(list.accepts(peer(0).ip()));
    list.handle_accepted(port(50_000));
    assert!(!list.accepts(peer(0).ip()));
    list.handle_disconnected(NOW, port(50_000), Traffic::Received);
    assert!(list.accepts(peer(0).ip()));
    // One host has every address of a /64.
    let mut list = PeerList::new();
    let address = |low: usize| SocketAddr::new(format!("2001:db8:1:2:{low:x}::1").parse().unwrap(), 6881);
    (0..CONNECTIONS_PER_IP_MAX).for_each(|low| list.handle_accepted(address(low)));
    assert!(!list.accepts(address(5000).ip()));
    assert!(list.accepts("2001:db8:1:3::1".parse().unwrap()));
    list.handle_disconnected(NOW, address(0), Traffic::Received);
    assert!(list.accepts(address(5000).ip()));
}

#[test]
fn a_full_list_lets_only_a_worse_peer_go() {
    let full = u32::try_from(PEER_LIST_MAX).unwrap();
    let mut list = list(full);
    list.handle_announced([peer(full)], Source::Tracker, &mut rng());
    assert!(!list.peers.contains_key(&peer(full)), "equals stay");
    let tried = list.poll_connect(NOW, 1, usize::MAX, &mut rng())[0];
    list.handle_failed(NOW, tried);
    list.handle_announced([peer(full)], Source::Tracker, &mut rng());
    assert!(list.peers.contains_key(&peer(full)) && !list.peers.contains_key(&tried));
    list.handle_announced([peer(full + 1)], Source::User, &mut rng());
    assert!(list.peers.contains_key(&peer(full + 1)));
    assert_eq!(list.len(), PEER_LIST_MAX);
}

/// Of several senders of a failed piece, only the one that sends another failed piece alone is banned.
#[test]
fn a_corrupting_peer_among_several_is_found_by_its_own_pieces() {
    use std::sync::Arc;

    use super::super::peer_shared::PeerShared;

    let mut list = PeerList::new();
    let senders = [0, 1].map(|n| Arc::new(PeerShared::new(n, peer(n))));
    let of = |senders: &[Arc<PeerShared>]| Verdict { senders: senders.to_vec(), has_unknown: false };
    let on_parole = || [0, 1].map(|n| senders[n].is_on_parole());
    (0..20).for_each(|_| assert!(list.judge(&of(&senders), HashOutcome::Failed).is_empty()));
    assert_eq!(on_parole(), [true, true]);
    assert!(list.judge(&of(&senders[..1]), HashOutcome::Verified).is_empty());
    assert_eq!(on_parole(), [false, true]);
    assert_eq!(list.judge(&of(&senders[1..]), HashOutcome::Failed), [peer(1).ip()]);
    assert!(list.judge(&of(&senders[1..]), HashOutcome::Failed).is_empty(), "returned once");
}

#[test]
fn a_host_is_judged_and_banned_as_a_whole() {
    use std::sync::Arc;

    use super::super::peer_shared::PeerShared;

    let mut list = PeerList::new();
    let address = |low: u32| -> SocketAddr { format!("[2001:db8:1:2::{low:x}]:6881").parse().unwrap() };
    let senders = [1, 2].map(|low| Arc::new(PeerShared::new(low, address(low))));
    // Two connections of one host contribute to a failed piece: no other host can have corrupted it.
    let banned = list.judge(&Verdict { senders: senders.to_vec(), has_unknown: false }, HashOutcome::Failed);
    assert_eq!(banned, [host_of(address(1).ip())]);
    assert!(!list.accepts(address(77).ip()), "of the same /64");
    assert!(list.accepts("2001:db8:1:3::1".parse().unwrap()));
    assert!(list.accepts("127.0.0.1".parse().unwrap()));
    list.handle_verdict("127.0.0.1".parse().unwrap(), HashOutcome::Failed, Contribution::Sole);
    assert!(list.is_banned("::ffff:127.0.0.1".parse().unwrap()) && !list.is_banned("127.0.0.2".parse().unwrap()));
}

/// Wherever the live peer stands among them, all have been tried within a minute.
#[test]
fn dead_addresses_do_not_delay_a_live_peer() {
    const DEAD_COUNT: u32 = 500;
    let mut list = list(DEAD_COUNT);
    let mut attempts: Vec<(Time, SocketAddr)> = Vec::new();
    let (mut now, mut tried_count) = (NOW, 0);
    while tried_count < DEAD_COUNT as usize {
        for (_, addr) in attempts.extract_if(.., |&mut (until, _)| now >= until) {
            list.handle_failed(now, addr);
        }
        let tried = list.poll_connect(now, 20, HALF_OPEN_MAX - attempts.len(), &mut rng());
        tried_count += tried.len();
        attempts.extend(tried.into_iter().map(|addr| (now + CONNECT_TIMEOUT, addr)));
        assert!(attempts.len() <= HALF_OPEN_MAX);
        now += Time::from_millis(50);
    }
    assert!(now < NOW + Time::from_secs(60), "{:?}", now - NOW);
}

#[test]
fn an_attempt_counts_as_a_connection_while_it_is_young() {
    let mut list = list(100);
    let first = list.poll_connect(NOW, 20, usize::MAX, &mut rng());
    assert_eq!(first.len(), 20);
    list.handle_failed(NOW, first[0]);
    list.handle_connected(first[1]);
    assert_eq!(list.poll_connect(NOW, 19, usize::MAX, &mut rng()).len(), 1);
    assert!(list.poll_connect(NOW + Time::from_millis(999), 19, usize::MAX, &mut rng()).is_empty());
    assert_eq!(list.poll_connect(NOW + CONNECT_HOPEFUL, 19, usize::MAX, &mut rng()).len(), 19);
    assert_eq!(list.poll_connect(NOW + 2 * CONNECT_HOPEFUL, 19, 3, &mut rng()).len(), 3);
}

#[test]
fn attempts_are_spread_over_time() {
    let mut list = list(1000);
    assert_eq!(list.poll_connect(NOW, 1000, usize::MAX, &mut rng()).len(), HALF_OPEN_MAX);
    assert!(list.poll_connect(NOW, 1000, usize::MAX, &mut rng()).is_empty());
    let tenth = NOW + Time::from_millis(100);
    assert_eq!(list.poll_connect(tenth, 1000, usize::MAX, &mut rng()).len(), 5);
}

#[test]
fn a_download_whose_peers_are_all_banned_is_hopeless() {
    let mut list = list(1);
    assert!(!list.is_hopeless() && !PeerList::new().is_hopeless());
    let chosen = list.poll_connect(NOW, 1, usize::MAX, &mut rng());
    list.handle_connected(chosen[0]);
    list.handle_verdict(peer(0).ip(), HashOutcome::Failed, Contribution::Sole);
    assert!(!list.is_hopeless(), "a peer is still connected");
    list.handle_disconnected(NOW, peer(0), Traffic::Received);
    assert!(list.is_hopeless());
    list.handle_announced([peer(1)], Source::Tracker, &mut rng());
    assert!(!list.is_hopeless());
}

#[test]
fn peers_of_higher_canonical_priority_are_tried_first() {
    let mut list = list(20);
    let failed = list.poll_connect(NOW, 1, usize::MAX, &mut rng())[0];
    list.handle_failed(NOW, failed);
    let own: SocketAddr = "123.213.32.10:6881".parse().unwrap();
    list.set_own(Some(own));
    let chosen = list.poll_connect(NOW + CONNECT_RETRY_MAX, 20, usize::MAX, &mut rng());
    assert_eq!((chosen.len(), chosen[19]), (20, failed), "the failed peer comes last");
    assert!(chosen[..19].is_sorted_by_key(|&addr| Reverse(canonical_priority(own, addr))));
    assert_ne!(canonical_priority(own, chosen[0]), canonical_priority(own, chosen[18]));
}

#[test]
fn peers_that_hang_up_are_counted_until_they_shake_hands() {
    let mut list = list(2);
    for hang_ups in 1..=2 {
        let now = NOW + CONNECT_RETRY_MAX * hang_ups;
        for addr in list.poll_connect(now, usize::MAX, usize::MAX, &mut rng()) {
            list.handle_hung_up(addr);
            list.handle_failed(now, addr);
        }
        assert_eq!(list.hung_up_count(), 2, "each peer counts once");
    }
    list.handle_hung_up(peer(7));
    list.handle_connected(peer(0));
    assert_eq!(list.hung_up_count(), 1);
    list.handle_disconnected(NOW, peer(0), Traffic::Received);
    list.handle_hung_up(peer(0));
    assert_eq!(list.hung_up_count(), 1, "it had the torrent");
}
