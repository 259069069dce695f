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
use super::plain::not_found;
use super::site::{self, PAGE_HEADERS, Pending, PendingList};
use super::tracker::{Tracker, TrackerTotals};
use crate::base::InfoHash;
use crate::base::limits::WEB_EVENT_INTERVAL;
use crate::engine::Monitor;
use crate::engine::metrics::monitor::Status;

const PAGE: &str = include_str!("../assets/dashboard.html");
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
    tracker: TrackerView,
    hashing: Vec<PendingView<'a>>,
}

/// Content that is being hashed. Lengths are in bytes.
#[derive(Debug, Serialize)]
struct PendingView<'a> {
    name: &'a str,
    len: u64,
    hashed: u64,
}

#[derive(Debug, Serialize)]
struct TrackerView {
    #[serde(flatten)]
    totals: TrackerTotals,
    /// The swarms in the order of the torrents.
    swarms: Vec<SwarmView>,
}

#[derive(Debug, Default, Serialize)]
struct SwarmView {
    seeders: usize,
    leechers: usize,
    completed: u64,
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
            .route("/rates", get(rates))
            .route("/metrics", get(metrics_page))
            .route("/healthz", get(|| async { "ok\n" }))
            .fallback(not_found)
            .with_state(self.clone())
            .layer(middleware::from_fn_with_state(hosts, hosts::check))
    }

    fn json(&self) -> String {
        let status = self.monitor.status();
        let pending = self.pending.list();
        let view = View {
            version: env!("CARGO_PKG_VERSION"),
            status: &status,
            tracker: self.tracker_view(&status),
            hashing: pending.iter().map(|content| PendingView::of(content)).collect(),
        };
        serde_json::to_string(&view).unwrap_or_default()
    }

    fn tracker_view(&self, status: &Status) -> TrackerView {
        let swarm = |info_hash: &str| {
            let stats = InfoHash::from_hex(info_hash).and_then(|hash| self.tracker.stats(hash)).unwrap_or_default();
            SwarmView { seeders: stats.seeders, leechers: stats.leechers, completed: stats.completed }
        };
        TrackerView {
            totals: self.tracker.totals(),
            swarms: status.torrents.iter().map(|torrent| swarm(&torrent.info_hash)).collect(),
        }
    }
}

async fn dashboard() -> impl IntoResponse {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE)
}

async fn script() -> impl IntoResponse {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

async fn api(State(admin): State<Admin>) -> impl IntoResponse {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "application/json")], admin.json())
}

/// Upload and download rates of the last minutes in bytes/s: one pair per second, the latest last.
async fn rates(State(admin): State<Admin>) -> impl IntoResponse {
    let text = serde_json::to_string(&admin.monitor.rates()).unwrap_or_default();
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "application/json")], text)
}

async fn metrics_page(State(admin): State<Admin>) -> impl IntoResponse {
    let status = admin.monitor.peek();
    let text = metrics::text(&status, &admin.tracker_view(&status));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Sends the data of `/api` as an event, at once and then every [`WEB_EVENT_INTERVAL`].
async fn events(State(admin): State<Admin>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let start = tokio::time::interval(WEB_EVENT_INTERVAL);
    Sse::new(stream::unfold((admin, start), |(admin, mut ticks)| async move {
        ticks.tick().await;
        let event = Event::default().data(admin.json());
        Some((Ok(event), (admin, ticks)))
    }))
}
