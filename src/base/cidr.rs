//! Ranges of addresses (CIDR, RFC 4632), and a filter of peers made of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    /// The prefix; the bits after it are 0.
    bits: u128,
    /// Length of the prefix in 128 bits, of which an IPv4 address takes the last 32.
    prefix_len: u32,
    is_ipv4: bool,
}

/// Why a range was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of addresses: write 192.0.2.0/24, 2001:db8::/32 or one address")]
pub struct CidrError;

impl Cidr {
    /// Returns whether the range contains an address. IPv4 inside IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.is_ipv4 && mask(bits(ip), self.prefix_len) == self.bits
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
        let ip: IpAddr = ip.parse().map_err(|_| CidrError)?;
        let ip_len = if ip.is_ipv4() { 32 } else { 128 };
        let len = match len {
            None => ip_len,
            Some(len) => len.parse().ok().filter(|len| *len <= ip_len).ok_or(CidrError)?,
        };
        let prefix_len = 128 - ip_len + len;
        Ok(Self { bits: mask(bits(ip), prefix_len), prefix_len, is_ipv4: ip.is_ipv4() })
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(bits: u128, prefix_len: u32) -> u128 {
    bits & u128::MAX.checked_shl(128 - prefix_len).unwrap_or(0)
}

/// The addresses that we talk to: those outside `deny` and, unless `allow` is empty, inside `allow`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressFilter {
    pub allow: Vec<Cidr>,
    pub deny: Vec<Cidr>,
}

impl AddressFilter {
    /// Returns whether the filter permits an address.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let is_in = |list: &[Cidr]| list.iter().any(|range| range.contains(ip));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ipv4 {
            let bits = u32::try_from(self.bits).unwrap_or(u32::MAX);
            write!(f, "{}/{}", std::net::Ipv4Addr::from_bits(bits), self.prefix_len.saturating_sub(96))
        } else {
            write!(f, "{}/{}", std::net::Ipv6Addr::from_bits(self.bits), self.prefix_len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_contain_the_addresses_of_their_prefix() {
        for (range, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.77/24", "192.0.2.0", "192.0.1.255"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001::1", "1.2.3.4"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.0.0.0"),
        ] {
            assert!(cidr(range).contains(ip(inside)), "{range} {inside}");
            assert!(!cidr(range).contains(ip(outside)), "{range} {outside}");
        }
        assert_eq!(cidr("192.0.2.77/24").to_string(), "192.0.2.0/24");
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "a/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError), "{bad}");
        }
    }

    #[test]
    fn deny_wins_and_a_filled_allow_list_excludes_the_rest() {
        let filter = AddressFilter { allow: vec![cidr("10.0.0.0/8")], deny: vec![cidr("10.1.0.0/16")] };
        assert!(filter.permits(ip("10.2.0.1")));
        assert!(!filter.permits(ip("10.1.0.1")) && !filter.permits(ip("11.0.0.1")));
        assert!(AddressFilter::default().permits(ip("11.0.0.1")));
    }
}
