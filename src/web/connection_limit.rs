//! Limits on HTTP connections, in total and per host, and the choice of the connection that is closed at a limit.
//!
//! A connection yields its permit to a new one if no bytes were written to it for some time: it waits for the next
//! request of its client, or its client does not read. A connection whose response the server is still computing, for
//! example by hashing pieces, keeps its permit. Connections of the host with the most connections yield first.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::base::Time;
use crate::base::limits::{WEB_PERMIT_RETRY, WEB_YIELD_AFTER};
use crate::base::lock::lock;
use crate::engine::network::shortage::report_descriptor_limit;

/// The maximum number of connections of a server.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    in_all: usize,
    per_host: usize,
    /// The limits are lower than usual, because the process may not have enough descriptors.
    is_short_of_descriptors: bool,
}

impl ConnectionLimits {
    pub fn new(in_all: usize, per_host: usize) -> Self {
        Self { in_all, per_host, is_short_of_descriptors: false }
    }

    /// The descriptors suffice for `affordable_max` connections.
    #[must_use]
    pub fn within(self, affordable_max: usize) -> Self {
        let is_short_of_descriptors = affordable_max < self.in_all;
        Self { in_all: self.in_all.min(affordable_max), is_short_of_descriptors, ..self }
    }
}

/// Why a connection gets no permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The host has its maximum of connections, and none of them yields.
    HostLimit,
    /// All permits are taken, and no connection yields.
    TotalLimit,
    /// The connection itself has yielded its permit.
    HasYielded,
}

/// The permits of one server.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    limits: ConnectionLimits,
    started_at: Instant,
    table: Mutex<Table>,
    freed: Notify,
}

/// The permit of one connection, released when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    key: u64,
    state: Arc<ConnectionState>,
    limiter: Arc<ConnectionLimiter>,
}

/// The state of a connection, shared by its permit and the table.
#[derive(Debug, Default)]
struct ConnectionState {
    /// Milliseconds from [`ConnectionLimiter::started_at`] to the last activity: the start of the connection, a write,
    /// or the end of the computation of a part of a response.
    active_at_ms: AtomicU64,
    /// The number of parts of responses that the server is computing.
    busy_count: AtomicUsize,
    has_yielded: AtomicBool,
    waker: AtomicWaker,
}

impl ConnectionState {
    fn is_busy(&self) -> bool {
        self.busy_count.load(Ordering::Acquire) > 0
    }

    /// The time since the last activity.
    fn silence(&self, now: Time) -> Duration {
        now.saturating_sub(Duration::from_millis(self.active_at_ms.load(Ordering::Relaxed)))
    }
}

/// Keeps a connection from yielding while the server computes a part of its response. Dropped when the part is
/// complete.
#[derive(Debug)]
pub(super) struct BusyGuard(Arc<ConnectionPermit>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.note_active();
        // Release: a thread that reads the new count also reads the time stored above.
        self.0.state.busy_count.fetch_sub(1, Ordering::Release);
    }
}

/// A connection in the table.
#[derive(Debug)]
struct Entry {
    /// `None` for a connection from a trusted proxy before its first request, whose header names the client.
    host: Option<IpAddr>,
    state: Arc<ConnectionState>,
}

#[derive(Debug, Default)]
struct Table {
    next_key: u64,
    entries: HashMap<u64, Entry>,
    counts: HashMap<IpAddr, usize>,
}

impl Table {
    fn count(&self, host: Option<IpAddr>) -> usize {
        host.and_then(|host| self.counts.get(&host)).copied().unwrap_or(0)
    }

    fn insert(&mut self, key: u64, host: Option<IpAddr>, state: Arc<ConnectionState>) {
        if let Some(host) = host {
            *self.counts.entry(host).or_default() += 1;
        }
        self.entries.insert(key, Entry { host, state });
    }

    fn remove(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        if let Some(host) = entry.host
            && let Some(count) = self.counts.get_mut(&host)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&host);
            }
        }
        Some(entry)
    }

    /// Takes the permit of the connection that has been silent for longest: among those of `host` if given, else among
    /// those of the hosts with the most connections. Returns `None` if no idle connection has been silent for
    /// [`WEB_YIELD_AFTER`].
    fn make_room(&mut self, now: Time, host: Option<IpAddr>) -> Option<Yielded> {
        let silent = |entry: &Entry| {
            let is_idle = !entry.state.is_busy();
            is_idle.then(|| entry.state.silence(now)).filter(|&silence| silence >= WEB_YIELD_AFTER)
        };
        let candidates = self.entries.iter().filter(|(_, entry)| host.is_none() || entry.host == host);
        let candidates = candidates.filter_map(|(&key, entry)| Some((self.count(entry.host), silent(entry)?, key)));
        let (_, _, key) = candidates.max()?;
        let Entry { state, .. } = self.remove(key)?;
        state.has_yielded.store(true, Ordering::Relaxed);
        Some(Yielded(state))
    }

    /// Ensures that `host` may have one more connection.
    fn admit_to_host(&mut self, now: Time, per_host: usize, host: Option<IpAddr>) -> Result<Option<Yielded>, Refused> {
        if self.count(host) < per_host {
            return Ok(None);
        }
        self.make_room(now, host).map(Some).ok_or(Refused::HostLimit)
    }

    /// Ensures that one more connection, from `host`, is within all limits.
    fn admit(&mut self, now: Time, limits: ConnectionLimits, host: Option<IpAddr>) -> Result<Option<Yielded>, Refused> {
        let yielded = self.admit_to_host(now, limits.per_host, host)?;
        if yielded.is_some() || self.entries.len() < limits.in_all {
            return Ok(yielded);
        }
        self.make_room(now, None).map(Some).ok_or(Refused::TotalLimit)
    }
}

/// A connection whose permit was taken. Its task must be woken after the table is unlocked.
#[must_use]
struct Yielded(Arc<ConnectionState>);

impl Yielded {
    fn wake(self) {
        self.0.waker.wake();
    }
}

impl ConnectionLimiter {
    /// Warns if a lack of descriptors is the reason for the limit.
    pub(super) fn report_limit(&self) {
        if self.limits.is_short_of_descriptors {
            report_descriptor_limit();
        }
    }

    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        let (table, freed) = (Mutex::default(), Notify::new());
        Arc::new(Self { limits, started_at: Instant::now(), table, freed })
    }

    /// Returns a permit for a connection from `host`.
    pub(super) fn take(self: &Arc<Self>, host: Option<IpAddr>) -> Result<ConnectionPermit, Refused> {
        self.take_at(self.now(), host)
    }

    fn take_at(self: &Arc<Self>, now: Time, host: Option<IpAddr>) -> Result<ConnectionPermit, Refused> {
        let state = Arc::new(ConnectionState::default());
        state.active_at_ms.store(millis(now), Ordering::Relaxed);
        let mut table = self.table();
        let yielded = table.admit(now, self.limits, host)?;
        let key = table.next_key;
        table.next_key += 1;
        table.insert(key, host, Arc::clone(&state));
        drop(table);
        yielded.into_iter().for_each(Yielded::wake);
        Ok(ConnectionPermit { key, state, limiter: Arc::clone(self) })
    }

    /// Waits until a permit is released, at most [`WEB_PERMIT_RETRY`]. Afterwards [`Self::take`] may succeed.
    pub(super) async fn changed(&self) {
        // The timeout is needed because a connection becomes able to yield without a release.
        let _ = tokio::time::timeout(WEB_PERMIT_RETRY, self.freed.notified()).await;
    }

    /// Whether more than half of all permits are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.table().entries.len() > self.limits.in_all / 2
    }

    fn now(&self) -> Time {
        self.started_at.elapsed()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl ConnectionPermit {
    pub(super) fn limiter(&self) -> &ConnectionLimiter {
        &self.limiter
    }

    /// Notes activity: bytes were written, or the server has completed a part of the response.
    pub(super) fn note_active(&self) {
        self.state.active_at_ms.store(millis(self.limiter.now()), Ordering::Relaxed);
    }

    /// Called when the server starts to compute a part of the response.
    pub(super) fn begin_busy(self: &Arc<Self>) -> BusyGuard {
        self.state.busy_count.fetch_add(1, Ordering::Relaxed);
        BusyGuard(Arc::clone(self))
    }

    /// Whether the server is computing a part of the response.
    pub(super) fn is_busy(&self) -> bool {
        self.state.is_busy()
    }

    /// The time since [`Self::note_active`], or since the connection began.
    pub(super) fn silence(&self) -> Duration {
        self.state.silence(self.limiter.now())
    }

    /// Whether the connection must end in favor of a new one. If not, the task of `cx` is woken when it must.
    pub(super) fn poll_yielded(&self, cx: &Context<'_>) -> bool {
        self.register(cx.waker());
        self.state.has_yielded.load(Ordering::Relaxed)
    }

    fn register(&self, waker: &Waker) {
        self.state.waker.register(waker);
    }

    /// Counts the connection as one of `host`, the client that a proxy names, from this request on. Fails if that host
    /// has its maximum of connections, or if the connection has yielded its permit.
    pub(super) fn assign(&self, host: IpAddr) -> Result<(), Refused> {
        let (now, per_host) = (self.limiter.now(), self.limiter.limits.per_host);
        let mut table = self.limiter.table();
        match table.entries.get(&self.key) {
            None => return Err(Refused::HasYielded),
            Some(entry) if entry.host == Some(host) => return Ok(()),
            Some(_) => {}
        }
        let yielded = table.admit_to_host(now, per_host, Some(host))?;
        table.remove(self.key);
        table.insert(self.key, Some(host), Arc::clone(&self.state));
        drop(table);
        yielded.into_iter().for_each(Yielded::wake);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.table().remove(self.key);
        self.limiter.freed.notify_one();
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "connection_limit_tests.rs"]
mod tests;
