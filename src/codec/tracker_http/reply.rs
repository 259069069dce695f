//! The reply to an announce.

use std::net::IpAddr;

use super::{ip_from_bytes, ip_to_bytes};
use crate::base::escape::printable;
use crate::base::{PeerId, limits};
use crate::codec::bencode::{self, BencodeError, Document, Kind, Node, Value};
use crate::codec::reader::Reader;

/// A tracker's reply. Absent, negative and mistyped values are `None`. Times are not limited yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnnounceReply {
    /// Seconds "between regular rerequests" (BEP 3).
    pub interval: Option<u64>,
    /// Seconds between any two announces at least.
    pub min_interval: Option<u64>,
    /// A value to send back with the next announce.
    pub tracker_id: Option<Vec<u8>>,
    /// Seeders in the swarm.
    pub complete: Option<u64>,
    /// Leechers in the swarm.
    pub incomplete: Option<u64>,
    /// `warning message`, safe to show.
    pub warning: Option<String>,
    /// At most [`limits::TRACKER_REPLY_PEERS_MAX`].
    pub peers: Vec<TrackerPeer>,
    /// Peers that were skipped: those with port 0 or without a usable host, and the rest of a string of the wrong
    /// length.
    pub peers_skipped: usize,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// A peer as a tracker names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackerPeer {
    pub host: PeerHost,
    /// Never 0.
    pub port: u16,
    /// The peer's id, which only the dictionary form has.
    pub peer_id: Option<PeerId>,
}

/// The host of a peer: "IP address or dns name as a string" (BEP 3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PeerHost {
    Ip(IpAddr),
    /// A DNS name of letters, digits, `-`, `_` and `.`.
    Name(String),
}

/// The form in which peers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerForm {
    /// Strings of 6 and 18 bytes per peer (BEP 23, BEP 7), without peers that have a DNS name.
    Compact,
    /// A dictionary for each peer (BEP 3).
    Dictionaries { peer_ids: bool },
}

/// Time after which a tracker that refused wants the next announce (BEP 31).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryIn {
    Minutes(u64),
    Never,
}

/// Why a reply has no peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerReplyError {
    /// `failure reason`, safe to show.
    #[error("the tracker refused: {reason}")]
    Failure { reason: String, retry_in: Option<RetryIn> },
    #[error("the tracker's reply is not bencoded: {0}")]
    Malformed(#[from] BencodeError),
    #[error("the tracker's reply is {0}, expected a dictionary")]
    NotDictionary(Kind),
    /// The tracker did not register the announce.
    #[error("the tracker's reply has neither an interval nor peers")]
    Empty,
}

/// Reads the body of a reply.
pub fn decode_reply(bytes: &[u8]) -> Result<AnnounceReply, TrackerReplyError> {
    let caps = bencode::Limits { depth_max: limits::TRACKER_REPLY_DEPTH_MAX, tokens_max: limits::SMALL_TOKENS_MAX };
    // Some trackers end their reply with a line break.
    let (document, _) = Document::decode_prefix(bytes, &caps)?;
    let root = document.root();
    if root.kind() != Kind::Dictionary {
        return Err(TrackerReplyError::NotDictionary(root.kind()));
    }
    // BEP 3: "If a tracker response has a key `failure reason` [...] no other keys are required."
    if let Some(reason) = root.get(b"failure reason") {
        let retry_in = root.get(b"retry in").and_then(retry_in);
        return Err(TrackerReplyError::Failure { reason: shown(reason.as_bytes().unwrap_or(reason.raw())), retry_in });
    }
    let count = |key: &[u8]| root.get(key)?.as_i64().and_then(|count| u64::try_from(count).ok());
    let bytes = |key: &[u8]| root.get(key)?.as_bytes();
    let is = |key: &[u8], kinds: &[Kind]| root.get(key).is_some_and(|node| kinds.contains(&node.kind()));
    let names_peers = [&b"peers"[..], b"peers6"].iter().any(|key| is(key, &[Kind::Bytes, Kind::List]));
    if !names_peers && !is(b"interval", &[Kind::Integer]) {
        return Err(TrackerReplyError::Empty);
    }
    let mut peers = Peers::default();
    if let Some(node) = root.get(b"peers") {
        peers.add(node, 6);
    }
    if let Some(node) = root.get(b"peers6") {
        peers.add(node, 18);
    }
    Ok(AnnounceReply {
        interval: count(b"interval"),
        min_interval: count(b"min interval"),
        tracker_id: bytes(b"tracker id").filter(|id| id.len() <= limits::TRACKER_ID_LEN_MAX).map(<[u8]>::to_vec),
        complete: count(b"complete"),
        incomplete: count(b"incomplete"),
        warning: bytes(b"warning message").map(shown),
        peers: peers.taken,
        peers_skipped: peers.skipped,
        external_ip: bytes(b"external ip").and_then(ip_from_bytes),
    })
}

/// The peers of one reply.
#[derive(Default)]
struct Peers {
    taken: Vec<TrackerPeer>,
    skipped: usize,
}

impl Peers {
    /// Adds peers in either form; `stride` is the length in bytes of a peer in the compact form.
    fn add(&mut self, node: Node<'_, '_>, stride: usize) {
        if let Some(compact) = node.as_bytes() {
            let peers = compact.chunks(stride);
            peers.for_each(|chunk| self.push(compact_peer(chunk, stride)));
        } else {
            node.items().for_each(|item| self.push(dictionary_peer(item)));
        }
    }

    fn push(&mut self, peer: Option<TrackerPeer>) {
        match peer {
            Some(peer) if peer.port != 0 => {
                if self.taken.len() < limits::TRACKER_REPLY_PEERS_MAX {
                    self.taken.push(peer);
                }
            }
            _ => self.skipped += 1,
        }
    }
}

/// Reads a compact peer: 4 bytes of address and 2 of port, big-endian (BEP 23), or 16 and 2 (BEP 7).
fn compact_peer(chunk: &[u8], stride: usize) -> Option<TrackerPeer> {
    let mut reader = Reader::new(chunk);
    let ip = ip_from_bytes(reader.take(stride - 2)?)?;
    Some(TrackerPeer { host: PeerHost::Ip(ip), port: reader.u16()?, peer_id: None })
}

fn dictionary_peer(node: Node<'_, '_>) -> Option<TrackerPeer> {
    let port = u16::try_from(node.get(b"port")?.as_i64()?).ok()?;
    let host = host(std::str::from_utf8(node.get(b"ip")?.as_bytes()?).ok()?)?;
    let peer_id = node.get(b"peer id").and_then(|id| id.as_bytes()?.try_into().ok()).map(PeerId);
    Some(TrackerPeer { host, port, peer_id })
}

fn host(text: &str) -> Option<PeerHost> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(PeerHost::Ip(ip.to_canonical()));
    }
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    // 253 bytes is the longest name DNS can carry.
    ((1..=253).contains(&text.len()) && is_name(text)).then(|| PeerHost::Name(text.to_owned()))
}

fn retry_in(node: Node<'_, '_>) -> Option<RetryIn> {
    if node.as_bytes() == Some(b"never") {
        return Some(RetryIn::Never);
    }
    let text = node.as_bytes().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    text.or_else(|| u64::try_from(node.as_i64()?).ok()).map(RetryIn::Minutes)
}

fn shown(text: &[u8]) -> String {
    printable(text.get(..limits::TRACKER_TEXT_LEN_MAX).unwrap_or(text))
}

/// Returns the body of a reply of our own tracker. It always has the two keys of BEP 3, `interval` and `peers`.
pub fn encode_reply(reply: &AnnounceReply, form: PeerForm) -> Vec<u8> {
    let mut entries = vec![("interval", Value::from(reply.interval.unwrap_or(0)))];
    entries.extend(reply.min_interval.map(|seconds| ("min interval", seconds.into())));
    entries.extend(reply.tracker_id.as_deref().map(|id| ("tracker id", id.into())));
    entries.extend(reply.complete.map(|count| ("complete", count.into())));
    entries.extend(reply.incomplete.map(|count| ("incomplete", count.into())));
    entries.extend(reply.warning.as_deref().map(|text| ("warning message", text.into())));
    entries.extend(reply.external_ip.map(|ip| ("external ip", Value::Bytes(ip_to_bytes(ip)))));
    match form {
        PeerForm::Compact => {
            let (v4, v6) = compact_peers(&reply.peers);
            entries.push(("peers", Value::Bytes(v4)));
            entries.extend((!v6.is_empty()).then_some(("peers6", Value::Bytes(v6))));
        }
        PeerForm::Dictionaries { peer_ids } => {
            let peers = reply.peers.iter().map(|peer| peer_dictionary(peer, peer_ids)).collect();
            entries.push(("peers", Value::List(peers)));
        }
    }
    Value::dictionary(entries).encode()
}

/// Returns the body of a refusal.
pub fn encode_failure(reason: &str) -> Vec<u8> {
    Value::dictionary([("failure reason", Value::from(reason))]).encode()
}

fn compact_peers(peers: &[TrackerPeer]) -> (Vec<u8>, Vec<u8>) {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for peer in peers {
        let PeerHost::Ip(ip) = peer.host else { continue };
        let out = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
        out.extend(ip_to_bytes(ip));
        out.extend(peer.port.to_be_bytes());
    }
    (v4, v6)
}

fn peer_dictionary(peer: &TrackerPeer, peer_ids: bool) -> Value {
    let host = match &peer.host {
        PeerHost::Ip(ip) => ip.to_string(),
        PeerHost::Name(name) => name.clone(),
    };
    let mut entries = vec![("ip", Value::from(host.as_str())), ("port", u32::from(peer.port).into())];
    let peer_id = peer.peer_id.filter(|_| peer_ids);
    entries.extend(peer_id.map(|id| ("peer id", Value::from(id.0.as_slice()))));
    Value::dictionary(entries)
}
