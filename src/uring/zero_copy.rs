//! Zero-copy sends, on a second ring of the same thread.
//!
//! Such a send completes twice: when its bytes are queued, and (the notification) when the network has let go of the memory,
//! which for TCP is when the peer has acknowledged it. The driver of the first ring takes one completion for an operation,
//! and its own zero-copy send ends in a panic when a peer resets.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use io_uring_06::{IoUring, cqueue, opcode, squeue, types};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::fault::{Step, chaos_interrupt, fault_point};
use super::operation::{self, Gather, Message};
use super::probe::RingError;
use super::retry::is_transient;
use super::runtime::spawn;
use super::socket::Socket;
use crate::base::limits;

/// Submission entries; completions have four times as many.
const ENTRIES: u32 = 256;
/// `IORING_SEND_ZC_REPORT_USAGE`: the notification tells whether the kernel copied after all.
const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_CQE_F_NOTIF`.
const NOTIFICATION: u32 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, as the completion's signed result.
const COPIED: i32 = i32::MIN;
/// Linux, from which on notifications of one send are gathered: before, long sends alone gain.
const LINUX_MIN: (u32, u32) = (6, 10);

/// Which sends leave without a copy in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopyMode {
    /// Those of sockets for which the kernel does not report that it copied, on kernels that do it well.
    #[default]
    Auto,
    /// All that are long enough.
    On,
    Off,
}

/// Bytes of zero-copy sends by what the kernel told of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZeroCopyUsage {
    /// They left from where they were.
    pub uncopied: u64,
    /// The kernel copied them after all: loopback, or a network card that can't gather.
    pub copied: u64,
}

/// See the module. Clones share the ring.
#[derive(Clone)]
pub struct ZeroCopyRing(Rc<Inner>);

struct Inner {
    mode: ZeroCopyMode,
    ring: RefCell<IoUring>,
    flights: RefCell<HashMap<u64, Flight>>,
    next: Cell<u64>,
    usage: Cell<ZeroCopyUsage>,
    /// A task submits what is queued as soon as the kernel takes it.
    submits_later: Cell<bool>,
    /// The kernel has taken nothing for long: all is sent with a copy from now on.
    is_given_up: Cell<bool>,
}

/// A send until its last completion.
struct Flight {
    outcome: Rc<Outcome>,
    /// What the kernel reads.
    memory: Box<dyn Any>,
    /// Until the first completion: a connection that stays half open would keep what it holds for ever.
    socket: Option<Socket>,
    /// Its sender's.
    gains: Rc<Cell<bool>>,
}

/// The first completion: bytes queued, or the negated error.
#[derive(Default)]
struct Outcome {
    result: Cell<Option<i32>>,
    waker: Cell<Option<Waker>>,
}

impl ZeroCopyRing {
    /// Must be called on a ring thread. `None`: not wanted here.
    pub fn start(mode: ZeroCopyMode) -> Result<Option<Self>, RingError> {
        if mode == ZeroCopyMode::Off || (mode == ZeroCopyMode::Auto && linux_version() < LINUX_MIN) {
            return Ok(None);
        }
        let ring =
            IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_cqsize(ENTRIES * 4).build(ENTRIES)?;
        // SAFETY: plain system call; the result is checked.
        let event = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if event < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor was made above and nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        // SAFETY: the descriptor is owned by what is registered, and closes only with it.
        let event = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
        let event = event.map_err(io::Error::from)?;
        let inner = Rc::new(Inner {
            mode,
            ring: RefCell::new(ring),
            flights: RefCell::default(),
            next: Cell::new(0),
            usage: Cell::default(),
            submits_later: Cell::new(false),
            is_given_up: Cell::new(false),
        });
        let weak = Rc::downgrade(&inner);
        spawn(async move {
            while let Ok(mut ready) = event.readable().await {
                // Every signal of the eventfd makes it ready anew: it need not be read.
                ready.clear_ready();
                let Some(inner) = weak.upgrade() else { return };
                inner.take_completions();
            }
        });
        Ok(Some(Self(inner)))
    }

    /// For one socket.
    pub fn sender(&self) -> ZeroCopySender {
        ZeroCopySender { ring: self.clone(), gains: Rc::new(Cell::new(true)) }
    }

    /// What the kernel told since the last call.
    pub fn take_usage(&self) -> ZeroCopyUsage {
        self.0.usage.take()
    }

    /// Sends whose memory the kernel still holds.
    pub fn in_flight(&self) -> usize {
        self.0.flights.borrow().len()
    }
}

impl std::fmt::Debug for ZeroCopyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZeroCopyRing").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// The zero-copy side of one socket.
#[derive(Debug)]
pub struct ZeroCopySender {
    ring: ZeroCopyRing,
    /// The kernel has not said that it copies, nor that it lacks locked memory.
    gains: Rc<Cell<bool>>,
}

impl ZeroCopySender {
    /// A batch of so many bytes is better sent here.
    pub fn takes(&self, len: usize) -> bool {
        len >= limits::ZERO_COPY_LEN_MIN
            && (self.gains.get() || self.ring.0.mode == ZeroCopyMode::On)
            && !self.ring.0.is_given_up.get()
    }

    /// Sends every byte of `batch` in order and returns when all are queued. The kernel may read `batch` for longer; it is
    /// kept until then. One sender at a time on a socket, on either ring.
    pub async fn send_all<G: Gather>(&self, socket: &Socket, batch: G) -> io::Result<()> {
        let batch = Rc::new(batch);
        let mut spans = Vec::new();
        batch.gather(&mut spans);
        while !spans.is_empty() {
            let message = Message::new(spans.clone());
            let flags = u32::try_from(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).unwrap_or(0);
            let entry = opcode::SendMsgZc::new(types::Fd(socket.as_raw_fd()), message.header())
                .ioprio(REPORT_USAGE)
                .flags(flags)
                .build();
            let result = match chaos_interrupt() {
                Some(error) => Err(error),
                None => {
                    let memory = Box::new((message, batch.clone()));
                    // SAFETY: the entry points to the message, which is on the heap, and that into what the batch keeps;
                    // both are owned by the flight until its last completion.
                    match unsafe { self.ring.0.submit(entry, memory, socket, &self.gains) } {
                        Some(outcome) => outcome.wait().await,
                        None => Err(io::Error::from_raw_os_error(libc::EBUSY)),
                    }
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => operation::advance(&mut spans, sent),
                // The other ring knows how often to try again.
                Err(error) if is_transient(&error) || error.raw_os_error() == Some(libc::EBUSY) => {
                    return socket.send_all(Rest { spans, batch }).await.0;
                }
                // Pages in flight count against RLIMIT_MEMLOCK, and what tells of them against a socket's memory: copies do not.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) => {
                    self.gains.set(false);
                    return socket.send_all(Rest { spans, batch }).await.0;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is left of a batch.
struct Rest<G> {
    spans: Vec<libc::iovec>,
    batch: Rc<G>,
}

// SAFETY: the spans are some of those of the batch, which is kept and which nobody can change while it is shared.
unsafe impl<G: Gather> Gather for Rest<G> {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        let _ = &self.batch;
        out.extend_from_slice(&self.spans);
    }
}

impl Outcome {
    fn finish(&self, result: i32) {
        self.result.set(Some(result));
        self.waker.take().inspect(Waker::wake_by_ref);
    }

    /// May be dropped: the send goes on.
    async fn wait(&self) -> io::Result<usize> {
        let result = poll_fn(|context| match self.result.get() {
            Some(result) => Poll::Ready(result),
            None => {
                self.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        });
        let result = result.await;
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }
}

impl Inner {
    /// Queues an entry and has the kernel take it, now or as soon as it can. `None`: nothing was done, there is no room.
    ///
    /// # Safety
    /// Everything `entry` points to must be kept valid by `memory`, wherever it is moved to.
    unsafe fn submit(
        self: &Rc<Self>,
        entry: squeue::Entry,
        memory: Box<dyn Any>,
        socket: &Socket,
        gains: &Rc<Cell<bool>>,
    ) -> Option<Rc<Outcome>> {
        if self.is_given_up.get() {
            return None;
        }
        let id = self.next.get();
        let entry = entry.user_data(id);
        // SAFETY: what the entry points to goes to the flight below, before the kernel can see the entry, and stays until the
        // last completion.
        let push = || unsafe { self.ring.borrow_mut().submission().push(&entry) }.ok();
        push().or_else(|| {
            self.submit_queued();
            push()
        })?;
        self.next.set(id + 1);
        let outcome = Rc::new(Outcome::default());
        let flight = Flight { outcome: outcome.clone(), memory, socket: Some(socket.clone()), gains: gains.clone() };
        self.flights.borrow_mut().insert(id, flight);
        self.submit_queued();
        Some(outcome)
    }

    /// Has the kernel take what is queued. What it does not take now it is given again after a pause.
    fn submit_queued(self: &Rc<Self>) {
        if self.try_submit() || self.submits_later.replace(true) {
            return;
        }
        let weak = Rc::downgrade(self);
        spawn(async move {
            for _ in 0..limits::RETRIES_MAX {
                tokio::time::sleep(limits::RETRY_PAUSE).await;
                let Some(inner) = weak.upgrade() else { return };
                // It may have no room for entries before it is rid of completions.
                inner.take_completions();
                if inner.try_submit() {
                    return inner.submits_later.set(false);
                }
            }
            weak.upgrade().inspect(|inner| inner.give_up());
        });
    }

    /// False where some of what is queued was not taken.
    fn try_submit(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        // Whatever the error was: it is the queue that tells what came of it.
        let _ = fault_point(Step::Submit).and_then(|()| ring.submit());
        ring.submission().is_empty()
    }

    /// No more is queued, and what the kernel has not answered fails. Memory and socket stay: it may take an entry yet.
    fn give_up(&self) {
        self.is_given_up.set(true);
        let flights = self.flights.borrow();
        let unanswered = flights.values().filter(|flight| flight.outcome.result.get().is_none());
        unanswered.for_each(|flight| flight.outcome.finish(-libc::ECONNABORTED));
    }

    fn take_completions(&self) {
        loop {
            let mut ring = self.ring.borrow_mut();
            let completions: Vec<cqueue::Entry> = ring.completion().collect();
            // The kernel has more, for which there was no room.
            let more = ring.submission().cq_overflow() && ring.submit().is_ok();
            drop(ring);
            completions.iter().for_each(|completion| self.handle_completion(completion));
            if !more {
                return;
            }
        }
    }

    fn handle_completion(&self, completion: &cqueue::Entry) {
        let id = completion.user_data();
        let mut flights = self.flights.borrow_mut();
        let Some(flight) = flights.get_mut(&id) else { return };
        if completion.flags() & NOTIFICATION == 0 {
            flight.socket = None;
            flight.outcome.finish(completion.result());
        } else {
            let copied = completion.result() & COPIED != 0;
            let len = flight.outcome.result.get().and_then(|result| u64::try_from(result).ok()).unwrap_or(0);
            let ZeroCopyUsage { uncopied: u, copied: c } = self.usage.get();
            self.usage.set(if copied {
                ZeroCopyUsage { uncopied: u, copied: c + len }
            } else {
                ZeroCopyUsage { uncopied: u + len, copied: c }
            });
            if copied {
                flight.gains.set(false);
            }
        }
        if !cqueue::more(completion.flags()) {
            let last = flights.remove(&id);
            // Its memory may own much.
            drop(flights);
            drop(last);
        }
    }
}

/// The kernel may go on reading after the ring is closed, until peers have acknowledged: that memory is left to it. A ring ends
/// with its process, or with all its connections closed.
impl Drop for Inner {
    fn drop(&mut self) {
        for (_, flight) in self.flights.get_mut().drain() {
            drop(flight.socket);
            std::mem::forget(flight.memory);
        }
    }
}

fn linux_version() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
#[path = "zero_copy_tests.rs"]
mod tests;
