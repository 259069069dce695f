//! Metadata assembled from several peers (BEP 9).
//!
//! Which of two peers sends wrong parts is unknown until all parts have arrived and their SHA-1 is the info-hash. So
//! peers that announce the same length contribute to one version. If it turns out wrong, each of its senders then has
//! to send a whole version alone, and a host whose own version is wrong is banned. The verified metadata also bans the
//! senders of the parts that it refutes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha1::{Digest as _, Sha1};

use crate::base::{InfoHash, Time, host_of, limits};
use crate::codec::metadata::{metadata_part, metadata_part_count};

/// Assembles metadata from the parts that several peers send (BEP 9). A peer is identified by the key of its
/// connection.
#[derive(Debug)]
pub struct MetadataFetch {
    info_hash: InfoHash,
    peers: BTreeMap<u32, Peer>,
    versions: Vec<Version>,
    banned: BTreeSet<IpAddr>,
    /// The senders of failed versions, and the SHA-1 of each part that they sent.
    suspects: Vec<Suspect>,
}

#[derive(Debug)]
struct Peer {
    /// The peer's host; see [`host_of`].
    ip: IpAddr,
    info_len: u32,
}

#[derive(Debug)]
struct Suspect {
    ip: IpAddr,
    info_len: u32,
    part: u32,
    sum: [u8; 20],
}

/// The metadata as some peers send it.
#[derive(Debug)]
struct Version {
    info_len: u32,
    /// The only host that contributes; `None`: every peer that announced this length, except suspects.
    sole_host: Option<IpAddr>,
    parts: Vec<Part>,
    missing: usize,
}

#[derive(Debug)]
enum Part {
    /// Requested from these connections, last at that time.
    Missing {
        askers: Vec<u32>,
        requested_at: Time,
    },
    Received {
        bytes: Box<[u8]>,
        from: IpAddr,
    },
}

/// The result of a received part.
#[derive(Debug, PartialEq, Eq)]
pub enum MetadataProgress {
    More,
    /// The whole info dictionary; its SHA-1 is the info-hash.
    Complete(Vec<u8>),
    /// All parts have arrived, but their SHA-1 is not the info-hash.
    Failed,
}

impl MetadataFetch {
    pub fn new(info_hash: InfoHash) -> Self {
        Self { info_hash, peers: BTreeMap::new(), versions: Vec::new(), banned: BTreeSet::new(), suspects: Vec::new() }
    }

    /// A peer has metadata of this length.
    pub fn handle_offer(&mut self, key: u32, ip: IpAddr, info_len: u32) {
        if info_len > 0 && u64::from(info_len) <= limits::METAINFO_LEN_MAX {
            self.peers.insert(key, Peer { ip: host_of(ip), info_len });
        }
    }

    /// The connection has ended: its parts may be requested from other peers.
    pub fn handle_gone(&mut self, key: u32) {
        let Some(gone) = self.peers.remove(&key) else { return };
        self.versions.iter_mut().for_each(|version| version.withdraw(key, None));
        let peers = &self.peers;
        self.versions.retain(|version| {
            let alone = version.sole_host == Some(gone.ip) && !peers.values().any(|peer| peer.ip == gone.ip);
            let empty = !version.parts.iter().any(|part| matches!(part, Part::Received { .. }));
            let unwanted = !peers.values().any(|peer| peer.info_len == version.info_len);
            !(alone || empty && unwanted)
        });
    }

    /// The peer rejected the request for this part.
    pub fn handle_refused(&mut self, key: u32, part: u32) {
        self.versions.iter_mut().for_each(|version| version.withdraw(key, Some(part)));
    }

    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.contains(&host_of(ip))
    }

    /// The hosts that sent wrong metadata.
    pub fn banned(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.banned.iter().copied()
    }

    /// The next part to request from this peer.
    pub fn next_request(&mut self, now: Time, key: u32) -> Option<u32> {
        let peer = self.peers.get(&key).filter(|peer| !self.banned.contains(&peer.ip))?;
        let (ip, info_len) = (peer.ip, peer.info_len);
        let sole_host = self.suspects.iter().any(|suspect| suspect.ip == ip).then_some(ip);
        let known =
            self.versions.iter().position(|version| version.info_len == info_len && version.sole_host == sole_host);
        let at = match known {
            Some(at) => at,
            None if self.versions.len() < limits::METADATA_VERSIONS_MAX || self.evict_for(info_len, sole_host) => {
                self.versions.push(Version::new(info_len, sole_host));
                self.versions.len() - 1
            }
            None => return None,
        };
        self.versions.get_mut(at)?.pick_part(now, key)
    }

    /// Drops the version to which the fewest hosts contribute, among equals the one with the fewest parts, if more
    /// hosts contribute to the new version.
    fn evict_for(&mut self, info_len: u32, sole_host: Option<IpAddr>) -> bool {
        let rank = |version: &Version| {
            (self.hosts_of(version.info_len, version.sole_host), version.parts.len() - version.missing)
        };
        let ranked = self.versions.iter().enumerate().map(|(at, version)| (rank(version), at));
        let Some(((hosts, _), at)) = ranked.min() else { return false };
        let evicted = hosts < self.hosts_of(info_len, sole_host);
        if evicted {
            self.versions.swap_remove(at);
        }
        evicted
    }

    /// The number of connected hosts that contribute to a version. Each host counts only for the length that it
    /// announced first: otherwise one host could take every place.
    fn hosts_of(&self, info_len: u32, sole_host: Option<IpAddr>) -> usize {
        let mut announced_lens = BTreeMap::new();
        self.peers.values().for_each(|peer| _ = announced_lens.entry(peer.ip).or_insert(peer.info_len));
        announced_lens
            .iter()
            .filter(|&(&ip, &len)| len == info_len && sole_host.is_none_or(|sole_host| sole_host == ip))
            .count()
    }

    /// Takes a part of the requested length from this peer. A part that was not requested from it is ignored.
    pub fn handle_part(&mut self, key: u32, part: u32, bytes: Box<[u8]>) -> MetadataProgress {
        let Some(peer) = self.peers.get(&key) else { return MetadataProgress::More };
        let ip = peer.ip;
        let is_requested = |version: &Version| version.is_requested(key, part);
        let Some(at) = self.versions.iter().position(is_requested) else { return MetadataProgress::More };
        let Some(version) = self.versions.get_mut(at) else { return MetadataProgress::More };
        version.insert(part, bytes, ip);
        if version.missing > 0 {
            return MetadataProgress::More;
        }
        let version = self.versions.swap_remove(at);
        let info_bytes = version.bytes();
        if InfoHash(Sha1::digest(&info_bytes).into()) == self.info_hash {
            self.ban_refuted(&info_bytes);
            return MetadataProgress::Complete(info_bytes);
        }
        self.handle_failed(version);
        MetadataProgress::Failed
    }

    fn handle_failed(&mut self, version: Version) {
        let senders: BTreeSet<IpAddr> = version.senders().map(|(_, _, from)| from).collect();
        if let (1, Some(&only)) = (senders.len(), senders.first()) {
            self.banned.insert(only);
            return;
        }
        for (part, bytes, ip) in version.senders() {
            if self.suspects.len() < limits::TRUST_LIST_MAX {
                let suspect = Suspect { ip, info_len: version.info_len, part, sum: Sha1::digest(bytes).into() };
                self.suspects.push(suspect);
            }
        }
    }

    /// The metadata is verified: bans the senders of parts that differ from it.
    fn ban_refuted(&mut self, info_bytes: &[u8]) {
        let len = u32::try_from(info_bytes.len()).unwrap_or(u32::MAX);
        for Suspect { ip, info_len, part, sum } in self.suspects.drain(..) {
            let verified = metadata_part(len, part).and_then(|range| info_bytes.get(range));
            let agrees = info_len == len && verified.is_some_and(|bytes| <[u8; 20]>::from(Sha1::digest(bytes)) == sum);
            if !agrees {
                self.banned.insert(ip);
            }
        }
    }
}

impl Version {
    fn new(info_len: u32, sole_host: Option<IpAddr>) -> Self {
        let missing = metadata_part_count(info_len) as usize;
        let part = || Part::Missing { askers: Vec::new(), requested_at: Time::ZERO };
        Self { info_len, sole_host, parts: std::iter::repeat_with(part).take(missing).collect(), missing }
    }

    /// Picks parts that were not requested yet first, then parts that other peers have owed for some time.
    fn pick_part(&mut self, now: Time, key: u32) -> Option<u32> {
        let rank = |part: &Part| match part {
            Part::Missing { askers, .. } if askers.is_empty() => Some((0, Time::ZERO)),
            Part::Missing { askers, requested_at } => {
                let late = *requested_at + limits::METADATA_DUPLICATE_AFTER <= now;
                (late && !askers.contains(&key)).then_some((askers.len(), *requested_at))
            }
            Part::Received { .. } => None,
        };
        let ranked = self.parts.iter().enumerate().filter_map(|(at, part)| Some((rank(part)?, at)));
        let (_, at) = ranked.min()?;
        if let Some(Part::Missing { askers, requested_at }) = self.parts.get_mut(at) {
            askers.push(key);
            *requested_at = now;
        }
        u32::try_from(at).ok()
    }

    fn is_requested(&self, key: u32, part: u32) -> bool {
        let part = self.parts.get(part as usize);
        part.is_some_and(|part| matches!(part, Part::Missing { askers, .. } if askers.contains(&key)))
    }

    fn insert(&mut self, part: u32, bytes: Box<[u8]>, from: IpAddr) {
        if let Some(place @ Part::Missing { .. }) = self.parts.get_mut(part as usize) {
            *place = Part::Received { bytes, from };
            self.missing -= 1;
        }
    }

    /// Withdraws the requests to this peer, for one part or for all.
    fn withdraw(&mut self, key: u32, only: Option<u32>) {
        for (at, part) in self.parts.iter_mut().enumerate() {
            if let Part::Missing { askers, .. } = part
                && only.is_none_or(|only| only as usize == at)
            {
                askers.retain(|&asker| asker != key);
            }
        }
    }

    /// Each received part with its sender.
    fn senders(&self) -> impl Iterator<Item = (u32, &[u8], IpAddr)> {
        self.parts.iter().zip(0..).filter_map(|(part, at)| match part {
            Part::Received { bytes, from } => Some((at, &**bytes, *from)),
            Part::Missing { .. } => None,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        self.senders().flat_map(|(_, bytes, _)| bytes.iter().copied()).collect()
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
