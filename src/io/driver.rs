//! The driver of a session, and of the current I/O thread.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};

use rustix::event::EventfdFlags;

use super::plain;
use super::plain::probe::EventLoopError;
use super::ring::probe::{RingError, probe};
use super::ring::{self, operation};
use crate::base::limits::{RING_DESCRIPTORS, SESSION_DESCRIPTORS};

/// How sockets and files are accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// io_uring.
    #[default]
    Ring,
    /// Non-blocking sockets on epoll, with file access on other threads.
    Plain,
}

/// The driver that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// The ring, or plain sockets where the kernel refuses a ring or the process has too few descriptors for it.
    #[default]
    Auto,
    Only(Driver),
}

/// The driver for a session.
#[derive(Debug)]
pub struct ChosenDriver {
    pub driver: Driver,
    /// Why [`DriverChoice::Auto`] did not choose the ring.
    pub refusal: Option<RingError>,
}

impl DriverChoice {
    /// Chooses a driver that this kernel supports, for a session with this number of I/O threads.
    pub fn choose(self, thread_count: usize) -> Result<ChosenDriver, StartError> {
        // Rings have event loops too.
        plain::probe::probe()?;
        let chosen = |driver, refusal| ChosenDriver { driver, refusal };
        if self == Self::Only(Driver::Plain) {
            // Some filters kill a process that asks for a ring.
            return Ok(chosen(Driver::Plain, None));
        }
        let probed = match self {
            // Rings take more descriptors than event loops do.
            Self::Auto => {
                probe().and_then(|()| Ok(check_descriptors(RING_DESCRIPTORS * thread_count + SESSION_DESCRIPTORS)?))
            }
            Self::Only(_) => probe(),
        };
        match probed {
            Ok(()) => Ok(chosen(Driver::Ring, None)),
            Err(refusal) if self == Self::Auto => Ok(chosen(Driver::Plain, Some(refusal))),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// Checks that this number of descriptors can be opened.
fn check_descriptors(count: usize) -> io::Result<()> {
    let first = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    (1..count).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
}

impl Driver {
    /// The name that users give and read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Plain => "plain",
        }
    }

    /// The driver of this thread, which must be an I/O thread.
    pub(super) fn current() -> Self {
        CURRENT.get()
    }
}

thread_local! {
    static CURRENT: Cell<Driver> = const { Cell::new(Driver::Ring) };
}

/// A task on this I/O thread.
pub type Task<T> = tokio::task::JoinHandle<T>;

/// A driver does not work here, or the event loop of an I/O thread did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    EventLoop(#[from] EventLoopError),
    #[error("listening socket: {0}")]
    Listener(#[from] io::Error),
    #[error("can't start a thread: {0}: raise the limit on processes ('ulimit -u', or pids.max of the container)")]
    Thread(io::Error),
}

/// Starts a thread with this name.
pub fn start_thread<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::Thread)
}

/// Runs `main` to its end on this thread, which becomes an I/O thread of `driver`.
///
/// Afterwards, pending operations are cancelled and awaited. The memory of operations that do not end in time is
/// leaked.
pub fn run_thread<F: Future>(driver: Driver, main: impl FnOnce() -> F) -> Result<F::Output, StartError> {
    // Rings have event loops too.
    let turn = plain::probe::lock_event_loops()?;
    let main = || {
        drop(turn);
        main()
    };
    CURRENT.set(driver);
    Ok(match driver {
        Driver::Ring => ring::runtime::run(main)?,
        Driver::Plain => plain::runtime::run(main)?,
    })
}

/// Starts a thread that borrows from its scope.
pub fn start_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, StartError> {
    thread::Builder::new().name(name.into()).spawn_scoped(scope, body).map_err(StartError::Thread)
}

/// Starts the threads that this I/O thread cannot do without, so that their lack is known before the session begins.
pub async fn start_workers() -> Result<(), StartError> {
    match Driver::current() {
        Driver::Ring => operation::start_worker().await.map_err(|error| RingError::Worker(error).into()),
        Driver::Plain => Ok(()),
    }
}

/// Starts a task on this I/O thread.
pub fn spawn<F: Future + 'static>(task: F) -> Task<F::Output> {
    tokio::task::spawn_local(task)
}

/// Yields to the driver for one turn, so that queued operations reach the kernel and other tasks run.
pub async fn no_op() {
    match Driver::current() {
        Driver::Ring => operation::no_op().await,
        Driver::Plain => tokio::task::yield_now().await,
    }
}
