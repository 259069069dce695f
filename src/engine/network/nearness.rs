//! How near an address is, and which URLs that the user did not write may be requested there: a torrent, magnet link or
//! tracker must not make us call other services of this host or its network.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;

use tracing::debug;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;

use crate::codec::percent::{Plus, unescape};

/// How near an address is to this host. Ordered: a server must not redirect us nearer than it is itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::engine) enum Nearness {
    Public,
    /// In a private network, or on a link of this host.
    Private,
    /// An address of this host that other hosts can reach too.
    ThisHost,
    /// An address that only this host can reach.
    Loopback,
}

impl Nearness {
    pub(in crate::engine) const ALL: [Self; 4] = [Self::Public, Self::Private, Self::ThisHost, Self::Loopback];

    fn of(ip: IpAddr, own: &[IpAddr]) -> Self {
        let ip = ip.to_canonical();
        if ip.is_loopback() || ip.is_unspecified() {
            return Self::Loopback;
        }
        if own.contains(&ip) {
            return Self::ThisHost;
        }
        let is_private = match ip {
            // RFC 6598: 100.64.0.0/10 is shared by a provider's customers.
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                ip.is_private() || ip.is_link_local() || first == 0 || (first == 100 && second & 0xc0 == 64)
            }
            IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
        };
        if is_private { Self::Private } else { Self::Public }
    }

    /// Whether the tracker of a torrent may have this path at an address this near. On the loopback it must begin with
    /// `/announce`, as in libtorrent, or with `/scrape`. At another address of this host, a path of one element may
    /// also be a tracker's script. In a private network an origin behind a proxy may have a path before `/announce`.
    pub(in crate::engine) fn permits_tracker(self, path: &str, step: Step) -> bool {
        let is_tracker = |element: &[u8]| element.starts_with(b"announce") || element.starts_with(b"scrape");
        if self == Self::Public {
            return true;
        }
        // A server that resolves escaped dot segments would use another path than the one checked here.
        let Some(path) =
            unescape(path.as_bytes(), Plus::Itself).filter(|path| !path.windows(2).any(|two| two == b".."))
        else {
            return false;
        };
        let mut elements = path.split(|&byte| byte == b'/').skip(1);
        match self {
            Self::Private => elements.any(is_tracker),
            _ if elements.next().is_some_and(is_tracker) => true,
            _ => self == Self::ThisHost && step == Step::Named && elements.next().is_none(),
        }
    }
}

/// Where a URL comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Step {
    /// The torrent or magnet link.
    Named,
    /// A redirect of a server.
    Redirected,
}

/// Returns the addresses of this host's interfaces. Empty if the kernel does not list them.
pub fn own_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.into_iter().map(|interface| interface.ip().to_canonical()).collect(),
        Err(error) => {
            debug!("this host's addresses are unknown: {error}");
            Vec::new()
        }
    }
}

/// A name resolves to an address that is nearer than expected.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address nearer than expected")]
pub(in crate::engine) struct TooNear(pub(in crate::engine) Nearness);

/// Resolves names, and permits only addresses of the expected nearness. The checked addresses are the ones that are
/// connected to, so a name can't change its addresses in between.
#[derive(Debug)]
pub(in crate::engine) struct CheckedResolver {
    expected: Nearness,
}

impl CheckedResolver {
    /// Fails with [`TooNear`] for names that resolve nearer than `expected`.
    pub(in crate::engine) fn new(expected: Nearness) -> Self {
        Self { expected }
    }
}

/// Resolves a name on a thread of its own, which is left behind after the timeout. [`DefaultResolver`] does that too,
/// but panics if the thread does not start.
fn look_up(uri: &Uri, config: &ureq::config::Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (uri, config) = (uri.clone(), config.clone());
    let patient = NextTimeout { after: Duration::NotHappening, ..timeout };
    let resolving = move || drop(sender.send(DefaultResolver::default().resolve(&uri, &config, patient)));
    thread::Builder::new().name("resolve".to_owned()).spawn(resolving)?;
    receiver.recv_timeout(*timeout.after).unwrap_or_else(|_| Err(ureq::Error::Timeout(timeout.reason)))
}

impl Resolver for CheckedResolver {
    /// If the addresses of a name differ in nearness, only the nearest ones count.
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = look_up(uri, config, timeout)?;
        let own = own_addresses();
        let nearest = found.iter().map(|address| Nearness::of(address.ip(), &own)).max();
        let nearest = nearest.filter(|&nearest| nearest >= self.expected).ok_or(ureq::Error::HostNotFound)?;
        if nearest > self.expected {
            return Err(ureq::Error::Other(Box::new(TooNear(nearest))));
        }
        let mut kept = self.empty();
        for address in found.iter().filter(|address| Nearness::of(address.ip(), &own) == nearest) {
            kept.push(*address);
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified_by_nearness() {
        let own = ["203.0.113.5", "2001:db8::5", "10.0.0.5"].map(|ip| ip.parse().unwrap());
        let near = |ip: &str| Nearness::of(ip.parse().unwrap(), &own);
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"] {
            assert_eq!(near(ip), Nearness::Loopback, "{ip}");
        }
        for ip in ["203.0.113.5", "::ffff:203.0.113.5", "2001:db8::5", "10.0.0.5"] {
            assert_eq!(near(ip), Nearness::ThisHost, "{ip}");
        }
        for ip in [
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(near(ip), Nearness::Private, "{ip}");
        }
        for ip in ["1.1.1.1", "203.0.113.6", "100.128.0.1", "2606:4700::1111"] {
            assert_eq!(near(ip), Nearness::Public, "{ip}");
        }
    }

    #[test]
    fn own_addresses_include_the_loopback() {
        assert!(own_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn untrusted_tracker_urls_need_a_tracker_path() {
        for (path, private, own, loopback) in [
            ("/announce", true, true, true),
            ("/announce.php", true, true, true),
            ("/scrape", true, true, true),
            ("/announce/KEY", true, true, true),
            ("/bt/announce", true, false, false),
            ("/KEY/scrape", true, false, false),
            ("/tracker.php", false, true, false),
            ("/", false, true, false),
            ("/admin/reboot", false, false, false),
            ("/admin%2freboot", false, false, false),
            ("//reboot", false, false, false),
            ("/announce/..%2fadmin", false, false, false),
            ("/announce/%2e%2e/admin", false, false, false),
            ("/%2e%2e", false, false, false),
            ("/%", false, false, false),
        ] {
            for (near, permitted) in
                [(Nearness::Private, private), (Nearness::ThisHost, own), (Nearness::Loopback, loopback)]
            {
                assert_eq!(near.permits_tracker(path, Step::Named), permitted, "{near:?} {path}");
            }
        }
        assert!(!Nearness::ThisHost.permits_tracker("/tracker.php", Step::Redirected));
        assert!(Nearness::Public.permits_tracker("/anything", Step::Named));
    }
}
