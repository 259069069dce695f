//! Zero-copy sends, on a second ring of the same thread.
//!
//! A zero-copy send completes twice: when its bytes are queued, and (the notification) when the kernel has released the
//! memory, which for TCP is when the peer has acknowledged the bytes. The second ring is needed because the driver of
//! the first one expects one completion per operation, and its own zero-copy send panics when a peer resets the
//! connection.

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

use super::probe::RingError;
use crate::base::limits;
use crate::io::driver::spawn;
use crate::io::fault::{Step, chaos_interrupt, fault_point};
use crate::io::memory::{self, Gather, Message};
use crate::io::retry::is_transient;
use crate::io::socket::Socket;

/// The number of submission entries. There are four times as many completion entries.
const ENTRIES: u32 = 256;
/// `IORING_SEND_ZC_REPORT_USAGE`: the notification reports whether the kernel copied the bytes.
const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_CQE_F_NOTIF`.
const NOTIFICATION: u32 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, as the completion's signed result.
const COPIED: i32 = i32::MIN;
/// The first Linux version that coalesces the notifications of one send. Before it, only long sends benefit.
const LINUX_MIN: (u32, u32) = (6, 10);

/// Which sends use zero copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopyMode {
    /// Long sends on sockets for which the kernel has not reported a copy, on Linux 6.10 or newer.
    #[default]
    Auto,
    /// All long sends.
    On,
    Off,
}

/// Bytes of zero-copy sends, by what the kernel reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZeroCopyUsage {
    /// Bytes sent without a copy.
    pub uncopied: u64,
    /// Bytes that the kernel copied: on loopback, or for a network card without scatter-gather.
    pub copied: u64,
}

/// The zero-copy ring of a thread. Clones share it.
#[derive(Clone)]
pub struct ZeroCopyRing(Rc<Inner>);

struct Inner {
    mode: ZeroCopyMode,
    ring: RefCell<IoUring>,
    flights: RefCell<HashMap<u64, Flight>>,
    next: Cell<u64>,
    usage: Cell<ZeroCopyUsage>,
    /// A task is retrying the submission of queued entries.
    is_retrying: Cell<bool>,
    /// The kernel has accepted no entry in all retries: all later sends use a copy.
    is_given_up: Cell<bool>,
}

/// A send until its last completion.
struct Flight {
    outcome: Rc<Outcome>,
    /// The memory that the kernel reads.
    memory: Box<dyn Any>,
    /// `None` after the first completion: otherwise a half-open connection would never close and so never release its
    /// memory.
    socket: Option<Socket>,
    /// Shared with the sender.
    is_worthwhile: Rc<Cell<bool>>,
}

/// The first completion: bytes queued, or the negated error.
#[derive(Default)]
struct Outcome {
    result: Cell<Option<i32>>,
    waker: Cell<Option<Waker>>,
}

impl ZeroCopyRing {
    /// Starts the ring. Must be called on a ring thread. Returns `None` if `mode` and the kernel's version exclude zero
    /// copy.
    pub fn start(mode: ZeroCopyMode) -> Result<Option<Self>, RingError> {
        if mode == ZeroCopyMode::Off || (mode == ZeroCopyMode::Auto && linux_version() < LINUX_MIN) {
            return Ok(None);
        }
        let ring =
            IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_cqsize(ENTRIES * 4).build(ENTRIES)?;
        // SAFETY: the system call takes no pointer, and its result is checked.
        let event = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if event < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor was created above, and no other value owns it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        // SAFETY: the registered value owns the descriptor, which closes only when that value is dropped.
        let event = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
        let event = event.map_err(io::Error::from)?;
        let inner = Rc::new(Inner {
            mode,
            ring: RefCell::new(ring),
            flights: RefCell::default(),
            next: Cell::new(0),
            usage: Cell::default(),
            is_retrying: Cell::new(false),
            is_given_up: Cell::new(false),
        });
        let weak = Rc::downgrade(&inner);
        spawn(async move {
            while let Ok(mut ready) = event.readable().await {
                // The registration is edge-triggered: each signal makes the eventfd ready again, so it need not be
                // read.
                ready.clear_ready();
                let Some(inner) = weak.upgrade() else { return };
                inner.take_completions();
            }
        });
        Ok(Some(Self(inner)))
    }

    /// Creates the sender of one socket.
    pub fn sender(&self) -> ZeroCopySender {
        ZeroCopySender { ring: self.clone(), is_worthwhile: Rc::new(Cell::new(true)) }
    }

    /// Takes the usage that the kernel has reported since the last call.
    pub fn take_usage(&self) -> ZeroCopyUsage {
        self.0.usage.take()
    }

    /// The number of sends whose memory the kernel has not released.
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
    /// The kernel has reported neither a copy nor a lack of locked memory.
    is_worthwhile: Rc<Cell<bool>>,
}

impl ZeroCopySender {
    /// Whether a batch of `len` bytes should be sent with zero copy.
    pub fn takes(&self, len: usize) -> bool {
        len >= limits::ZERO_COPY_LEN_MIN
            && (self.is_worthwhile.get() || self.ring.0.mode == ZeroCopyMode::On)
            && !self.ring.0.is_given_up.get()
    }

    /// Sends all bytes of `batch` in order, and returns when all are queued. `batch` is kept until the kernel has
    /// released it. Must not be called while another send on the socket is pending, on either ring.
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
                    // SAFETY: the entry points to the message on the heap, which points into memory that the batch
                    // keeps alive. The flight owns both until its last completion.
                    match unsafe { self.ring.0.submit(entry, memory, socket, &self.is_worthwhile) } {
                        Some(outcome) => outcome.wait().await,
                        None => Err(io::Error::from_raw_os_error(libc::EBUSY)),
                    }
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => memory::advance(&mut spans, sent),
                // The main ring sends the rest, and does the retries.
                Err(error) if is_transient(&error) || error.raw_os_error() == Some(libc::EBUSY) => {
                    return socket.send_all(Rest { spans, batch }).await.0;
                }
                // Pages in flight count against RLIMIT_MEMLOCK, and their notifications against the memory of the
                // socket. A send with a copy needs neither.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) => {
                    self.is_worthwhile.set(false);
                    return socket.send_all(Rest { spans, batch }).await.0;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The unsent rest of a batch.
struct Rest<G> {
    spans: Vec<libc::iovec>,
    batch: Rc<G>,
}

// SAFETY: the spans are part of those of the batch, which is kept alive and cannot change while it is shared.
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

    /// Waits for the first completion. A dropped future does not cancel the send.
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
    /// Queues an entry and submits it, at once or in a later retry. Returns `None` if the queue is full or the ring
    /// given up; then nothing was done.
    ///
    /// # Safety
    /// `memory` must keep everything that `entry` points to valid, even when it is moved.
    unsafe fn submit(
        self: &Rc<Self>,
        entry: squeue::Entry,
        memory: Box<dyn Any>,
        socket: &Socket,
        is_worthwhile: &Rc<Cell<bool>>,
    ) -> Option<Rc<Outcome>> {
        if self.is_given_up.get() {
            return None;
        }
        let id = self.next.get();
        let entry = entry.user_data(id);
        // SAFETY: the flight below takes ownership of the memory before the kernel can see the entry, and keeps it
        // until the last completion.
        let push = || unsafe { self.ring.borrow_mut().submission().push(&entry) }.ok();
        push().or_else(|| {
            self.submit_queued();
            push()
        })?;
        self.next.set(id + 1);
        let outcome = Rc::new(Outcome::default());
        let flight = Flight {
            outcome: outcome.clone(),
            memory,
            socket: Some(socket.clone()),
            is_worthwhile: is_worthwhile.clone(),
        };
        self.flights.borrow_mut().insert(id, flight);
        self.submit_queued();
        Some(outcome)
    }

    /// Submits queued entries. Starts a task that retries after a pause if the kernel does not accept all.
    fn submit_queued(self: &Rc<Self>) {
        if self.try_submit() || self.is_retrying.replace(true) {
            return;
        }
        let weak = Rc::downgrade(self);
        spawn(async move {
            for _ in 0..limits::RETRIES_MAX {
                tokio::time::sleep(limits::RETRY_PAUSE).await;
                let Some(inner) = weak.upgrade() else { return };
                // The kernel may refuse entries until completions have been taken.
                inner.take_completions();
                if inner.try_submit() {
                    return inner.is_retrying.set(false);
                }
            }
            weak.upgrade().inspect(|inner| inner.give_up());
        });
    }

    /// Submits queued entries. Returns false if the kernel has not accepted all.
    fn try_submit(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        // The error is ignored: the queue shows whether entries are left.
        let _ = fault_point(Step::Submit).and_then(|()| ring.submit());
        ring.submission().is_empty()
    }

    /// Stops all use of the ring: sends without a completion fail. Their memory and sockets are kept, as the kernel may
    /// still accept queued entries.
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
            // The kernel holds more completions, which did not fit into the queue.
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
            let mut usage = self.usage.get();
            if copied {
                usage.copied += len;
                flight.is_worthwhile.set(false);
            } else {
                usage.uncopied += len;
            }
            self.usage.set(usage);
        }
        if !cqueue::more(completion.flags()) {
            let last = flights.remove(&id);
            // Dropping the memory may run other code, so it happens outside the borrow.
            drop(flights);
            drop(last);
        }
    }
}

/// Leaks the memory of sends in flight: the kernel may read it after the ring is closed, until the peers have
/// acknowledged the bytes. A ring ends only with its process or after all its connections are closed.
impl Drop for Inner {
    fn drop(&mut self) {
        for (_, flight) in self.flights.get_mut().drain() {
            drop(flight.socket);
            std::mem::forget(flight.memory);
        }
    }
}

fn linux_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let text = name.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
#[path = "zero_copy_tests.rs"]
mod tests;
