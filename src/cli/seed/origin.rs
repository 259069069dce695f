//! The web side of `seed`: tracker, pages and metrics, and the links to them.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::SystemTime;

use rustix::system::uname;

use super::reachable::reachable;
use crate::base::{InfoHash, PeerId};
use crate::cli::activation::Handed;
use crate::cli::exit::{Failure, exit_of};
use crate::cli::options::{AdminAddress, WebOptions};
use crate::cli::output::Output;
use crate::cli::records::Record;
use crate::codec::metainfo::Metainfo;
use crate::codec::url::Url;
use crate::engine::{Contents, Listen, Monitor, Timeliness, listen_remedy};
use crate::tracker::{self, Table};
use crate::web::admin::Admin;
use crate::web::hosts::Hosts;
use crate::web::server::{self, PublicSockets};
use crate::web::site::{PendingList, Published, Site};
use crate::web::tracker::Tracker;

/// The running HTTP and tracker servers.
pub(super) struct Origin {
    site: Site,
    /// Content that is served over HTTP; `None` without `--web-seed`.
    web_seed: Option<Arc<Contents>>,
    /// Address at which other hosts reach the pages.
    web: SocketAddr,
    /// Address of the seeder in the tracker's replies; `None` stands for the address at which the peer reached the
    /// tracker.
    ip: Option<IpAddr>,
    /// Address of the seeder in the magnet link; `None` if the link leaves it to the tracker.
    magnet_ip: Option<IpAddr>,
    /// URL of the dashboard.
    dashboard: Option<String>,
    reach: Reach,
    threads: Vec<JoinHandle<()>>,
}

/// The hosts that can open the printed URLs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those of the networks of this host.
    Network,
    /// This host alone, although the page is served on all addresses.
    ThisHost,
    /// Those that reach the public URL.
    Public,
}

/// The seeder's addresses as the command line gives them.
#[derive(Clone, Copy)]
pub(super) struct PeerSide<'a> {
    /// Address on which the seeder accepts peers.
    listen: IpAddr,
    /// `--announce-ip`: an address or a name.
    announce_ip: Option<&'a str>,
}

impl<'a> PeerSide<'a> {
    pub(super) fn new(listen: &Listen, announce_ip: Option<&'a str>) -> Self {
        let all = IpAddr::from([0_u16; 8]);
        let listen = match listen {
            Listen::FirstFree => all,
            Listen::At(address) => address.ip(),
            Listen::Handed(listener) => listener.local_addr().map_or(all, |address| address.ip()),
        };
        Self { listen, announce_ip }
    }
}

impl Origin {
    /// Starts the servers. Their threads end when `stop` is set.
    pub(super) fn start(
        options: &WebOptions,
        handed: Handed,
        peer_side: PeerSide<'_>,
        published: Vec<Published>,
        monitor: &Arc<Monitor>,
        contents: &Arc<Contents>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let cannot = |what: &str, address: Option<SocketAddr>, flag: &str, error: &io::Error| {
            let on = address.map(|address| format!(" on {address}")).unwrap_or_default();
            let line = format_args!("can't listen for {what}{on}: {error}: {}", listen_remedy(error, flag));
            Failure::new(exit_of(error), line)
        };
        let sockets = match &handed.web {
            Some(listener) => PublicSockets::handed(listener, handed.tracker.as_ref()),
            None => PublicSockets::bind(options.address),
        };
        let sockets = sockets.map_err(|error| cannot("the web page", options.address, "--web", &error))?;
        let table = Table::listed();
        published.iter().for_each(|torrent| table.allow(torrent.info_hash));
        let tracker = Tracker::new(table).with_contents(Arc::clone(contents));
        let address = sockets.address;
        let site = Site::new(published, tracker.clone(), options.public_url.clone(), address.port());
        let hosts = Hosts::new(own_names(options.public_url.as_deref()));
        let (admin, admin_address) = match options.admin {
            AdminAddress::Off => (None, None),
            AdminAddress::Loopback => (Some(None), None),
            AdminAddress::At(address) => (Some(Some(address)), Some(address)),
        };
        let admin = match handed.admin {
            Some(listener) => Some(listener.set_nonblocking(true).map(|()| listener)),
            None => admin.map(server::bind_admin),
        };
        let admin = admin.transpose().map_err(|error| cannot("the dashboard", admin_address, "--admin", &error))?;
        let dashboard = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let router = Admin::new(Arc::clone(monitor), tracker.clone(), Arc::clone(site.pending())).router(hosts.clone());
        let admin = admin.map(|listener| server::AdminServer { listener, router });
        let proxies = options.trusted_proxies.clone();
        let threads = server::start(sockets, site.router(hosts), &tracker, proxies, admin, stop)?;
        let web = reachable(address);
        let ip = origin_ip(peer_side, options.public_url.as_deref());
        let seeder = SeederAddress {
            announced: ip.filter(|_| peer_side.announce_ip.is_some()),
            listen: reachable((peer_side.listen, 0).into()).ip(),
            has_public_url: options.public_url.is_some(),
            web: web.ip(),
        };
        Ok(Self {
            site,
            web_seed: options.web_seed.then(|| Arc::clone(contents)),
            web,
            // Peers may have reached the tracker at another address than the one on which the seeder listens.
            ip: ip.or(Some(peer_side.listen).filter(|listen| !listen.is_unspecified())),
            magnet_ip: seeder.for_magnet(),
            reach: match options.public_url {
                Some(_) => Reach::Public,
                None if address.ip().is_unspecified() && web.ip().is_loopback() => Reach::ThisHost,
                None => Reach::Network,
            },
            dashboard: dashboard.map(|address| format!("http://{}/dashboard", reachable(address))),
            threads,
        })
    }

    /// The content that the pages show as being hashed.
    pub(super) fn pending(&self) -> Arc<PendingList> {
        Arc::clone(self.site.pending())
    }

    /// Adds the seeder, which listens on `port`, to the tracker's replies, and prints which hosts cannot reach it.
    pub(super) fn open(&self, port: u16, peer_id: PeerId, output: &Output) {
        self.site.add_origin(port, peer_id, self.ip);
        match self.reach {
            Reach::Network => {}
            Reach::ThisHost => output.warning(
                "this host has no address but the loopback: other hosts cannot reach the page: \
                 give --web ADDR:PORT or --public-url URL",
            ),
            Reach::Public => {
                let address =
                    if self.magnet_ip.is_none() { ", and give its address with --announce-ip ADDR" } else { "" };
                output.message(format_args!(
                    "peers connect past the proxy of --public-url: open TCP port {port} of this host to them{address}"
                ));
            }
        }
    }

    /// Publishes a torrent. The seeder listens on `port`.
    pub(super) fn add(&self, metainfo: Metainfo, port: u16, peer_id: PeerId) {
        let published = Published::new(metainfo, self.web_seed.clone(), SystemTime::now());
        self.site.publish(published, tracker::Origin { port, peer_id, ip: self.ip });
    }

    /// Publishes a torrent in place of `old`, like [`Self::add`].
    pub(super) fn replace(&self, old: InfoHash, metainfo: Metainfo, port: u16, peer_id: PeerId) {
        let published = Published::new(metainfo, self.web_seed.clone(), SystemTime::now());
        self.site.replace(old, published, tracker::Origin { port, peer_id, ip: self.ip });
    }

    /// Withdraws `old`, whose content is that of the published torrent `new` since it changed.
    pub(super) fn withdraw_for(&self, old: InfoHash, new: InfoHash) {
        self.site.withdraw_for(old, new);
    }

    pub(super) fn set_timeliness(&self, info_hash: InfoHash, timeliness: Timeliness) {
        self.site.set_timeliness(info_hash, timeliness);
    }

    pub(super) fn remove(&self, info_hash: InfoHash) {
        self.site.withdraw(info_hash);
    }

    /// Prints the links of a torrent. The seeder listens on `port`.
    pub(super) fn print_links(&self, info_hash: InfoHash, name: &str, port: u16, output: &Output) {
        let seeder = self.magnet_ip.map(|ip| SocketAddr::new(ip, port));
        let Some(links) = self.site.links(info_hash, &self.web.to_string(), seeder) else { return };
        if output.is_json() {
            output.record(&Record::Published {
                info_hash: info_hash.to_string(),
                name,
                page: &links.page,
                torrent: &links.torrent,
                newest: links.newest.as_deref(),
                magnet: &links.magnet,
                content: links.content.as_deref(),
                dashboard: self.dashboard.as_deref(),
            });
            return;
        }
        output.result(format_args!("page       {}", links.page));
        output.result(format_args!("torrent    {}", links.torrent));
        output.result(format_args!("magnet     {}", links.magnet));
        if let Some(content) = links.content {
            output.result(format_args!("content    {content}"));
        }
        if let Some(dashboard) = &self.dashboard {
            output.result(format_args!("dashboard  {dashboard}"));
        }
        output.result(format_args!("get it     bt-fast get {}", links.newest.unwrap_or(links.torrent)));
    }

    /// Waits for the threads to end. The flag `stop` of [`Origin::start`] must be set.
    pub(super) fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Host names that a browser may use for this host.
fn own_names(public_url: Option<&str>) -> Vec<String> {
    let hostname = uname().nodename().to_string_lossy().into_owned();
    let local = format!("{hostname}.local");
    let public = public_url.and_then(host_of);
    [hostname, local].into_iter().chain(public).collect()
}

/// Returns the host of a URL: a name in ASCII, or an address without brackets.
fn host_of(url: &str) -> Option<String> {
    let host = Url::parse(url).ok()?.host_str()?.to_owned();
    Some(host.trim_matches(['[', ']']).to_owned())
}

/// Returns the seeder's address for peers beyond a proxy or NAT: that of `--announce-ip`, else of the public URL. Of
/// several addresses of a name, the first one of a family on which the seeder listens is taken.
fn origin_ip(peer_side: PeerSide<'_>, public_url: Option<&str>) -> Option<IpAddr> {
    let host = peer_side.announce_ip.map(str::to_owned).or_else(|| host_of(public_url?))?;
    let ips: Vec<IpAddr> = (&*host, 0_u16).to_socket_addrs().ok()?.map(|address| address.ip()).collect();
    let listens = |ip: &IpAddr| match peer_side.listen {
        IpAddr::V6(listen) if listen.is_unspecified() => true,
        listen => listen.is_ipv4() == ip.is_ipv4(),
    };
    ips.iter().copied().find(listens).or_else(|| ips.first().copied())
}

/// The candidates for the seeder's address in the magnet link.
#[derive(Clone, Copy)]
struct SeederAddress {
    /// Address of `--announce-ip`.
    announced: Option<IpAddr>,
    /// Address at which hosts of this network reach the seeder.
    listen: IpAddr,
    has_public_url: bool,
    /// Address at which hosts of this network reach the pages.
    web: IpAddr,
}

impl SeederAddress {
    /// Returns the address for the link's `x.pe` parameter (BEP 9) if the clients that load the page can reach it.
    ///
    /// With a public URL the page may be served by another host, so that only `--announce-ip` tells the address. A
    /// loopback address is used only if the page has one too.
    fn for_magnet(&self) -> Option<IpAddr> {
        let listen = Some(self.listen).filter(|_| !self.has_public_url);
        let found = self.announced.or(listen);
        found.filter(|ip| !ip.is_loopback() || self.web.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnet_links_name_only_reachable_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let local =
            SeederAddress { announced: None, listen: ip("10.0.0.2"), has_public_url: false, web: ip("10.0.0.1") };
        let proxied = SeederAddress { has_public_url: true, ..local };
        for (known, expected) in [
            (local, Some("10.0.0.2")),
            (SeederAddress { listen: ip("127.0.0.1"), ..local }, None),
            (SeederAddress { listen: ip("::1"), ..local }, None),
            (SeederAddress { listen: ip("127.0.0.2"), web: ip("127.0.0.1"), ..local }, Some("127.0.0.2")),
            (SeederAddress { announced: Some(ip("10.9.9.9")), ..local }, Some("10.9.9.9")),
            (proxied, None),
            (SeederAddress { listen: ip("127.0.0.2"), web: ip("127.0.0.1"), ..proxied }, None),
            (SeederAddress { listen: ip("198.51.100.2"), ..proxied }, None),
            (SeederAddress { announced: Some(ip("10.9.9.9")), ..proxied }, Some("10.9.9.9")),
        ] {
            assert_eq!(known.for_magnet(), expected.map(ip), "{expected:?}");
        }
    }
}
