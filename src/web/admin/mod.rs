//! The operator's read-only pages: the dashboard with its event stream, `/api` and `/metrics`.

mod metrics;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use axum::{Router, middleware};
use futures_util::{Stream, stream};
use serde::Serialize;

use super::hosts::{self, Hosts};
use super::plain::{healthy, not_found};
use super::site::{self, PAGE_HEADERS, Pending, PendingList};
use super::tracker::{Tracker, TrackerTotals};
use crate::base::InfoHash;
use crate::base::limits::{METRICS_TORRENTS_MAX, WEB_EVENT_INTERVAL};
use crate::engine::metrics::monitor::{Status, TorrentStatus};
use crate::engine::{HostCounts, Monitor};
use crate::tracker::SwarmStats;

const PAGE: &str = include_str!("../assets/dashboard.html");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const SCRIPT: &str = include_str!("../assets/dashboard.js");

/// The data of the operator's pages.
#[derive(Clone, Debug)]
pub struct Admin {
    monitor: Arc<Monitor>,
    tracker: Tracker,
    pending: Arc<PendingList>,
}

/// The data of `/api` and of each event.
#[derive(Debug, Serialize)]
struct View<'a> {
    version: &'static str,
    #[serde(flatten)]
    status: &'a Status,
    torrents: Vec<TorrentView<'a>>,
    tracker: TrackerView<'a>,
    hashing: Vec<PendingView<'a>>,
}

/// Content that is being hashed. Lengths are in bytes.
#[derive(Debug, Serialize)]
struct PendingView<'a> {
    name: &'a str,
    len: u64,
    hashed: u64,
}

/// A torrent, with the numbers of its swarm.
#[derive(Debug, Serialize)]
struct TorrentView<'a> {
    #[serde(flatten)]
    status: &'a TorrentStatus,
    #[serde(flatten)]
    swarm: SwarmView,
}

#[derive(Debug, Serialize)]
struct TrackerView<'a> {
    #[serde(flatten)]
    totals: TrackerTotals,
    /// The swarms in the order of the torrents.
    swarms: Vec<NamedSwarm<'a>>,
}

/// The numbers of a torrent's swarm, for readers that want nothing else of the torrent.
#[derive(Debug, Serialize)]
struct NamedSwarm<'a> {
    info_hash: &'a str,
    name: &'a str,
    #[serde(flatten)]
    swarm: SwarmView,
}

/// The numbers of one swarm. They are the same wherever they are shown.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct SwarmView {
    /// Complete peers that our tracker knows, this origin included.
    seeders: usize,
    /// Incomplete peers that our tracker knows.
    leechers: usize,
    /// Downloads whose completion was announced to our tracker.
    completed: u64,
    /// Hosts that announced themselves or were connected.
    hosts_seen: usize,
    /// Those of `hosts_seen` that have all pieces, or had them when they left.
    hosts_complete: usize,
}

impl<'a> PendingView<'a> {
    fn of(content: &'a Pending) -> Self {
        Self { name: &content.name, len: content.len, hashed: content.done() }
    }
}

impl Admin {
    pub fn new(monitor: Arc<Monitor>, tracker: Tracker, pending: Arc<PendingList>) -> Self {
        Self { monitor, tracker, pending }
    }

    /// Creates the routes. `hosts` are our own names.
    pub fn router(&self, hosts: Hosts) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::to("/dashboard") }))
            .route("/dashboard", get(dashboard))
            .route("/dashboard.js", get(script))
            .route("/style.css", get(site::style))
            .route("/events", get(events))
            .route("/api", get(api))
            .route("/api/", get(|| async { Redirect::permanent("/api") }))
            .route("/rates", get(rates))
            .route("/metrics", get(metrics_page))
            .route("/healthz", get(healthy))
            .fallback(not_found)
            .with_state(self.clone())
            .layer(middleware::from_fn_with_state(hosts, hosts::check))
    }

    fn json(&self, status: &Status) -> String {
        let pending = self.pending.list();
        let swarms: Vec<SwarmView> = status.torrents.iter().map(|torrent| self.swarm(torrent)).collect();
        let torrents = || status.torrents.iter().map(Arc::as_ref).zip(&swarms);
        let view = View {
            version: VERSION,
            status,
            torrents: torrents().map(|(status, &swarm)| TorrentView { status, swarm }).collect(),
            tracker: TrackerView {
                totals: self.tracker.totals(),
                swarms: torrents()
                    .map(|(TorrentStatus { info_hash, name, .. }, &swarm)| NamedSwarm { info_hash, name, swarm })
                    .collect(),
            },
            hashing: pending.iter().map(|content| PendingView::of(content)).collect(),
        };
        serde_json::to_string(&view).unwrap_or_default()
    }

    fn swarm(&self, torrent: &TorrentStatus) -> SwarmView {
        let Some(info_hash) = InfoHash::from_hex(&torrent.info_hash) else { return SwarmView::default() };
        let SwarmStats { seeders, leechers, completed } = self.tracker.stats(info_hash).unwrap_or_default();
        let HostCounts { seen, complete } = self.tracker.host_counts(info_hash);
        SwarmView { seeders, leechers, completed, hosts_seen: seen, hosts_complete: complete }
    }
}

async fn dashboard() -> impl IntoResponse {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE)
}

async fn script() -> impl IntoResponse {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

async fn api(State(admin): State<Admin>) -> impl IntoResponse {
    let status = admin.monitor.status_with_peers().await;
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "application/json")], admin.json(&status))
}

/// Upload and download rates of the last minutes in bytes/s: one pair per second, the latest last.
async fn rates(State(admin): State<Admin>) -> impl IntoResponse {
    let text = serde_json::to_string(&admin.monitor.rates()).unwrap_or_default();
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "application/json")], text)
}

async fn metrics_page(State(admin): State<Admin>) -> impl IntoResponse {
    let status = admin.monitor.peek();
    let shown = status.torrents.iter().take(METRICS_TORRENTS_MAX);
    let torrents = shown.map(|status| TorrentView { status, swarm: admin.swarm(status) }).collect::<Vec<_>>();
    let text = metrics::text(&status, &torrents, &admin.tracker.totals());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Sends the data of `/api` as an event, at once and then every [`WEB_EVENT_INTERVAL`].
async fn events(State(admin): State<Admin>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let start = tokio::time::interval(WEB_EVENT_INTERVAL);
    Sse::new(stream::unfold((admin, start), |(admin, mut ticks)| async move {
        ticks.tick().await;
        let event = Event::default().data(admin.json(&admin.monitor.status()));
        Some((Ok(event), (admin, ticks)))
    }))
}
