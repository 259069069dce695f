//! Blocking HTTP and HTTPS GET: announces, and `.torrent` files by URL.
//!
//! Owns what a server may do to us: time, bytes (raw and inflated), redirects and where they lead. What the body means is
//! the caller's.

#![allow(clippy::disallowed_methods, reason = "a fetch has a deadline across its redirects")]

use std::io::Read as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
pub use ureq::config::IpFamily;
use ureq::http::{Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectProxyConnector, Connector as _, DefaultConnector, NextTimeout, RustlsConnector,
};
use ureq::{Agent, Body};

use super::way::{Way, WayConnector};
use crate::base::escape::printable;
use crate::base::limits::{METAINFO_LEN_MAX, REDIRECTS_MAX, TRACKER_REPLY_LEN_MAX, TRACKER_TIMEOUT};
use crate::codec::magnet::Magnet;
use crate::codec::percent::{Plus, unescape};
use crate::codec::url::{self, Url, WEB_SCHEMES};

/// How often the end is looked for.
const TICK: Duration = Duration::from_millis(50);

/// What a fetch may cost.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// For all of it, redirects included.
    pub timeout: Duration,
    /// Bytes of the body, raw and inflated.
    pub body_len_max: u64,
    pub on_this_host: OnThisHost,
    /// Addresses that may be asked.
    pub ip_family: IpFamily,
}

/// What may be asked for where a name leads to this very host: a torrent from anywhere must not make us call other
/// services that listen here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnThisHost {
    /// Paths that begin with `/announce`, as libtorrent has it, or with `/scrape`.
    TrackerAlone,
    /// The user named the URL.
    Anything,
}

impl FetchLimits {
    /// For a tracker's reply.
    pub fn announce() -> Self {
        Self {
            timeout: TRACKER_TIMEOUT,
            body_len_max: TRACKER_REPLY_LEN_MAX,
            on_this_host: OnThisHost::TrackerAlone,
            ip_family: IpFamily::Any,
        }
    }

    /// For a `.torrent` file.
    pub fn metainfo() -> Self {
        Self { body_len_max: METAINFO_LEN_MAX, on_this_host: OnThisHost::Anything, ..Self::announce() }
    }
}

/// Why a fetch failed, in one line.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("not a http or https URL")]
    BadUrl,
    /// The body is kept: trackers put a `failure reason` in it.
    #[error("HTTP status {status}")]
    Status { status: u16, body: Vec<u8> },
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("answer longer than {0} bytes")]
    TooLong(u64),
    #[error("more than {REDIRECTS_MAX} redirects")]
    TooManyRedirects,
    #[error("redirect refused: {0}")]
    BadRedirect(&'static str),
    /// The link as the server wrote it.
    #[error("it leads to a magnet link: {}", printable(.0))]
    Magnet(Vec<u8>),
    #[error("refused: on this host a tracker's path has to begin with /announce or /scrape")]
    NotAnnounce,
    #[error("{0}")]
    Transport(String),
    #[error("interrupted")]
    Interrupted,
}

/// [`Fetcher::fetch`] by the way that the kernel chooses.
pub fn fetch(url: &str, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
    static FETCHER: LazyLock<Fetcher> = LazyLock::new(|| Fetcher::new(Way::default()));
    FETCHER.fetch(url, limits)
}

/// [`fetch`] until `stop` is set. It has a thread of its own, which is left behind then: nothing ends the look-up of a name.
pub fn fetch_unless(stop: &AtomicBool, url: &str, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
    let (tell, told) = mpsc::sync_channel(1);
    let asked = url.to_owned();
    let fetching = move || drop(tell.send(fetch(&asked, limits)));
    let started = thread::Builder::new().name("fetch".to_owned()).spawn(fetching);
    started.map_err(|error| HttpError::Transport(error.to_string()))?;
    loop {
        match told.recv_timeout(TICK) {
            Ok(fetched) => return fetched,
            Err(mpsc::RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
            Err(_) => return Err(HttpError::Interrupted),
        }
    }
}

/// Fetches by one way out of this host. Clones share what they know of servers.
#[derive(Clone, Debug)]
pub struct Fetcher {
    way: Way,
    /// Refuses names that lead to this host or its network.
    public: Agent,
    /// Asks this host and its network alone, and refuses what [`OnThisHost::TrackerAlone`] does.
    local_tracker: Agent,
    /// Likewise, and refuses nothing.
    local: Agent,
}

impl Fetcher {
    pub fn new(way: Way) -> Self {
        Self {
            way,
            public: agent(way, CheckedResolver::new(check_public)),
            local_tracker: agent(way, CheckedResolver::new(check_local_tracker)),
            local: agent(way, CheckedResolver::new(|_, ip| Ok(is_local(ip)))),
        }
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// Fetches `url` and returns its body, inflated. Blocks for up to `limits.timeout`.
    pub fn fetch(&self, url: &str, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
        let deadline = Instant::now() + limits.timeout;
        let mut url = url::read(url.as_bytes(), &WEB_SCHEMES).ok_or(HttpError::BadUrl)?;
        let local = if limits.on_this_host == OnThisHost::TrackerAlone { &self.local_tracker } else { &self.local };
        // A public server must not send us to a local one. Whoever starts at a local one may stay there.
        let mut was_public = false;
        for _ in 0..=REDIRECTS_MAX {
            let mut response = send(&self.public, &url, limits.ip_family, deadline);
            if let Err(ureq::Error::Other(error)) = &response
                && error.is::<LocalAddress>()
            {
                if was_public {
                    return Err(HttpError::BadRedirect("from a public to a local address"));
                }
                response = send(local, &url, limits.ip_family, deadline);
            } else {
                was_public = true;
            }
            let response = response.map_err(|error| explain(error, limits))?;
            match redirect_target(&url, &response)? {
                Some(target) => url = target,
                None => return read_body(response, limits),
            }
        }
        Err(HttpError::TooManyRedirects)
    }
}

fn agent(way: Way, resolver: impl Resolver) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("bt-fast/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        // Redirects are followed in `fetch`, which checks each.
        .max_redirects(0)
        .build();
    if way == Way::default() {
        return Agent::with_parts(config, DefaultConnector::default(), resolver);
    }
    let connector =
        ().chain(ConnectProxyConnector::default()).chain(WayConnector(way)).chain(RustlsConnector::default());
    Agent::with_parts(config, connector, resolver)
}

fn send(agent: &Agent, url: &Url, ip_family: IpFamily, deadline: Instant) -> Result<Response<Body>, ureq::Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    // The timeout reaches into the reading of the body.
    let left = Some(left.max(Duration::from_millis(1)));
    let mut asked = url.clone();
    // Neither can fail: the URL has a host.
    let _ = (asked.set_username(""), asked.set_password(None));
    asked.set_fragment(None);
    let mut request = agent.get(asked.as_str());
    if let Some(credentials) = credentials(url) {
        request = request.header("authorization", credentials);
    }
    request.config().timeout_global(left).ip_family(ip_family).build().call()
}

/// User and password of a URL as RFC 7617 has them.
fn credentials(url: &Url) -> Option<String> {
    let password = url.password();
    if url.username().is_empty() && password.is_none() {
        return None;
    }
    let plain = |escaped: &str| unescape(escaped.as_bytes(), Plus::Itself).unwrap_or_else(|| escaped.into());
    let pair = [plain(url.username()), plain(password.unwrap_or_default())].join(&b':');
    Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// Reads the body of a final answer.
fn read_body(mut response: Response<Body>, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
    let too_long = HttpError::TooLong(limits.body_len_max);
    if response.body().content_length().is_some_and(|len| len > limits.body_len_max) {
        return Err(too_long);
    }
    let mut body = Vec::new();
    // Inflated bytes. Raw ones that inflate to nothing take no memory, and end with the time.
    let mut reader = response.body_mut().as_reader().take(limits.body_len_max + 1);
    reader.read_to_end(&mut body).map_err(|error| explain(ureq::Error::from(error), limits))?;
    if body.len() as u64 > limits.body_len_max {
        return Err(too_long);
    }
    match response.status().as_u16() {
        200..=299 => Ok(body),
        status => Err(HttpError::Status { status, body }),
    }
}

/// Where the answer sends us on to, if it does.
fn redirect_target(from: &Url, response: &Response<Body>) -> Result<Option<Url>, HttpError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get("location").map(|value| value.as_bytes());
    let location = location.ok_or(HttpError::BadRedirect("it does not say where to"))?;
    if Magnet::is_meant(location) {
        return Err(HttpError::Magnet(location.to_vec()));
    }
    let target = url::join(from, location).ok_or(HttpError::BadRedirect("its target is not a URL"))?;
    if url::read(target.as_str().as_bytes(), &WEB_SCHEMES).is_none() {
        return Err(HttpError::BadRedirect("its target is neither http nor https"));
    }
    if from.scheme() == "https" && target.scheme() != "https" {
        return Err(HttpError::BadRedirect("from https to http"));
    }
    Ok(Some(target))
}

fn explain(error: ureq::Error, limits: FetchLimits) -> HttpError {
    match error {
        ureq::Error::Timeout(_) => HttpError::Timeout(limits.timeout),
        ureq::Error::Io(io) => match io.downcast::<ureq::Error>() {
            Ok(inner) => explain(inner, limits),
            Err(io) => HttpError::Transport(printable(io.to_string().as_bytes())),
        },
        ureq::Error::Other(error) if error.is::<NotAnnounce>() => HttpError::NotAnnounce,
        other => HttpError::Transport(printable(other.to_string().as_bytes())),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("local address")]
struct LocalAddress;

#[derive(Debug, thiserror::Error)]
#[error("not an announce")]
struct NotAnnounce;

/// Whether this address may be asked for this URL; an error where the URL may not be asked for at all.
type Check = fn(&Uri, IpAddr) -> Result<bool, ureq::Error>;

/// Names resolved as usual, and what they lead to checked. Checking the very addresses that are connected to leaves no room
/// for a name that changes its mind.
struct CheckedResolver {
    names: DefaultResolver,
    check: Check,
}

impl CheckedResolver {
    fn new(check: Check) -> Self {
        Self { names: DefaultResolver::default(), check }
    }
}

impl std::fmt::Debug for CheckedResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckedResolver")
    }
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut allowed = self.empty();
        for addr in &self.names.resolve(uri, config, timeout)? {
            if (self.check)(uri, addr.ip())? {
                allowed.push(*addr);
            }
        }
        if allowed.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(allowed) }
    }
}

fn check_public(_: &Uri, ip: IpAddr) -> Result<bool, ureq::Error> {
    if is_local(ip) { Err(ureq::Error::Other(Box::new(LocalAddress))) } else { Ok(true) }
}

fn check_local_tracker(url: &Uri, ip: IpAddr) -> Result<bool, ureq::Error> {
    let is_own = ip.to_canonical().is_loopback() || ip.is_unspecified();
    if is_own && !is_tracker_path(url.path()) {
        return Err(ureq::Error::Other(Box::new(NotAnnounce)));
    }
    Ok(is_local(ip))
}

fn is_tracker_path(path: &str) -> bool {
    path.starts_with("/announce") || path.starts_with("/scrape")
}

/// This host, its links and private networks.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
