//! Counts of the connections that are in some state, kept right by guards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of live [`Membership`]s.
#[derive(Debug, Default)]
pub(super) struct Gauge(Arc<AtomicU32>);

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub(super) struct Membership(Arc<AtomicU32>);

impl Gauge {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Membership {
        self.0.fetch_add(1, Ordering::Relaxed);
        Membership(self.0.clone())
    }

    /// Enters or leaves so that `membership` agrees with `is_member`. Returns true if that changed it.
    pub(super) fn set(&self, membership: &mut Option<Membership>, is_member: bool) -> bool {
        let changed = membership.is_some() != is_member;
        if changed {
            *membership = is_member.then(|| self.enter());
        }
        changed
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_once_until_they_leave() {
        let gauge = Gauge::default();
        let mut one = None;
        assert!(!gauge.set(&mut one, false) && gauge.set(&mut one, true) && !gauge.set(&mut one, true));
        let other = gauge.enter();
        assert_eq!(gauge.get(), 2);
        drop(other);
        assert_eq!(gauge.get(), 1);
        assert!(gauge.set(&mut one, false));
        assert_eq!(gauge.get(), 0);
    }
}
