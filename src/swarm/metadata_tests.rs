use super::*;
use std::collections::BTreeMap;
use std::time::Duration;

const PART: usize = 16 << 10;

fn info(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 7 + at / PART) % 256).unwrap()).collect()
}

fn fetch(info: &[u8]) -> MetadataFetch {
    MetadataFetch::new(InfoHash(Sha1::digest(info).into()))
}

fn ip(key: u32) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(key).unwrap()])
}

/// Peers answer in turns, each with its own metadata, until the metadata is complete or no peer has a part to request.
fn exchange(fetch: &mut MetadataFetch, peers: &BTreeMap<u32, Vec<u8>>) -> Option<Vec<u8>> {
    let mut now = Time::from_secs(1);
    for (&key, metadata) in peers {
        fetch.handle_offer(key, ip(key), u32::try_from(metadata.len()).unwrap());
    }
    for _ in 0..10_000 {
        let mut requested = Vec::new();
        for &key in peers.keys() {
            requested.extend(fetch.next_request(now, key).map(|part| (key, part)));
        }
        for &(key, part) in &requested {
            let metadata = &peers[&key];
            let bytes = &metadata[metadata_part(u32::try_from(metadata.len()).unwrap(), part).unwrap()];
            if let MetadataProgress::Complete(bytes) = fetch.handle_part(key, part, bytes.into()) {
                return Some(bytes);
            }
        }
        now += Duration::from_secs(1);
    }
    None
}

#[test]
fn several_peers_send_parts_side_by_side() {
    let metadata = info(5 * PART + 3);
    let mut fetch = fetch(&metadata);
    let len = u32::try_from(metadata.len()).unwrap();
    fetch.handle_offer(1, ip(1), len);
    fetch.handle_offer(2, ip(2), len);
    let requested: Vec<_> = (0..6).map(|at| fetch.next_request(Time::ZERO, 1 + at % 2).unwrap()).collect();
    assert_eq!(requested, [0, 1, 2, 3, 4, 5]);
    assert_eq!(fetch.next_request(Time::ZERO, 1), None, "all parts are requested");
    // A part that one peer does not send is requested from the other: at once if it rejects or leaves, otherwise after
    // a while.
    fetch.handle_refused(1, 2);
    assert_eq!(fetch.next_request(Time::ZERO, 2), Some(2));
    assert_eq!(fetch.next_request(limits::METADATA_DUPLICATE_AFTER, 2), Some(0));
    fetch.handle_gone(2);
    assert_eq!(fetch.next_request(Time::ZERO, 1), Some(1));
    let peers = BTreeMap::from([(3, metadata.clone())]);
    assert_eq!(exchange(&mut fetch, &peers), Some(metadata));
}

#[test]
fn the_only_sender_of_wrong_metadata_is_banned() {
    let metadata = info(3 * PART);
    let mut fetch = fetch(&metadata);
    let corrupt = vec![1; 2 * PART];
    assert_eq!(exchange(&mut fetch, &BTreeMap::from([(1, corrupt.clone())])), None);
    assert!(fetch.is_banned(ip(1)));
    assert_eq!(exchange(&mut fetch, &BTreeMap::from([(2, metadata.clone()), (1, corrupt)])), Some(metadata));
    assert_eq!(fetch.banned().collect::<Vec<_>>(), [ip(1)]);
}

#[test]
fn only_the_sender_of_wrong_metadata_parts_is_banned() {
    let metadata = info(7 * PART + 100);
    for corrupting in 1..=4 {
        let mut fetch = fetch(&metadata);
        let mut peers: BTreeMap<u32, Vec<u8>> = (1..=4).map(|key| (key, metadata.clone())).collect();
        // One wrong byte in each part.
        peers.get_mut(&corrupting).unwrap().iter_mut().step_by(PART).for_each(|byte| *byte ^= 1);
        assert_eq!(exchange(&mut fetch, &peers), Some(metadata.clone()));
        assert_eq!(fetch.banned().collect::<Vec<_>>(), [ip(corrupting)]);
    }
}

#[test]
fn each_metadata_length_is_a_version_up_to_a_limit() {
    let metadata = info(2 * PART);
    let mut fetch = fetch(&metadata);
    for key in 1..=20 {
        fetch.handle_offer(key, ip(key), 64 << 20);
        fetch.handle_offer(key, ip(key), key);
    }
    let requested = (1..=20).filter(|&key| fetch.next_request(Time::ZERO, key).is_some()).count();
    assert_eq!((requested, fetch.versions.len()), (8, 8));
    // Peers that do not answer are disconnected and make room.
    (1..=20).for_each(|key| fetch.handle_gone(key));
    assert!(fetch.versions.is_empty());
    assert_eq!(exchange(&mut fetch, &BTreeMap::from([(30, metadata.clone())])), Some(metadata));
}

#[test]
fn impossible_lengths_are_no_offers() {
    let mut fetch = fetch(b"x");
    for len in [0, (64 << 20) + 1, u32::MAX] {
        fetch.handle_offer(1, ip(1), len);
        assert_eq!(fetch.next_request(Time::ZERO, 1), None);
    }
}

/// One host announces as many lengths as there are versions, sends a part of each, and leaves or stays.
#[test]
fn one_host_cannot_take_every_metadata_version() {
    let metadata = info(2 * PART);
    for stays in [false, true] {
        let mut fetch = fetch(&metadata);
        let corrupting = 1..=u32::try_from(limits::METADATA_VERSIONS_MAX).unwrap();
        for key in corrupting.clone() {
            let len = (10 + key) * u32::try_from(PART).unwrap();
            fetch.handle_offer(key, ip(66), len);
            let part = fetch.next_request(Time::ZERO, key).unwrap();
            fetch.handle_part(key, part, vec![0; PART].into());
        }
        if !stays {
            corrupting.for_each(|key| fetch.handle_gone(key));
        }
        assert_eq!(exchange(&mut fetch, &BTreeMap::from([(30, metadata.clone())])), Some(metadata.clone()), "{stays}");
    }
}

#[test]
fn addresses_of_a_64_are_banned_together() {
    let metadata = info(PART);
    let mut fetch = fetch(&metadata);
    let address = |low: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, low]);
    fetch.handle_offer(1, address(1), 5);
    assert_eq!(fetch.next_request(Time::ZERO, 1), Some(0));
    assert_eq!(fetch.handle_part(1, 0, vec![9; 5].into()), MetadataProgress::Failed);
    assert!(fetch.is_banned(address(2)) && !fetch.is_banned(IpAddr::from([0x2001, 0xdb8, 1, 3, 0, 0, 0, 1])));
}
