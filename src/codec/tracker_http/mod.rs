//! Announces and scrapes over HTTP (BEP 3, 7, 23, 24, 31, 48): query and reply, for client and tracker.
//!
//! Owns bytes only. The callers own connections, redirects, time limits and the schedule of announces.

mod query;
mod reply;
mod scrape;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use query::{AnnounceQuery, Event, LEFT_UNKNOWN, OwnedAnnounceQuery, QueryError, decode_query};
pub use reply::{
    AnnounceReply, PeerForm, PeerHost, RetryIn, TrackerPeer, TrackerReplyError, decode_reply, encode_failure,
    encode_reply,
};
pub use scrape::{ScrapedSwarm, decode_scrape, decode_scrape_query, encode_scrape, scrape_url};

/// Reads an address of 4 or 16 bytes. An IPv4-mapped IPv6 address becomes an IPv4 address.
pub(super) fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets)).to_canonical());
    v4().or_else(v6)
}

pub(super) fn ip_to_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
