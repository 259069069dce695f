//! The address at which other hosts reach a socket of this host, for links.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::engine::own_addresses;

/// Replaces the unspecified address by one of this host: the source address of the default route, else that of an
/// interface, else the loopback address. IPv4 is preferred.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let routed = || {
        // TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849): connecting sends nothing.
        let v4 = route([0; 4].into(), [192, 0, 2, 1].into()).ok().filter(is_usable);
        v4.or_else(|| route([0_u16; 8].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()).ok().filter(is_usable))
    };
    let own = || own_addresses().into_iter();
    let ip = routed().filter(|ip| address.is_ipv6() || ip.is_ipv4()).or_else(|| best(own(), address.is_ipv6()));
    SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), address.port())
}

/// Returns the source address of packets from a socket at `local` to `remote`.
fn route(local: IpAddr, remote: IpAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect((remote, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Chooses the address that most other hosts can use.
fn best(addresses: impl Iterator<Item = IpAddr>, with_ipv6: bool) -> Option<IpAddr> {
    let rank = |ip: &IpAddr| (!is_usable(ip), ip.is_ipv6());
    let candidates = addresses.filter(|ip| (with_ipv6 || ip.is_ipv4()) && !is_link_local(ip));
    candidates.min_by_key(rank)
}

fn is_usable(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(ip)
}

/// Whether an address is an IPv6 link-local one, which is of no use without the name of an interface.
fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_usable_address_is_chosen() {
        let best = |addresses: &[&str], with_ipv6| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            best(addresses, with_ipv6).map(|ip| ip.to_string())
        };
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(best(&["127.0.0.1", "::1", "fe80::1", "2001:db8::1", "10.0.0.1"], true), of("10.0.0.1"));
        assert_eq!(best(&["127.0.0.1", "::1", "fe80::1", "fd00:1::1"], true), of("fd00:1::1"));
        assert_eq!(best(&["127.0.0.1", "2001:db8::1"], false), of("127.0.0.1"));
        assert_eq!(best(&["::1", "fe80::1"], true), of("::1"));
        assert_eq!(best(&["::1"], false), None);
        let bound = "192.0.2.7:80".parse().unwrap();
        assert_eq!(reachable(bound), bound);
    }
}
