//! Groups addresses by host.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the address that stands for a host: the IPv4 address, also if it is inside IPv6, or the /64, since one host
/// can use every address of its /64.
pub fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_is_one_host_and_mapped_ipv4_is_ipv4() {
        let host = |text: &str| host_of(text.parse().unwrap()).to_string();
        assert_eq!(host("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(host("10.0.0.2"), "10.0.0.2");
        assert_eq!(host("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(host("2001:db8:1:2::"), host("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(host("2001:db8:1:2::1"), host("2001:db8:1:3::1"));
    }
}
