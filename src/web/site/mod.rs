//! The public pages of an origin: landing page, `.torrent` files, content for web seeds and plain downloads, and the
//! tracker.
//!
//! A response is generated while the client reads it, from parts that all responses share, so that a stalled client
//! occupies little memory.
//!
//! Owns the published torrents and their URLs. A file is looked up among the published ones and opened by its index: a
//! request never becomes a file path.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

mod by_name;
mod content;
mod file_body;
mod file_table;
mod listing;
mod page;
mod pending;
mod published;
mod torrents;

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;

use super::conditional::Validators;
use super::hosts::{self, Hosts};
use super::plain::{healthy, not_found};
use super::tracker::{Tracker, http};
use crate::base::escape::printable;
use crate::base::limits::WEB_LONG_READS_MAX;
use crate::base::{InfoHash, PeerId};
use crate::codec::magnet::{Magnet, PeerAddress};
use crate::codec::percent::{self, Plus, unescape};
use crate::codec::url::Url;
use crate::engine::Timeliness;
use crate::tracker::Origin;
use file_body::FileReaders;
use published::TorrentFile;
use torrents::Torrents;

pub use page::STYLE;
pub use pending::{Pending, PendingGuard, PendingList};
pub use published::Published;

/// The public pages of an origin.
#[derive(Clone, Debug)]
pub struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Shared with responses that are being generated.
    torrents: RwLock<Arc<Torrents>>,
    /// Content that is being hashed.
    pending: Arc<PendingList>,
    tracker: Tracker,
    /// Without a slash at the end. `None` if URLs contain the host of the request.
    public_url: Option<String>,
    /// The port of HTTP over TCP, and of the tracker over UDP.
    port: u16,
    readers: Arc<FileReaders>,
}

/// The URLs of a torrent, for clients that use a certain host as our name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Links {
    pub page: String,
    pub torrent: String,
    /// The URL of the newest `.torrent` of this name; `None` if it leads to another torrent.
    pub newest: Option<String>,
    pub magnet: String,
    /// The URL of the content; `None` if it is not served. The URL of a folder ends with a slash.
    pub content: Option<String>,
}

impl Site {
    pub fn new(torrents: Vec<Published>, tracker: Tracker, public_url: Option<String>, port: u16) -> Self {
        let public_url = public_url.map(|url| url.trim_end_matches('/').to_owned());
        let torrents = RwLock::new(Arc::new(torrents.into_iter().collect()));
        let readers = Arc::new(FileReaders::new(WEB_LONG_READS_MAX));
        Self(Arc::new(Inner { torrents, pending: Arc::default(), tracker, public_url, port, readers }))
    }

    /// Content that is being hashed.
    pub fn pending(&self) -> &Arc<PendingList> {
        &self.0.pending
    }

    pub fn tracker(&self) -> &Tracker {
        &self.0.tracker
    }

    /// Makes the tracker return this seeder to all peers of our torrents.
    pub fn add_origin(&self, port: u16, peer_id: PeerId, ip: Option<IpAddr>) {
        for torrent in self.torrents().list() {
            self.0.tracker.table().allow_with_origin(torrent.info_hash, Origin { port, peer_id, ip });
        }
    }

    /// Publishes a torrent, whose seeder is `origin`.
    pub fn publish(&self, torrent: Published, origin: Origin) {
        self.0.tracker.table().allow_with_origin(torrent.info_hash, origin);
        self.0.tracker.replaced().handle_published(torrent.info_hash);
        let mut torrents = self.0.torrents.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut torrents).push(Arc::new(torrent));
    }

    /// Publishes a torrent, whose seeder is `origin`, in place of `old`. Requests for `old` are answered with the URL
    /// of the new one.
    pub fn replace(&self, old: InfoHash, torrent: Published, origin: Origin) {
        let (table, info_hash) = (self.0.tracker.table(), torrent.info_hash);
        table.allow_with_origin(info_hash, origin);
        let torrent = Arc::new(torrent);
        let mut torrents = self.0.torrents.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut torrents).replace(old, Arc::clone(&torrent));
        drop(torrents);
        self.0.tracker.replaced().replace(old, info_hash, &self.newest_path(&torrent));
        table.forbid(old);
    }

    /// Stops publishing and tracking `old`, whose content is that of the published torrent `new` since it changed.
    pub fn withdraw_for(&self, old: InfoHash, new: InfoHash) {
        if let Some(torrent) = self.published(new) {
            self.0.tracker.replaced().replace(old, new, &self.newest_path(&torrent));
        }
        self.withdraw(old);
    }

    /// Stops publishing and tracking a torrent.
    pub fn withdraw(&self, info_hash: InfoHash) {
        let mut torrents = self.0.torrents.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut torrents).remove(info_hash);
        drop(torrents);
        self.0.tracker.replaced().forget(info_hash);
        self.0.tracker.table().forbid(info_hash);
    }

    /// Sets whether the page shows a torrent as being updated.
    pub fn set_timeliness(&self, info_hash: InfoHash, timeliness: Timeliness) {
        if let Some(torrent) = self.published(info_hash) {
            torrent.set_timeliness(timeliness);
        }
    }

    fn torrents(&self) -> Arc<Torrents> {
        Arc::clone(&self.0.torrents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The links of a torrent for clients that use `host` (`HOST:PORT`) as our name. The magnet link contains the
    /// address of the seeder if given.
    pub fn links(&self, info_hash: InfoHash, host: &str, seeder: Option<SocketAddr>) -> Option<Links> {
        Some(self.links_of(&*self.published(info_hash)?, host, seeder))
    }

    fn links_of(&self, published: &Published, host: &str, seeder: Option<SocketAddr>) -> Links {
        let base = self.base(host);
        let info_hash = published.info_hash;
        let Sources { tiers, web_seeds } = self.sources(published, &base);
        let magnet = Magnet {
            name: Some(published.name.clone()),
            len: Some(published.total_len),
            trackers: tiers.concat(),
            web_seeds,
            peers: seeder.into_iter().map(PeerAddress::Socket).collect(),
            ..Magnet::new(info_hash)
        };
        Links {
            page: format!("{base}/"),
            torrent: format!("{base}/t/{info_hash}.torrent"),
            newest: self.is_first_of_name(published).then(|| format!("{base}/{}", published.torrent_path_by_name())),
            magnet: magnet.encode(),
            content: published.content_path().map(|path| format!("{base}/{path}")),
        }
    }

    /// Creates the routes. `hosts` are our own names.
    pub fn router(&self, hosts: Hosts) -> Router {
        Router::new()
            .route("/", get(landing))
            .route("/style.css", get(style))
            .route("/healthz", get(healthy))
            .route("/t/{name}", get(torrent))
            .route("/f/{info_hash}", get(content::file))
            .route("/f/{info_hash}/", get(content::file))
            .route("/f/{info_hash}/{*path}", get(content::file))
            .route("/{name}", get(by_name::entry))
            .with_state(self.clone())
            .merge(http::router(self.0.tracker.clone()))
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(hosts, hosts::check))
    }

    fn published(&self, info_hash: InfoHash) -> Option<Arc<Published>> {
        self.torrents().find(info_hash).cloned()
    }

    /// Returns the torrent that the URLs with this name lead to: the first one on the page.
    fn first_of_name(&self, name: &[u8]) -> Option<Arc<Published>> {
        self.torrents().first_of_name(name).cloned()
    }

    /// Whether the URLs with the torrent's name lead to it.
    fn is_first_of_name(&self, published: &Published) -> bool {
        // `/t/INFO_HASH.torrent` takes precedence over a torrent whose name looks like an info-hash.
        let is_info_hash = str::from_utf8(&published.name).is_ok_and(|name| InfoHash::from_hex(name).is_some());
        let first = self.first_of_name(&published.name);
        !is_info_hash && first.is_some_and(|first| first.info_hash == published.info_hash)
    }

    /// Returns the path of the torrent's `.torrent` for clients that want the newest version, relative to the landing
    /// page.
    fn newest_path(&self, published: &Published) -> String {
        if self.is_first_of_name(published) {
            return published.torrent_path_by_name();
        }
        format!("t/{}.torrent", published.info_hash)
    }

    /// The beginning of all our URLs.
    fn base(&self, host: &str) -> String {
        self.0.public_url.clone().unwrap_or_else(|| format!("http://{host}"))
    }

    /// The trackers and web seeds of the torrent, each URL once, with our tracker in the first tier and our content as
    /// the first web seed.
    fn sources(&self, published: &Published, base: &str) -> Sources {
        let mut own = vec![format!("{base}/announce")];
        // A proxy behind a public URL forwards only HTTP.
        if self.0.public_url.is_none()
            && let Ok(base) = Url::parse(base)
            && let Some(host) = base.host_str()
        {
            own.push(format!("udp://{host}:{}/announce", self.0.port));
        }
        let mut web_seeds = published.web_seeds.clone();
        if published.content.is_some() {
            // BEP 19: clients append the name to a URL that ends with a slash.
            web_seeds.insert(0, format!("{base}/f/{}/", published.info_hash));
        }
        // The torrent may name our own tracker and content itself.
        let mut known = HashSet::new();
        web_seeds.retain(|url| known.insert(url.clone()));
        let mut tiers: Vec<Vec<String>> = [own].into_iter().chain(published.tiers.iter().cloned()).collect();
        tiers.iter_mut().for_each(|tier| tier.retain(|url| known.insert(url.clone())));
        tiers.retain(|tier| !tier.is_empty());
        Sources { tiers, web_seeds }
    }
}

/// The trackers and web seeds of a torrent, for clients that use a certain host as our name.
struct Sources {
    tiers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
}

/// Headers of all pages: only our own resources and scripts are loaded, and no other page can embed them in a frame.
pub(super) const PAGE_HEADERS: [(header::HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The host of a request, which the middleware has checked.
fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}

async fn landing(State(site): State<Site>, headers: HeaderMap) -> impl IntoResponse {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page::landing(site, host(&headers)))
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css")], [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], STYLE)
}

/// Serves `/t/INFO_HASH.torrent`, and `/t/NAME.torrent` for the newest torrent of this name. `/t/INFO_HASH` redirects
/// to the first one.
async fn torrent(State(site): State<Site>, headers: HeaderMap, uri: Uri) -> Response {
    let last = uri.path().strip_prefix("/t/").and_then(|last| unescape(last.as_bytes(), Plus::Itself));
    let Some(last) = last else { return not_found().await };
    let stem = last.strip_suffix(b".torrent");
    let Some(info_hash) = str::from_utf8(stem.unwrap_or(&last)).ok().and_then(InfoHash::from_hex) else {
        return match stem.and_then(|name| site.first_of_name(name)) {
            Some(published) => torrent_file(&site, &published, &headers),
            None => not_found().await,
        };
    };
    let Some(published) = site.published(info_hash) else {
        return by_name::gone_or_not_found(&site, info_hash, &headers).await;
    };
    if stem.is_none() {
        return content::redirect(format!("./{}.torrent", published.info_hash));
    }
    torrent_file(&site, &published, &headers)
}

fn torrent_file(site: &Site, published: &Published, headers: &HeaderMap) -> Response {
    let Sources { tiers, web_seeds } = site.sources(published, &site.base(host(headers)));
    let TorrentFile { parts, tag } = published.torrent_file(&tiers, &web_seeds);
    let validators = Validators::new(&tag, published.published_at_s(), SystemTime::now());
    if let Some(refusal) = validators.refuse(headers) {
        return refusal;
    }
    let len = parts.iter().map(Bytes::len).sum::<usize>().to_string();
    let about = [
        (header::CONTENT_TYPE, "application/x-bittorrent".to_owned()),
        (header::CONTENT_LENGTH, len),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        // A cache must ask again each time: the same URL may lead to a newer version.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_DISPOSITION, disposition(&[&published.name[..], b".torrent"].concat())),
    ];
    let body = Body::from_stream(stream::iter(parts.map(Ok::<_, Infallible>)));
    (about, validators.headers(), body).into_response()
}

/// The value of `Content-Disposition` (RFC 6266): an ASCII name for all clients, and the exact one for clients that
/// support RFC 8187.
fn disposition(name: &[u8]) -> String {
    let plain =
        |&byte: &u8| if byte.is_ascii_alphanumeric() || b".-_ ".contains(&byte) { char::from(byte) } else { '_' };
    let ascii: String = name.iter().map(plain).collect();
    let mut text = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''");
    percent::escape(&mut text, printable(name).as_bytes());
    text
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
