//! Deadlines by name.

use super::Time;

/// The next deadline of each timer in `T`, an enum with the discriminants 0 to `N` - 1.
#[derive(Debug)]
pub struct TimerTable<T, const N: usize> {
    deadlines: [Option<Time>; N],
    timers: std::marker::PhantomData<T>,
}

impl<T: Into<usize>, const N: usize> Default for TimerTable<T, N> {
    fn default() -> Self {
        Self { deadlines: [None; N], timers: std::marker::PhantomData }
    }
}

impl<T: Into<usize>, const N: usize> TimerTable<T, N> {
    pub fn set(&mut self, timer: T, at: Time) {
        if let Some(deadline) = self.deadlines.get_mut(timer.into()) {
            *deadline = Some(at);
        }
    }

    /// The timer is set, and its deadline has come.
    pub fn is_due(&self, timer: T, now: Time) -> bool {
        self.deadlines.get(timer.into()).copied().flatten().is_some_and(|at| at <= now)
    }

    /// If the timer is due, sets it to `interval` from now and returns true.
    pub fn take_due(&mut self, timer: T, now: Time, interval: Time) -> bool {
        let Some(deadline) = self.deadlines.get_mut(timer.into()) else { return false };
        let is_due = deadline.is_some_and(|at| at <= now);
        if is_due {
            *deadline = Some(now + interval);
        }
        is_due
    }

    /// The earliest deadline; [`Time::MAX`] if no timer is set.
    pub fn poll_timeout(&self) -> Time {
        self.deadlines.iter().flatten().min().copied().unwrap_or(Time::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Timer {
        First,
        Second,
    }

    impl From<Timer> for usize {
        fn from(timer: Timer) -> Self {
            timer as Self
        }
    }

    #[test]
    fn the_earliest_deadline_is_next_and_an_unset_one_never_comes() {
        let s = Time::from_secs;
        let mut timers = TimerTable::<Timer, 2>::default();
        assert_eq!(timers.poll_timeout(), Time::MAX);
        timers.set(Timer::First, s(5));
        assert!(!timers.is_due(Timer::Second, Time::MAX));
        timers.set(Timer::Second, s(3));
        assert_eq!(timers.poll_timeout(), s(3));
        assert!(timers.is_due(Timer::Second, s(3)) && !timers.is_due(Timer::First, s(4)));
        assert!(!timers.take_due(Timer::Second, s(2), s(10)) && timers.take_due(Timer::Second, s(4), s(10)));
        assert_eq!(timers.poll_timeout(), s(5));
        timers.set(Timer::First, s(20));
        assert_eq!(timers.poll_timeout(), s(14));
    }
}
