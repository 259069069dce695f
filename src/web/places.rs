//! Places for HTTP connections: limits in total and per host, and the choice of the connection that yields at a limit.
//!
//! A connection on which nothing was written for a while yields its place to a newcomer: it waits for its client's next
//! request, or its client does not read. One whose answer is still being made, of pieces that are hashed first, say, waits
//! for the server and keeps its place. Connections of the host that holds most of them yield first.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
    /// The connection that asks has yielded its own place.
    HasYielded,
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
    /// Milliseconds from [`Places::started_at`] to the connection's start, or to the last time that bytes were written or
    /// the server finished a part of the answer.
    active_at_ms: AtomicU64,
    /// Parts of answers that the server is making.
    works: AtomicUsize,
    has_yielded: AtomicBool,
    waker: AtomicWaker,
}

impl Holder {
    fn is_busy(&self) -> bool {
        self.works.load(Ordering::Acquire) > 0
    }

    /// For how long the connection has waited for its client.
    fn silence(&self, now: Time) -> Duration {
        now.saturating_sub(Duration::from_millis(self.active_at_ms.load(Ordering::Relaxed)))
    }
}

/// Keeps a connection from yielding while the server makes a part of its answer; to be dropped when that part is made.
#[derive(Debug)]
pub(super) struct Work(Arc<Place>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.note_active();
        // The time of the end is seen with it.
        self.0.holder.works.fetch_sub(1, Ordering::Release);
    }
}

#[derive(Debug)]
struct Seat {
    /// `None` for a connection from a trusted proxy before its first request, which names the client.
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

    fn insert(&mut self, key: u64, host: Option<IpAddr>, holder: Arc<Holder>) {
        if let Some(host) = host {
            *self.counts.entry(host).or_default() += 1;
        }
        self.seats.insert(key, Seat { host, holder });
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

    /// Takes a place from the connection that has been silent longest: of `host` alone where given, else of the hosts with
    /// most connections. `None` if none that could yield has been silent for [`WEB_YIELD_AFTER`].
    fn make_room(&mut self, now: Time, host: Option<IpAddr>) -> Option<Yielded> {
        let silent = |seat: &Seat| {
            let waits = !seat.holder.is_busy();
            waits.then(|| seat.holder.silence(now)).filter(|&silence| silence >= WEB_YIELD_AFTER)
        };
        let candidates = self.seats.iter().filter(|(_, seat)| host.is_none() || seat.host == host);
        let candidates = candidates.filter_map(|(&key, seat)| Some((self.count(seat.host), silent(seat)?, key)));
        let (_, _, key) = candidates.max()?;
        let Seat { holder, .. } = self.remove(key)?;
        holder.has_yielded.store(true, Ordering::Relaxed);
        Some(Yielded(holder))
    }

    /// Makes room for one more connection of `host` among that host's.
    fn admit_to_host(&mut self, now: Time, per_host: usize, host: Option<IpAddr>) -> Result<Option<Yielded>, NoPlace> {
        if self.count(host) < per_host {
            return Ok(None);
        }
        self.make_room(now, host).map(Some).ok_or(NoPlace::HostIsFull)
    }

    /// Makes room for one more connection of `host`.
    fn admit(&mut self, now: Time, limits: PlaceLimits, host: Option<IpAddr>) -> Result<Option<Yielded>, NoPlace> {
        let yielded = self.admit_to_host(now, limits.per_host, host)?;
        if yielded.is_some() || self.seats.len() < limits.in_all {
            return Ok(yielded);
        }
        self.make_room(now, None).map(Some).ok_or(NoPlace::AllTaken)
    }
}

/// A connection whose place was taken from it. It has to be told, which is done when the table is unlocked.
#[must_use]
struct Yielded(Arc<Holder>);

impl Yielded {
    fn wake(self) {
        self.0.waker.wake();
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
        holder.active_at_ms.store(millis(now), Ordering::Relaxed);
        let mut table = self.table();
        let yielded = table.admit(now, self.limits, host)?;
        let key = table.next_key;
        table.next_key += 1;
        table.insert(key, host, Arc::clone(&holder));
        drop(table);
        yielded.into_iter().for_each(Yielded::wake);
        Ok(Place { key, holder, places: Arc::clone(self) })
    }

    /// Waits until a place is freed, for at most [`WEB_PLACE_RETRY`]: then it is worth calling [`Self::take`] again.
    pub(super) async fn changed(&self) {
        // A connection may have been silent for long enough by then, and no place is freed for that.
        let _ = tokio::time::timeout(WEB_PLACE_RETRY, self.freed.notified()).await;
    }

    /// More than half of all places are taken.
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

    /// Bytes were written, or the server finished a part of the answer.
    pub(super) fn note_active(&self) {
        self.holder.active_at_ms.store(millis(self.places.now()), Ordering::Relaxed);
    }

    /// The server begins to make a part of the answer.
    pub(super) fn begin_work(self: &Arc<Self>) -> Work {
        self.holder.works.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(self))
    }

    /// The server is making a part of the answer.
    pub(super) fn is_busy(&self) -> bool {
        self.holder.is_busy()
    }

    /// The time since [`Self::note_active`], or since the connection began.
    pub(super) fn silence(&self) -> Duration {
        self.holder.silence(self.places.now())
    }

    /// Whether the connection has to end for a newcomer. While it does not, the task of `cx` is woken as soon as it does.
    pub(super) fn poll_yielded(&self, cx: &Context<'_>) -> bool {
        self.register(cx.waker());
        self.holder.has_yielded.load(Ordering::Relaxed)
    }

    fn register(&self, waker: &Waker) {
        self.holder.waker.register(waker);
    }

    /// Counts the connection as one of `host`, the client that a proxy names, from now on. Fails if that host has its share,
    /// or if the connection has yielded its place.
    pub(super) fn assign(&self, host: IpAddr) -> Result<(), NoPlace> {
        let (now, per_host) = (self.places.now(), self.places.limits.per_host);
        let mut table = self.places.table();
        match table.seats.get(&self.key) {
            None => return Err(NoPlace::HasYielded),
            Some(seat) if seat.host == Some(host) => return Ok(()),
            Some(_) => {}
        }
        let yielded = table.admit_to_host(now, per_host, Some(host))?;
        table.remove(self.key);
        table.insert(self.key, Some(host), Arc::clone(&self.holder));
        drop(table);
        yielded.into_iter().for_each(Yielded::wake);
        Ok(())
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
        taken[0].holder.active_at_ms.store(4000, Ordering::Relaxed);
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
    fn a_connection_whose_answer_is_being_made_keeps_its_place() {
        let places = places(1, 1);
        let busy = Arc::new(places.take_at(Time::ZERO, host(1)).unwrap());
        let works = [busy.begin_work(), busy.begin_work()];
        for newcomer in [host(1), host(2)] {
            assert!(places.take_at(LATE, newcomer).is_err());
        }
        drop(works);
        // From the end of the work on it waits for its client.
        let now = places.now();
        assert_eq!(places.take_at(now, host(2)).unwrap_err(), NoPlace::AllTaken);
        let _newcomer = places.take_at(now + WEB_YIELD_AFTER + Duration::from_secs(1), host(2)).unwrap();
        assert!(yielded(&busy));
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
        assert_eq!([proxied[0].assign(client(1)), proxied[1].assign(client(2))], [Ok(()), Ok(())]);
        assert_eq!(proxied[2].assign(client(1)), Err(NoPlace::HostIsFull));
        assert_eq!([proxied[0].assign(client(3)), proxied[2].assign(client(1))], [Ok(()), Ok(())], "it was given back");
        drop(proxied);
        assert!(places.table().counts.is_empty());
    }

    #[test]
    fn a_connection_that_has_yielded_is_told_so() {
        let places = places(1, 1);
        let proxied = places.take_at(Time::ZERO, None).unwrap();
        let _newcomer = places.take_at(LATE, host(1)).unwrap();
        assert_eq!(proxied.assign(host(2).unwrap()), Err(NoPlace::HasYielded));
    }

    /// A waker may run code that asks for a place.
    #[test]
    fn a_connection_is_woken_while_the_table_is_unlocked() {
        struct Looks(Arc<Places>, AtomicBool);
        impl std::task::Wake for Looks {
            fn wake(self: Arc<Self>) {
                self.1.store(self.0.table.try_lock().is_ok(), Ordering::Relaxed);
            }
        }
        let places = places(2, 1);
        let idle = [host(1), None].map(|host| places.take_at(Time::ZERO, host).unwrap());
        let looks: Vec<_> = idle.iter().map(|_| Arc::new(Looks(Arc::clone(&places), AtomicBool::new(false)))).collect();
        for (idle, looks) in idle.iter().zip(&looks) {
            let waker = Waker::from(Arc::clone(looks));
            assert!(!idle.poll_yielded(&Context::from_waker(&waker)));
        }
        let _newcomers = [1, 2].map(|number| places.take_at(LATE, host(number)).unwrap());
        assert!(looks.iter().all(|looks| looks.1.load(Ordering::Relaxed)));
    }
}
