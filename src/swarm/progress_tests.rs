//! A download compares itself with the leechers that it is connected with.

use super::*;
use crate::swarm::choker::Slots;
use crate::swarm::torrent_control::TorrentControl;

/// Peers with these numbers of pieces.
fn peers(have_counts: &[u32]) -> Vec<Arc<PeerShared>> {
    let peer = |&have_count: &u32| {
        let peer = PeerShared::new(1, ([127, 0, 0, 1], 6881).into());
        peer.count_haves(have_count as usize);
        Arc::new(peer)
    };
    have_counts.iter().map(peer).collect()
}

#[test]
fn a_download_behind_or_among_corrupting_peers_seeks_more() {
    let swarm = swarm_of(1000, &[0, 1], 1);
    let sought = |have_counts: &[u32]| swarm.connections_sought(&peers(have_counts));
    let behind = 2 + 1000 / limits::BEHIND_SHARE + 1;
    assert_eq!(sought(&[]), limits::CONNECTIONS_SOUGHT);
    assert_eq!(sought(&[behind, behind, 0]), limits::CONNECTIONS_LEECHING_MAX);
    assert_eq!(sought(&[behind - 1, behind, 0]), limits::CONNECTIONS_SOUGHT);
    assert_eq!(sought(&[behind, 0, 1000, 1000]), limits::CONNECTIONS_SOUGHT, "seeders do not count");
    swarm.totals.corrupt.store(1, Relaxed);
    assert_eq!(sought(&[1000]), limits::CONNECTIONS_SOUGHT_UNPROVEN);
    let proven = PeerShared::new(1, ([127, 0, 0, 1], 6881).into());
    proven.set_proven();
    assert_eq!(swarm.connections_sought(&[Arc::new(proven)]), limits::CONNECTIONS_SOUGHT);
}

#[test]
fn a_late_download_requests_more_of_each_peer() {
    const COUNT: u32 = 2000;
    let swarm = swarm_of(COUNT, &[0, 1], COUNT as usize);
    let mut control = TorrentControl::new(Slots::Auto, &swarm, START);
    let mut links: Vec<_> = (1..=40).map(|key| seeded(&swarm, key)).collect();
    // Several peers are asked, so each gets its share of the requests.
    links.iter().for_each(|link| link.shared.set_proven());
    let mut requested = |have_counts: &[u32]| {
        control.step(START, &swarm, &peers(have_counts), &mut Rng::with_seed(1));
        let mut link = seeded(&swarm, 100);
        link.shared.set_proven();
        links.iter_mut().for_each(|link| link.request_blocks(START));
        link.request_blocks(START);
        outstanding(&link).len()
    };
    let ahead = 2 + COUNT / limits::LATE_SHARE + 1;
    let usual = requested(&[ahead - 1, ahead, COUNT, COUNT]);
    assert_eq!(usual, limits::REQUESTS_OUT_SLOW);
    assert_eq!(requested(&[ahead, ahead, 0, COUNT]), limits::REQUESTS_OUT_LATE);
    assert_eq!(requested(&[ahead, 0, 0, COUNT]), usual, "no longer late");
}
