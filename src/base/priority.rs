//! The canonical priority of a connection (BEP 40). Both ends compute the same number, and neither can choose it
//! freely.

use std::net::{IpAddr, SocketAddr};

/// Returns the priority of the connection between two addresses, in either order. If not all connections can be kept,
/// those of higher priority are.
pub fn canonical_priority(one: SocketAddr, other: SocketAddr) -> u32 {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    if a == b {
        return of_two(one.port().to_be_bytes(), other.port().to_be_bytes());
    }
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => of_two(mask(a.octets(), b.octets(), 2), mask(b.octets(), a.octets(), 2)),
        (IpAddr::V6(a), IpAddr::V6(b)) => of_two(mask(a.octets(), b.octets(), 6), mask(b.octets(), a.octets(), 6)),
        // Addresses of different families cannot be connected.
        _ => 0,
    }
}

/// Keeps all bits of the first `whole` bytes, or of one byte more than the shared prefix if that is longer. Of the
/// other bytes it keeps every second bit, so that the owner of a network has fewer priorities to choose from.
fn mask<const N: usize>(mut ip: [u8; N], other: [u8; N], whole: usize) -> [u8; N] {
    let shared = ip.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let whole = if shared < whole { whole } else { shared + 1 };
    ip.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
    ip
}

fn of_two<const N: usize>(a: [u8; N], b: [u8; N]) -> u32 {
    crc32c(a.min(b).into_iter().chain(a.max(b)))
}

/// Returns the reflected CRC-32C (Castagnoli). A table is not worth it for a few bytes per connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        (0..8).fold(crc ^ u32::from(byte), step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(one: &str, other: &str) -> u32 {
        let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(canonical_priority(one, other), canonical_priority(other, one));
        canonical_priority(one, other)
    }

    #[test]
    fn the_vectors_of_bep_40_and_of_crc32c_match() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        assert_eq!(priority("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(priority("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
    }

    #[test]
    fn bits_that_one_host_can_choose_are_masked() {
        assert_eq!(priority("1.2.3.4:1", "9.8.0.0:1"), priority("1.2.3.4:5", "9.8.170.170:7"), "masked");
        assert_ne!(priority("1.2.3.4:1", "1.2.0.0:1"), priority("1.2.3.4:1", "1.2.170.0:1"), "the same /16");
        assert_ne!(priority("1.2.3.4:1", "1.2.3.4:2"), priority("1.2.3.4:1", "1.2.3.4:3"), "the same host");
        assert_eq!(
            priority("[2001:db8::1]:1", "[2001:db9::]:1"),
            priority("[2001:db8::1]:1", "[2001:db9:0:aa::aaaa]:1")
        );
        assert_eq!(priority("1.2.3.4:1", "[::ffff:9.8.7.6]:1"), priority("1.2.3.4:1", "9.8.7.6:1"));
    }
}
