//! Canonical peer priority (BEP 40): which of too many connections both sides would rather keep, agreed without a word.

use std::net::{IpAddr, SocketAddr};

/// The priority of the connection between two peers, the same seen from both; the greater is kept.
///
/// CRC32-C over both addresses, lesser first, masked so that neighbours in one network don't all get the same.
pub fn canonical_priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    if ip_a == ip_b {
        let mut ports = [a.port().to_be_bytes(), b.port().to_be_bytes()];
        ports.sort_unstable();
        return crc32c(ports.as_flattened());
    }
    let (mut octets_a, mut octets_b) = (octets(ip_a), octets(ip_b));
    // As much of the address as names a provider's network counts in full, and a byte beyond what is equal.
    let one_family = octets_a.len() == octets_b.len();
    let equal = octets_a.iter().zip(&octets_b).take_while(|(a, b)| one_family && a == b).count();
    for octets in [&mut octets_a, &mut octets_b] {
        let network = if octets.len() == 4 { 2 } else { 6 };
        let full = if equal < network { network } else { equal + 1 };
        octets.iter_mut().skip(full).for_each(|octet| *octet &= 0x55);
    }
    let mut both = [octets_a, octets_b];
    both.sort_unstable();
    crc32c(&both.concat())
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A connection costs eight steps a byte once: no table is worth it.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(a: &str, b: &str) -> u32 {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(canonical_priority(a, b), canonical_priority(b, a));
        canonical_priority(a, b)
    }

    /// The vectors of BEP 40.
    #[test]
    fn different_networks_and_the_same_one() {
        assert_eq!(priority("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(priority("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
    }

    #[test]
    fn hosts_of_a_network_differ_and_one_host_goes_by_its_ports() {
        let ours = "[2001:db8:1:2::1]:6881";
        assert_ne!(priority(ours, "[2001:db8:1:2::2]:1"), priority(ours, "[2001:db8:1:2::3]:1"));
        assert_ne!(priority("10.0.0.1:1", "10.0.0.1:2"), priority("10.0.0.1:1", "10.0.0.1:3"));
        assert_eq!(priority("10.0.0.1:1", "10.0.0.2:2"), priority("[::ffff:10.0.0.1]:9", "10.0.0.2:3"));
        priority("10.0.0.1:1", "[2001:db8::1]:1");
    }
}
