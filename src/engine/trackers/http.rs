//! Blocking HTTP and HTTPS GET: announces, and `.torrent` files by URL.
//!
//! Owns the limits on what a server may cost: time, bytes (raw and inflated), redirects and their targets. The meaning
//! of the body is the caller's.

#![allow(clippy::disallowed_methods, reason = "a fetch has a deadline across its redirects")]

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
pub use ureq::config::IpFamily;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, DefaultConnector, RustlsConnector};
use ureq::{Agent, Body};

use super::roots;
use crate::base::escape::printable;
use crate::base::limits::{
    HEALTH_REPLY_LEN_MAX, HTTP_REASON_LEN_MAX, METAINFO_LEN_MAX, REDIRECTS_MAX, TRACKER_REPLY_LEN_MAX, TRACKER_TIMEOUT,
};
use crate::codec::magnet::Magnet;
use crate::codec::percent::{Plus, unescape};
use crate::codec::url::{self, Host, Url, WEB_SCHEMES};
use crate::engine::network::egress::{Egress, EgressConnector};
use crate::engine::network::nearness::{CheckedResolver, Nearness, Step, TooNear};

/// The interval at which `stop` is checked.
const TICK: Duration = Duration::from_millis(50);

/// The limits of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// For the whole fetch, redirects included.
    pub timeout: Duration,
    /// Bytes of the body, raw and inflated.
    pub body_len_max: u64,
    pub source: UrlSource,
    /// The address families that may be connected to.
    pub ip_family: IpFamily,
    pub route: Route,
}

/// The way from a URL to the server that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Through the proxy that the environment names, and along redirects.
    Any,
    /// Only to the server that the URL names: a redirect is an error.
    Direct,
}

/// Where a URL comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UrlSource {
    /// The user wrote it: any URL may be requested.
    User,
    /// A torrent, magnet link or tracker: on this host and in private networks, only trackers may be asked.
    Torrent,
}

impl FetchLimits {
    /// For a tracker's reply.
    pub fn announce() -> Self {
        Self {
            timeout: TRACKER_TIMEOUT,
            body_len_max: TRACKER_REPLY_LEN_MAX,
            source: UrlSource::Torrent,
            ip_family: IpFamily::Any,
            route: Route::Any,
        }
    }

    /// For a `.torrent` file.
    pub fn metainfo() -> Self {
        Self { body_len_max: METAINFO_LEN_MAX, source: UrlSource::User, ..Self::announce() }
    }

    /// For a server's answer to a health check.
    pub fn health(timeout: Duration) -> Self {
        let body_len_max = HEALTH_REPLY_LEN_MAX;
        Self { timeout, body_len_max, source: UrlSource::User, route: Route::Direct, ..Self::announce() }
    }
}

/// Why a fetch failed, in one line.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("not a http or https URL")]
    BadUrl,
    /// The body is kept, since trackers put a `failure reason` in it. `reason` is the first line of a plain-text body,
    /// printable.
    #[error("HTTP status {status}{}{reason}", if reason.is_empty() { "" } else { ": server message: " })]
    Status { status: u16, reason: String, body: Vec<u8> },
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
    #[error(
        "refused: a torrent's tracker on this host must have a path that begins with /announce: give its URL \
         with --announce if you trust it"
    )]
    NotTrackerHere,
    #[error(
        "refused: a torrent's tracker in a private network must have /announce in its path: give its URL with \
         --announce if you trust it"
    )]
    NotTrackerNear,
    #[error("{0}")]
    Transport(String),
    #[error("interrupted")]
    Interrupted,
}

/// Fetches URLs through one [`Egress`]. Clones share their agents.
#[derive(Clone, Debug)]
pub struct Fetcher {
    egress: Egress,
    /// In the order of [`Nearness::ALL`]. Each refuses servers that are nearer.
    agents: [Agent; 4],
    /// Trackers that the user named.
    users_trackers: Arc<[String]>,
}

impl Fetcher {
    pub fn new(egress: Egress) -> Self {
        let agents = Nearness::ALL.map(|nearest| agent(egress, CheckedResolver::new(nearest)));
        Self { egress, agents, users_trackers: Arc::default() }
    }

    /// Trusts these trackers like any URL that the user wrote.
    pub(in crate::engine) fn trusting(self, users_trackers: Arc<[String]>) -> Self {
        Self { users_trackers, ..self }
    }

    /// Returns the source of a tracker's URL. One that the user named is trusted only if its host is an address or a
    /// name of the local network: where any other name leads is decided by its name server.
    pub(in crate::engine) fn source_of(&self, tracker: &str) -> UrlSource {
        let is_local_name = || match Url::parse(tracker).ok().as_ref().and_then(url::host) {
            Some(Host::Domain(name)) => !name.contains('.'),
            host => host.is_some(),
        };
        let is_users = self.users_trackers.iter().any(|known| known == tracker) && is_local_name();
        if is_users { UrlSource::User } else { UrlSource::Torrent }
    }

    pub(in crate::engine) fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Fetches `url` and returns its body, inflated. Blocks for up to `limits.timeout`.
    pub fn fetch(&self, url: &str, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
        let deadline = Instant::now() + limits.timeout;
        let mut url = url::read(url.as_bytes(), &WEB_SCHEMES).ok_or(HttpError::BadUrl)?;
        let mut previous = None;
        for _ in 0..=REDIRECTS_MAX {
            let (response, nearness) = self.ask(&url, limits, previous, deadline)?;
            match limits.route {
                Route::Direct => return read_body(response, limits),
                Route::Any => match redirect_target(&url, &response)? {
                    Some(target) => url = target,
                    None => return read_body(response, limits),
                },
            }
            previous = Some(nearness);
        }
        Err(HttpError::TooManyRedirects)
    }

    /// Like [`Self::fetch`], but returns when `stop` is set. Runs on a thread of its own, which is left behind then,
    /// since a name lookup can't be canceled.
    pub fn fetch_unless(&self, stop: &AtomicBool, url: &str, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (fetcher, request_url) = (self.clone(), url.to_owned());
        let fetching = move || drop(sender.send(fetcher.fetch(&request_url, limits)));
        let started = thread::Builder::new().name("fetch".to_owned()).spawn(fetching);
        started.map_err(|error| HttpError::Transport(error.to_string()))?;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(fetched) => return fetched,
                Err(mpsc::RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
                Err(_) => return Err(HttpError::Interrupted),
            }
        }
    }

    /// Requests one URL. Returns the response and the nearness of its server. `previous` is the nearness of the server
    /// that redirected us here.
    fn ask(
        &self,
        url: &Url,
        limits: FetchLimits,
        previous: Option<Nearness>,
        deadline: Instant,
    ) -> Result<(Response<Body>, Nearness), HttpError> {
        let mut found = Nearness::Public;
        for (nearness, agent) in Nearness::ALL.into_iter().zip(&self.agents) {
            if nearness < found {
                continue;
            }
            check(url, limits.source, previous, nearness)?;
            let response = send(agent, url, limits, deadline);
            if let Err(ureq::Error::Other(error)) = &response
                && let Some(&TooNear(nearer)) = error.downcast_ref()
            {
                found = nearer;
                continue;
            }
            return Ok((response.map_err(|error| explain(error, limits))?, nearness));
        }
        Err(HttpError::BadUrl)
    }
}

/// Refuses URLs that must not be requested at this nearness.
fn check(url: &Url, source: UrlSource, previous: Option<Nearness>, nearness: Nearness) -> Result<(), HttpError> {
    let is_nearer = previous.is_some_and(|previous| previous < nearness);
    let step = if previous.is_some() { Step::Redirected } else { Step::Named };
    match nearness {
        Nearness::ThisHost | Nearness::Loopback if is_nearer => {
            Err(HttpError::BadRedirect("from another host to this host"))
        }
        _ if is_nearer => Err(HttpError::BadRedirect("from a public to a local address")),
        _ if source == UrlSource::User || nearness.permits_tracker(url.path(), step) => Ok(()),
        Nearness::ThisHost | Nearness::Loopback => Err(HttpError::NotTrackerHere),
        _ => Err(HttpError::NotTrackerNear),
    }
}

fn agent(egress: Egress, resolver: impl Resolver) -> Agent {
    // Also for a proxy: a request for a `http` URL does not set it.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("bt-fast/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        // Redirects are followed in `fetch`, which checks each.
        .max_redirects(0)
        // An idle connection would be reused without a check of its address.
        .max_idle_connections(0)
        .build();
    if egress == Egress::default() {
        return Agent::with_parts(config, DefaultConnector::default(), resolver);
    }
    let connector =
        ().chain(ConnectProxyConnector::default()).chain(EgressConnector(egress)).chain(RustlsConnector::default());
    Agent::with_parts(config, connector, resolver)
}

fn send(agent: &Agent, url: &Url, limits: FetchLimits, deadline: Instant) -> Result<Response<Body>, ureq::Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    // The timeout includes reading the body.
    let left = Some(left.max(Duration::from_millis(1)));
    let mut request_url = url.clone();
    // Neither can fail: the URL has a host.
    let _ = (request_url.set_username(""), request_url.set_password(None));
    request_url.set_fragment(None);
    let mut request = agent.get(request_url.as_str());
    if let Some(credentials) = credentials(url) {
        request = request.header("authorization", credentials);
    }
    let mut config = request.config().timeout_global(left).ip_family(limits.ip_family);
    if url.scheme() == "https" {
        config = config.tls_config(TlsConfig::builder().root_certs(roots::chosen()).build());
    }
    if limits.route == Route::Direct {
        config = config.proxy(None);
    }
    config.build().call()
}

/// Returns the user and password of a URL as Basic credentials (RFC 7617).
fn credentials(url: &Url) -> Option<String> {
    let password = url.password();
    if url.username().is_empty() && password.is_none() {
        return None;
    }
    let plain = |escaped: &str| unescape(escaped.as_bytes(), Plus::Itself).unwrap_or_else(|| escaped.into());
    let pair = [plain(url.username()), plain(password.unwrap_or_default())].join(&b':');
    Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// Reads the body of a response that is not a redirect.
fn read_body(mut response: Response<Body>, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
    let too_long = HttpError::TooLong(limits.body_len_max);
    if response.body().content_length().is_some_and(|len| len > limits.body_len_max) {
        return Err(too_long);
    }
    let mut body = Vec::new();
    // Limits the inflated bytes. Raw bytes that inflate to nothing take no memory, and the timeout ends them.
    let mut reader = response.body_mut().as_reader().take(limits.body_len_max + 1);
    reader.read_to_end(&mut body).map_err(|error| explain(ureq::Error::from(error), limits))?;
    if body.len() as u64 > limits.body_len_max {
        return Err(too_long);
    }
    match response.status().as_u16() {
        200..=299 => Ok(body),
        status => Err(HttpError::Status { status, reason: reason(&response, &body), body }),
    }
}

/// Returns the first line of a plain-text body, printable and cut to [`HTTP_REASON_LEN_MAX`] characters. Empty for
/// other bodies.
fn reason(response: &Response<Body>, body: &[u8]) -> String {
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.to_ascii_lowercase().starts_with("text/plain") {
        return String::new();
    }
    let line = body.trim_ascii().split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    printable(line.get(..4 * HTTP_REASON_LEN_MAX).unwrap_or(line)).chars().take(HTTP_REASON_LEN_MAX).collect()
}

/// Returns the target if the response is a redirect.
fn redirect_target(from: &Url, response: &Response<Body>) -> Result<Option<Url>, HttpError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get("location").map(|value| value.as_bytes());
    let location = location.ok_or(HttpError::BadRedirect("no Location header"))?;
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
            Err(io) => transport(&io.to_string()),
        },
        other => transport(&other.to_string()),
    }
}

fn transport(text: &str) -> HttpError {
    // rustls reports this if the first bytes are no TLS record, as those of a plain HTTP response.
    if text.contains("InvalidContentType") {
        return HttpError::Transport("the server does not speak TLS: try http:// instead of https://".to_owned());
    }
    HttpError::Transport(printable(text.as_bytes()))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
