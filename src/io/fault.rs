//! Fault injection for tests; compiled out of release builds.
//!
//! - `BT_FAST_KILL_AT=N` kills the process right before step N of those that change the state on disk (write, sync,
//!   rename), counted from 0 over all threads. Tests increase N until a run completes.
//! - `BT_FAST_FAULTS=write@3=28,sync@0+=5,read@0=panic` makes the fourth write fail with errno 28, every sync with
//!   errno 5, and the first read panic.
//! - `BT_FAST_CHAOS=SEED` delays operations, and so reorders them, and shortens some. Some operations and
//!   blocking calls fail with a transient error before they are made, and from time to time the kernel cancels all
//!   pending operations of a ring.

/// A step at which a fault can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Write,
    Sync,
    Rename,
    /// Reading content, by a system call or into a map.
    Read,
    /// Opening content for writing.
    Open,
    /// Opening content for reading.
    OpenToRead,
    /// Mapping content.
    Map,
    /// Taking a command on an I/O thread of a session.
    Command,
    /// Submitting the queue of the zero-copy ring to the kernel.
    Submit,
}

/// Called right before a step. Always succeeds in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub fn fault_point(_step: Step) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use injected::fault_point;

/// Returns `len` in release builds.
#[cfg(not(debug_assertions))]
pub(super) async fn chaos_truncate(len: usize, _grain: usize) -> usize {
    len
}

/// Returns `len` in release builds.
#[cfg(not(debug_assertions))]
pub(super) fn chaos_truncate_blocking(len: usize, _grain: usize) -> usize {
    len
}

/// Returns `None` in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) fn chaos_interrupt() -> Option<std::io::Error> {
    None
}

#[cfg(test)]
pub(super) use injected::refuse_submissions;
#[cfg(debug_assertions)]
pub(super) use injected::{chaos_interrupt, chaos_pause, chaos_truncate, chaos_truncate_blocking};

#[cfg(debug_assertions)]
mod injected {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use super::Step;

    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        let variable = |name| std::env::var(name).ok();
        Plan {
            kill_at: variable("BT_FAST_KILL_AT").and_then(|text| text.parse().ok()),
            faults: variable("BT_FAST_FAULTS")
                .iter()
                .flat_map(|text| text.split(','))
                .filter_map(Fault::read)
                .collect(),
            chaos: variable("BT_FAST_CHAOS")
                .and_then(|text| text.parse().ok())
                .map(fastrand::Rng::with_seed)
                .map(Mutex::new),
        }
    });

    struct Plan {
        kill_at: Option<u64>,
        faults: Vec<Fault>,
        chaos: Option<Mutex<fastrand::Rng>>,
    }

    /// Fails the step of this kind and number, or with `lasting` all of them from this number.
    struct Fault {
        step: Step,
        number: u64,
        lasting: bool,
        outcome: Outcome,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Outcome {
        Errno(i32),
        Panic,
    }

    impl Fault {
        fn read(text: &str) -> Option<Self> {
            let (place, outcome) = text.rsplit_once('=')?;
            let (step, number) = place.split_once('@')?;
            let steps = [
                Step::Write,
                Step::Sync,
                Step::Rename,
                Step::Read,
                Step::Open,
                Step::OpenToRead,
                Step::Map,
                Step::Command,
                Step::Submit,
            ];
            Some(Self {
                step: *steps.iter().find(|known| format!("{known:?}").eq_ignore_ascii_case(step))?,
                number: number.trim_end_matches('+').parse().ok()?,
                lasting: number.ends_with('+'),
                outcome: if outcome == "panic" { Outcome::Panic } else { Outcome::Errno(outcome.parse().ok()?) },
            })
        }
    }

    #[cfg(test)]
    thread_local! {
        static REFUSALS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Makes [`Step::Submit`] fail this many times on this thread.
    #[cfg(test)]
    pub(in crate::io) fn refuse_submissions(times: u32) {
        REFUSALS.set(times);
    }

    /// Called right before a step. Fails, panics or kills the process as the environment asks for.
    pub fn fault_point(step: Step) -> io::Result<()> {
        static CHANGES: AtomicU64 = AtomicU64::new(0);
        static COUNTS: [AtomicU64; 9] = [const { AtomicU64::new(0) }; 9];
        #[cfg(test)]
        if step == Step::Submit && REFUSALS.get() > 0 {
            REFUSALS.set(REFUSALS.get() - 1);
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let plan = &*PLAN;
        let changes = matches!(step, Step::Write | Step::Sync | Step::Rename);
        if changes
            && let Some(kill_at) = plan.kill_at
            && CHANGES.fetch_add(1, Ordering::Relaxed) == kill_at
        {
            // SIGKILL cannot be caught, so the process cleans nothing up.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::thread::park();
        }
        if plan.faults.is_empty() {
            return Ok(());
        }
        let number = COUNTS.get(step as usize).map_or(0, |count| count.fetch_add(1, Ordering::Relaxed));
        let hit =
            |fault: &&Fault| fault.step == step && (number == fault.number || fault.lasting && number > fault.number);
        match plan.faults.iter().find(hit).map(|fault| fault.outcome) {
            None => Ok(()),
            Some(Outcome::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Outcome::Panic) => panic!("injected fault"),
        }
    }

    /// With chaos, sleeps at random and returns a random length of at most `len`, a multiple of `grain` if shorter.
    pub(in crate::io) async fn chaos_truncate(len: usize, grain: usize) -> usize {
        let (late, len) = chaos_delay(len, grain);
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        len
    }

    /// [`chaos_truncate`] for a thread that may block.
    pub(in crate::io) fn chaos_truncate_blocking(len: usize, grain: usize) -> usize {
        let (late, len) = chaos_delay(len, grain);
        std::thread::sleep(late);
        len
    }

    fn chaos_delay(len: usize, grain: usize) -> (Duration, usize) {
        const LATE_MAX_US: u64 = 3000;
        let Some(chaos) = &PLAN.chaos else { return (Duration::ZERO, len) };
        let mut rng = chaos.lock().unwrap_or_else(PoisonError::into_inner);
        let late = if rng.u8(..4) == 0 { rng.u64(1..LATE_MAX_US) } else { 0 };
        let len = if len > grain && rng.bool() { rng.usize(1..=len / grain) * grain } else { len };
        (Duration::from_micros(late), len)
    }

    /// With chaos, returns a transient error at random. The caller fails with it instead of making its operation or
    /// call.
    pub(in crate::io) fn chaos_interrupt() -> Option<io::Error> {
        let chaos = PLAN.chaos.as_ref()?;
        let mut rng = chaos.lock().unwrap_or_else(PoisonError::into_inner);
        let errno = rng.choice([libc::EINTR, libc::EAGAIN, libc::ECANCELED])?;
        (rng.u8(..8) == 0).then(|| io::Error::from_raw_os_error(errno))
    }

    /// A random pause before the next cancellation of pending operations; `None` without chaos.
    pub(in crate::io) fn chaos_pause() -> Option<Duration> {
        const PAUSE_MAX_MS: u64 = 60;
        let chaos = PLAN.chaos.as_ref()?;
        Some(Duration::from_millis(chaos.lock().unwrap_or_else(PoisonError::into_inner).u64(1..PAUSE_MAX_MS)))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn faults_are_parsed_from_the_variable() {
            let fault = Fault::read("write@3=28").unwrap();
            assert_eq!(
                (fault.step, fault.number, fault.lasting, fault.outcome),
                (Step::Write, 3, false, Outcome::Errno(28))
            );
            let fault = Fault::read("sync@0+=5").unwrap();
            assert_eq!(
                (fault.step, fault.number, fault.lasting, fault.outcome),
                (Step::Sync, 0, true, Outcome::Errno(5))
            );
            assert_eq!(Fault::read("read@0=panic").unwrap().outcome, Outcome::Panic);
            assert!(["", "write@3", "leap@1=2", "write=5", "write@x=5"].iter().all(|text| Fault::read(text).is_none()));
        }
    }
}
