use super::*;

const LATE: Time = Time::from_secs(100);

fn limiter(in_all: usize, per_host: usize) -> Arc<ConnectionLimiter> {
    ConnectionLimiter::new(ConnectionLimits::new(in_all, per_host))
}

fn host(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, number]))
}

fn yielded(permit: &ConnectionPermit) -> bool {
    permit.state.has_yielded.load(Ordering::Relaxed)
}

#[test]
fn the_longest_idle_connection_yields_to_a_newcomer() {
    let limiter = limiter(3, 3);
    let taken: Vec<ConnectionPermit> = (1..=3).map(|n| limiter.take_at(Time::from_secs(n), host(9)).unwrap()).collect();
    taken[0].state.active_at_ms.store(4000, Ordering::Relaxed);
    let _newcomer = limiter.take_at(LATE, host(1)).unwrap();
    assert_eq!(taken.iter().map(yielded).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(limiter.table().entries.len(), 3);
}

#[test]
fn the_host_with_most_connections_yields_first() {
    let limiter = limiter(3, 3);
    let honest = limiter.take_at(Time::ZERO, host(1)).unwrap();
    let hoard = [1, 2].map(|n| limiter.take_at(Time::from_secs(n), host(2)).unwrap());
    let _newcomer = limiter.take_at(LATE, host(3)).unwrap();
    assert_eq!((yielded(&honest), yielded(&hoard[0]), yielded(&hoard[1])), (false, true, false));
}

#[test]
fn a_host_at_its_limit_replaces_one_of_its_connections() {
    let limiter = limiter(9, 2);
    let other = limiter.take_at(Time::ZERO, host(1)).unwrap();
    let own = [1, 2].map(|n| limiter.take_at(Time::from_secs(n), host(2)).unwrap());
    let _newcomer = limiter.take_at(LATE, host(2)).unwrap();
    assert_eq!((yielded(&other), yielded(&own[0]), yielded(&own[1])), (false, true, false));
}

#[test]
fn a_connection_keeps_its_permit_while_the_server_is_busy() {
    let limiter = limiter(1, 1);
    let busy = Arc::new(limiter.take_at(Time::ZERO, host(1)).unwrap());
    let guards = [busy.begin_busy(), busy.begin_busy()];
    for newcomer in [host(1), host(2)] {
        assert!(limiter.take_at(LATE, newcomer).is_err());
    }
    drop(guards);
    // After the end of the computation the connection waits for its client.
    let now = limiter.now();
    assert_eq!(limiter.take_at(now, host(2)).unwrap_err(), Refused::TotalLimit);
    let _newcomer = limiter.take_at(now + WEB_YIELD_AFTER + Duration::from_secs(1), host(2)).unwrap();
    assert!(yielded(&busy));
}

#[test]
fn active_connections_keep_their_permits() {
    let limiter = limiter(2, 1);
    let _served = [1, 2].map(|n| limiter.take_at(LATE, host(n)).unwrap());
    assert_eq!(limiter.take_at(LATE, host(3)).unwrap_err(), Refused::TotalLimit);
    assert_eq!(limiter.take_at(LATE, host(1)).unwrap_err(), Refused::HostLimit);
    drop(_served);
    assert!(limiter.table().entries.is_empty() && limiter.table().counts.is_empty());
}

#[test]
fn connections_of_a_proxy_count_for_its_clients() {
    let limiter = limiter(9, 1);
    let proxied: Vec<ConnectionPermit> = (0..4).map(|_| limiter.take(None).unwrap()).collect();
    let client = |n| host(n).unwrap();
    assert_eq!([proxied[0].assign(client(1)), proxied[1].assign(client(2))], [Ok(()), Ok(())]);
    assert_eq!(proxied[2].assign(client(1)), Err(Refused::HostLimit));
    assert_eq!(
        [proxied[0].assign(client(3)), proxied[2].assign(client(1))],
        [Ok(()), Ok(())],
        "the permit was returned"
    );
    drop(proxied);
    assert!(limiter.table().counts.is_empty());
}

#[test]
fn a_connection_that_has_yielded_cannot_be_assigned() {
    let limiter = limiter(1, 1);
    let proxied = limiter.take_at(Time::ZERO, None).unwrap();
    let _newcomer = limiter.take_at(LATE, host(1)).unwrap();
    assert_eq!(proxied.assign(host(2).unwrap()), Err(Refused::HasYielded));
}

/// A waker may run code that locks the table.
#[test]
fn a_connection_is_woken_while_the_table_is_unlocked() {
    struct TriesLock(Arc<ConnectionLimiter>, AtomicBool);
    impl std::task::Wake for TriesLock {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.table.try_lock().is_ok(), Ordering::Relaxed);
        }
    }
    let limiter = limiter(2, 1);
    let idle = [host(1), None].map(|host| limiter.take_at(Time::ZERO, host).unwrap());
    let wakers: Vec<_> =
        idle.iter().map(|_| Arc::new(TriesLock(Arc::clone(&limiter), AtomicBool::new(false)))).collect();
    for (idle, wakers) in idle.iter().zip(&wakers) {
        let waker = Waker::from(Arc::clone(wakers));
        assert!(!idle.poll_yielded(&Context::from_waker(&waker)));
    }
    let _newcomers = [1, 2].map(|number| limiter.take_at(LATE, host(number)).unwrap());
    assert!(wakers.iter().all(|wakers| wakers.1.load(Ordering::Relaxed)));
}
