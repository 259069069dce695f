//! Places for HTTP connections: how many there may be, in all and from one host, and which one yields where they are
//! short.
//!
//! A connection on which nothing was written for a while yields its place to a newcomer: it waits for its client's next
//! request, or its client does not read. Connections of the host that holds most of them yield first.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::base::Time;
use crate::base::limits::{WEB_PLACE_RETRY, WEB_YIELD_AFTER};

/// How many connections a server takes.
#[derive(Clone, Copy, Debug)]
pub struct PlaceLimits {
    pub in_all: usize,
    pub per_host: usize,
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoPlace {
    /// The host has its share, and none of its connections yields.
    HostIsFull,
    /// Every place is taken by a connection that is served.
    AllTaken,
}

/// The places of one server.
#[derive(Debug)]
pub(super) struct Places {
    limits: PlaceLimits,
    started_at: Instant,
    table: Mutex<Table>,
    freed: Notify,
}

/// The place of one connection, held until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    key: u64,
    holder: Arc<Holder>,
    places: Arc<Places>,
}

/// A connection as the table sees it.
#[derive(Debug, Default)]
struct Holder {
    /// Milliseconds from the table's start to the connection's, or to the last time that something was written.
    written_at_ms: AtomicU64,
    has_yielded: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Seat {
    /// `None` for a proxy's connection whose request has not named its client yet.
    host: Option<IpAddr>,
    holder: Arc<Holder>,
}

#[derive(Debug, Default)]
struct Table {
    next_key: u64,
    seats: HashMap<u64, Seat>,
    counts: HashMap<IpAddr, usize>,
}

impl Table {
    fn count(&self, host: Option<IpAddr>) -> usize {
        host.and_then(|host| self.counts.get(&host)).copied().unwrap_or(0)
    }

    fn insert(&mut self, host: Option<IpAddr>, holder: Arc<Holder>) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        if let Some(host) = host {
            *self.counts.entry(host).or_default() += 1;
        }
        self.seats.insert(key, Seat { host, holder });
        key
    }

    fn remove(&mut self, key: u64) -> Option<Seat> {
        let seat = self.seats.remove(&key)?;
        if let Some(host) = seat.host
            && let Some(count) = self.counts.get_mut(&host)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&host);
            }
        }
        Some(seat)
    }

    /// Ends the connection that has been silent longest, of `host` alone where given. False where none has been silent
    /// for [`WEB_YIELD_AFTER`].
    fn make_room(&mut self, now: Time, host: Option<IpAddr>) -> bool {
        let silent = |seat: &Seat| {
            let written_at = Duration::from_millis(seat.holder.written_at_ms.load(Ordering::Relaxed));
            now.checked_sub(written_at).filter(|&silence| silence >= WEB_YIELD_AFTER)
        };
        let candidates = self.seats.iter().filter(|(_, seat)| host.is_none() || seat.host == host);
        let candidates = candidates.filter_map(|(&key, seat)| Some((self.count(seat.host), silent(seat)?, key)));
        let Some(seat) = candidates.max().and_then(|(_, _, key)| self.remove(key)) else { return false };
        seat.holder.has_yielded.store(true, Ordering::Relaxed);
        seat.holder.waker.wake();
        true
    }

    /// Makes room for one more connection of `host`.
    fn admit(&mut self, now: Time, limits: PlaceLimits, host: Option<IpAddr>) -> Result<(), NoPlace> {
        if self.count(host) >= limits.per_host {
            return if self.make_room(now, host) { Ok(()) } else { Err(NoPlace::HostIsFull) };
        }
        if self.seats.len() < limits.in_all || self.make_room(now, None) { Ok(()) } else { Err(NoPlace::AllTaken) }
    }
}

impl Places {
    pub(super) fn new(limits: PlaceLimits) -> Arc<Self> {
        let (table, freed) = (Mutex::default(), Notify::new());
        Arc::new(Self { limits, started_at: Instant::now(), table, freed })
    }

    /// A place for a connection of `host`.
    pub(super) fn take(self: &Arc<Self>, host: Option<IpAddr>) -> Result<Place, NoPlace> {
        self.take_at(self.now(), host)
    }

    fn take_at(self: &Arc<Self>, now: Time, host: Option<IpAddr>) -> Result<Place, NoPlace> {
        let holder = Arc::new(Holder::default());
        holder.written_at_ms.store(millis(now), Ordering::Relaxed);
        let mut table = self.table();
        table.admit(now, self.limits, host)?;
        let key = table.insert(host, Arc::clone(&holder));
        Ok(Place { key, holder, places: Arc::clone(self) })
    }

    /// Waits until [`Self::take`] may have another answer.
    pub(super) async fn changed(&self) {
        // A connection may become silent enough without a place becoming free.
        let _ = tokio::time::timeout(WEB_PLACE_RETRY, self.freed.notified()).await;
    }

    /// Half of all places are taken.
    pub(super) fn are_crowded(&self) -> bool {
        self.table().seats.len() > self.limits.in_all / 2
    }

    fn now(&self) -> Time {
        self.started_at.elapsed()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Something was written.
    pub(super) fn note_written(&self) {
        self.holder.written_at_ms.store(millis(self.places.now()), Ordering::Relaxed);
    }

    /// Whether the connection has to end for a newcomer; if not yet, the task of `cx` is woken then.
    pub(super) fn poll_yielded(&self, cx: &Context<'_>) -> bool {
        self.register(cx.waker());
        self.holder.has_yielded.load(Ordering::Relaxed)
    }

    fn register(&self, waker: &Waker) {
        self.holder.waker.register(waker);
    }

    /// From now on the connection counts as this host's, for which a proxy speaks. False where that host has its share.
    pub(super) fn assign(&self, host: IpAddr) -> bool {
        let mut table = self.places.table();
        match table.seats.get(&self.key) {
            None => return false,
            Some(seat) if seat.host == Some(host) => return true,
            Some(_) => {}
        }
        if table.count(Some(host)) >= self.places.limits.per_host && !table.make_room(self.places.now(), Some(host)) {
            return false;
        }
        table.remove(self.key);
        *table.counts.entry(host).or_default() += 1;
        table.seats.insert(self.key, Seat { host: Some(host), holder: Arc::clone(&self.holder) });
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().remove(self.key);
        self.places.freed.notify_one();
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Time = Time::from_secs(100);

    fn places(in_all: usize, per_host: usize) -> Arc<Places> {
        Places::new(PlaceLimits { in_all, per_host })
    }

    fn host(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    fn yielded(place: &Place) -> bool {
        place.holder.has_yielded.load(Ordering::Relaxed)
    }

    #[test]
    fn the_longest_idle_connection_yields_to_a_newcomer() {
        let places = places(3, 3);
        let taken: Vec<Place> = (1..=3).map(|n| places.take_at(Time::from_secs(n), host(9)).unwrap()).collect();
        taken[0].holder.written_at_ms.store(4000, Ordering::Relaxed);
        let _newcomer = places.take_at(LATE, host(1)).unwrap();
        assert_eq!(taken.iter().map(yielded).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(places.table().seats.len(), 3);
    }

    #[test]
    fn the_host_with_most_connections_yields_first() {
        let places = places(3, 3);
        let honest = places.take_at(Time::ZERO, host(1)).unwrap();
        let hoard = [1, 2].map(|n| places.take_at(Time::from_secs(n), host(2)).unwrap());
        let _newcomer = places.take_at(LATE, host(3)).unwrap();
        assert_eq!((yielded(&honest), yielded(&hoard[0]), yielded(&hoard[1])), (false, true, false));
    }

    #[test]
    fn a_full_hosts_newcomer_takes_its_own_hosts_place() {
        let places = places(9, 2);
        let other = places.take_at(Time::ZERO, host(1)).unwrap();
        let own = [1, 2].map(|n| places.take_at(Time::from_secs(n), host(2)).unwrap());
        let _newcomer = places.take_at(LATE, host(2)).unwrap();
        assert_eq!((yielded(&other), yielded(&own[0]), yielded(&own[1])), (false, true, false));
    }

    #[test]
    fn connections_that_are_served_keep_their_places() {
        let places = places(2, 1);
        let _served = [1, 2].map(|n| places.take_at(LATE, host(n)).unwrap());
        assert_eq!(places.take_at(LATE, host(3)).unwrap_err(), NoPlace::AllTaken);
        assert_eq!(places.take_at(LATE, host(1)).unwrap_err(), NoPlace::HostIsFull);
        drop(_served);
        assert!(places.table().seats.is_empty() && places.table().counts.is_empty());
    }

    #[test]
    fn a_proxys_connections_count_as_their_clients() {
        let places = places(9, 1);
        let proxied: Vec<Place> = (0..4).map(|_| places.take(None).unwrap()).collect();
        let client = |n| host(n).unwrap();
        assert!(proxied[0].assign(client(1)) && proxied[1].assign(client(2)));
        assert!(!proxied[2].assign(client(1)), "that host has its share");
        assert!(proxied[0].assign(client(3)) && proxied[2].assign(client(1)), "it was given back");
        drop(proxied);
        assert!(places.table().counts.is_empty());
    }
}
