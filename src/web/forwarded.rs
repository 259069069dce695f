//! The address of a client behind a reverse proxy (`X-Forwarded-For`).

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::base::cidr::Cidr;

/// The proxies whose `X-Forwarded-For` header is trusted.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Whether to trust proxies on the loopback interface.
    pub loopback: bool,
    pub ranges: Vec<Cidr>,
}

impl TrustedProxies {
    pub(super) fn include(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        (self.loopback && ip.is_loopback()) || self.ranges.iter().any(|range| range.contains(ip))
    }

    /// The address of the client of a request. The last address in the header of a trusted proxy is the one from which
    /// the proxy itself got the request.
    pub(super) fn client(&self, remote: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.include(remote.ip()) {
            return remote;
        }
        let named = headers.get_all("x-forwarded-for").iter().next_back();
        let last = named.and_then(|value| address(value.to_str().ok()?.rsplit(',').next()?));
        last.map_or(remote, |ip| SocketAddr::new(ip, remote.port()))
    }
}

/// Parses an address in any form that proxies use: with or without port, IPv6 with or without brackets, all optionally
/// in quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(proxies: &TrustedProxies, remote: &str, named: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for &value in named {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxies.client(SocketAddr::new(remote.parse().unwrap(), 7), &headers).ip().to_string()
    }

    #[test]
    fn the_last_address_is_parsed_in_every_form() {
        let local = TrustedProxies { loopback: true, ranges: Vec::new() };
        for (named, client) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["10.0.0.1, 198.51.100.8"], "198.51.100.8"),
            (&["10.0.0.1", "198.51.100.8"], "198.51.100.8"),
            (&["198.51.100.9:54321"], "198.51.100.9"),
            (&["2001:db8::9"], "2001:db8::9"),
            (&["[2001:db8::10]:443"], "2001:db8::10"),
            (&["[2001:db8::11]"], "2001:db8::11"),
            (&["\"[2001:db8::12]:443\""], "2001:db8::12"),
            (&["198.51.100.7, unknown"], "127.0.0.1"),
            (&[""], "127.0.0.1"),
            (&[], "127.0.0.1"),
        ] {
            assert_eq!(seen(&local, "127.0.0.1", named), client, "{named:?}");
        }
        assert_eq!(seen(&local, "::ffff:127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn only_headers_of_trusted_proxies_count() {
        let named = &["198.51.100.7"];
        let none = TrustedProxies::default();
        let near = TrustedProxies { loopback: false, ranges: vec!["10.0.0.0/8".parse().unwrap()] };
        assert_eq!(seen(&none, "127.0.0.1", named), "127.0.0.1");
        assert_eq!(seen(&near, "127.0.0.1", named), "127.0.0.1");
        assert_eq!(seen(&near, "::ffff:10.1.2.3", named), "198.51.100.7");
        assert_eq!(seen(&near, "192.0.2.1", named), "192.0.2.1");
    }
}
