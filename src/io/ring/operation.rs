//! Operations with one completion on the thread's ring. Each owns the memory and descriptors that the kernel may
//! access.

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring_06::{cqueue, opcode, squeue, types};
use socket2::{SockAddr, SockRef};

use super::in_flight::{InFlight, unless_ring_ends};
use crate::base::limits::{DIRECT_ALIGN, RETRIES_MAX, RETRY_PAUSE, RING_WORKER_TIMEOUT, RING_WORKER_TRIES};
use crate::io::fault::{Step, chaos_interrupt, chaos_truncate, fault_point};
use crate::io::memory::{FlushStep, Gather, Message, RecvBuffer, SPANS_PER_CALL, SharedFile, advance};
use crate::io::retry::is_transient;

/// Returns the result of the completion, and the values that the operation owned.
struct Finish<D>(PhantomData<fn() -> D>);

impl<D: 'static> tokio_uring::OneshotOutputTransform for Finish<D> {
    type StoredData = D;
    type Output = (io::Result<u32>, D);

    fn transform_oneshot_output(self, owned: D, entry: cqueue::Entry) -> Self::Output {
        let result = entry.result();
        (u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), owned)
    }
}

/// Submits an entry and waits for its completion. Retries transient errors (`EINTR`, `EAGAIN`, `ECANCELED`).
///
/// # Safety
/// `owned` must keep everything that `entry` points to valid, even when `owned` is moved. The entry must post exactly
/// one completion.
pub(in crate::io) async unsafe fn submit<D: Unpin + 'static>(
    mut owned: D,
    entry: squeue::Entry,
) -> (io::Result<u32>, D) {
    for _ in 0..RETRIES_MAX {
        let result;
        (result, owned) = match chaos_interrupt() {
            Some(error) => (Err(error), owned),
            // SAFETY: guaranteed by the caller.
            None => unsafe { submit_once(owned, entry.clone()) }.await,
        };
        if !result.as_ref().is_err_and(is_transient) {
            return (result, owned);
        }
        // Boxed to keep the future small: retries are rare.
        Box::pin(tokio::time::sleep(RETRY_PAUSE)).await;
    }
    // SAFETY: guaranteed by the caller.
    unsafe { submit_once(owned, entry) }.await
}

/// [`submit`] without retries.
///
/// # Safety
/// As for [`submit`].
async unsafe fn submit_once<D: Unpin + 'static>(owned: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    unless_ring_ends().await;
    let owned = (owned, InFlight::begin());
    let (result, (owned, _)) = tokio_uring::UnsubmittedOneshot::new(owned, Finish(PhantomData), entry).submit().await;
    (result, owned)
}

/// Yields to the runtime for one turn, so that queued operations are submitted to the kernel.
pub(in crate::io) async fn no_op() {
    // SAFETY: the entry contains no pointer.
    let _ = unsafe { submit((), opcode::Nop::new().build()) }.await;
}

/// Has the kernel start a worker thread for this thread's ring, which runs the operations that block. It stays, so that
/// a later shortage of threads delays them but does not end them.
///
/// The kernel gives up after a few attempts that signals interrupt, as if it had no thread to give.
pub(in crate::io) async fn start_worker() -> io::Result<()> {
    for _ in 1..RING_WORKER_TRIES {
        match try_start_worker().await {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => tokio::time::sleep(RETRY_PAUSE).await,
            result => return result,
        }
    }
    try_start_worker().await
}

async fn try_start_worker() -> io::Result<()> {
    let entry = opcode::Nop::new().build().flags(squeue::Flags::ASYNC);
    // SAFETY: the entry contains no pointer.
    let started = tokio::time::timeout(RING_WORKER_TIMEOUT, unsafe { submit_once((), entry) }).await;
    started.unwrap_or_else(|_| (Err(io::ErrorKind::TimedOut.into()), ())).0.map(drop)
}

/// Cancels all pending operations of this thread's ring, and returns their number.
pub(in crate::io) async fn cancel_all() -> io::Result<u32> {
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any().all()).build();
    tokio_uring::UnsubmittedOneshot::new((), Finish(PhantomData), entry).submit().await.0
}

/// Receives into the free part of `buffer`; `Ok(0)` is the end of the stream.
pub(in crate::io) async fn recv<S: AsRawFd + Unpin + 'static>(
    socket: S,
    mut buffer: RecvBuffer,
) -> (io::Result<usize>, RecvBuffer) {
    let len = chaos_truncate(buffer.free().len(), 1).await;
    let free = buffer.free();
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(types::Fd(socket.as_raw_fd()), free.as_mut_ptr(), len).build();
    // SAFETY: the entry points into heap memory of the buffer. The operation owns the buffer and the socket.
    let (result, (_, mut buffer)) = unsafe { submit((socket, buffer), entry) }.await;
    let result = result.map(|received| received as usize);
    if let Ok(received) = result {
        buffer.handle_received(received);
    }
    (result, buffer)
}

/// Waits for one of these events or an error.
pub(in crate::io) async fn poll<S: AsRawFd + Unpin + 'static>(socket: S, events: libc::c_short) -> io::Result<()> {
    let events = u32::try_from(events).unwrap_or(0);
    let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), events).build();
    // SAFETY: the entry contains no pointer; the operation owns the socket.
    let (result, _) = unsafe { submit(socket, entry) }.await;
    result.map(|_| ())
}

/// Connects a socket.
pub(in crate::io) async fn connect(socket: Rc<OwnedFd>, peer: SocketAddr) -> io::Result<()> {
    let address = Box::new(SockAddr::from(peer));
    let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len()).build();
    // SAFETY: the address is on the heap behind the box; the operation owns box and socket.
    let (result, _) = unsafe { submit((address, socket.clone()), entry) }.await;
    match result.as_ref().map_err(io::Error::raw_os_error) {
        // A retry after a cancelled operation: the kernel has continued the attempt, and may have finished it.
        Err(Some(libc::EISCONN)) => Ok(()),
        Err(Some(libc::EALREADY)) => {
            poll(socket.clone(), libc::POLLOUT).await?;
            SockRef::from(&*socket).take_error()?.map_or(Ok(()), Err)
        }
        _ => result.map(|_| ()),
    }
}

/// Waits for the next connection of a listening socket.
pub(in crate::io) async fn accept(listener: Rc<OwnedFd>) -> io::Result<OwnedFd> {
    let fd = types::Fd(listener.as_raw_fd());
    let entry = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build();
    // SAFETY: the entry contains no pointer; the operation owns the listener.
    let (result, _) = unsafe { submit(listener, entry) }.await;
    let fd = RawFd::try_from(result?).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just created this descriptor, and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends all bytes of `batch` in order, in one operation if possible.
pub(in crate::io) async fn send_all<S, G>(socket: S, batch: G) -> (io::Result<()>, G)
where
    S: AsRawFd + Clone + Unpin + 'static,
    G: Gather,
{
    let mut spans = Vec::new();
    batch.gather(&mut spans);
    let (mut message, mut batch) = (Message::new(spans), batch);
    loop {
        message.shorten(chaos_truncate(message.len(), 1).await);
        let fd = types::Fd(socket.as_raw_fd());
        let flags = u32::try_from(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).unwrap_or(0);
        let entry = opcode::SendMsg::new(fd, message.header()).flags(flags).build();
        // SAFETY: header and span array are on the heap behind the box. The spans point into memory that `batch` keeps
        // alive (contract of `Gather`). The operation owns box, batch and socket.
        let (result, (_, m, b)) = unsafe { submit((socket.clone(), message, batch), entry) }.await;
        (message, batch) = (m, b);
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), batch),
            Ok(sent) if !message.advance(sent as usize) => return (Ok(()), batch),
            Ok(_) => {}
            Err(error) => return (Err(error), batch),
        }
    }
}

/// Writes all bytes of `source` at `offset`. If the file system would block, the kernel does the write on a worker
/// thread.
pub async fn write_all_at<G: Gather>(file: SharedFile, source: G, offset: u64) -> (io::Result<()>, G) {
    let mut spans = Vec::new();
    source.gather(&mut spans);
    let (mut spans, mut source, mut at) = (Box::new(spans), source, offset);
    while !spans.is_empty() {
        if let Err(error) = fault_point(Step::Write) {
            return (Err(error), source);
        }
        let whole = spans.first().map_or(0, |span| span.iov_len);
        let first = chaos_truncate(whole, DIRECT_ALIGN).await;
        let count = if first < whole { 1 } else { u32::try_from(spans.len().min(SPANS_PER_CALL)).unwrap_or(1) };
        if let Some(span) = spans.first_mut() {
            span.iov_len = first;
        }
        let entry = opcode::Writev::new(types::Fd(file.as_raw_fd()), spans.as_ptr(), count).offset(at).build();
        // SAFETY: the span array is heap memory of the vector. The spans point into memory that `source` keeps alive
        // (contract of `Gather`). The operation owns both and the file.
        let (result, (_, v, s)) = unsafe { submit((file.clone(), spans, source), entry) }.await;
        (spans, source) = (v, s);
        if let Some(span) = spans.first_mut() {
            span.iov_len = whole;
        }
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), source),
            Ok(written) => {
                at += u64::from(written);
                advance(&mut spans, written as usize);
            }
            Err(error) => return (Err(error), source),
        }
    }
    (Ok(()), source)
}

/// Takes a step of writing out the dirty pages in a range of a file, on a kernel worker. Does nothing on a file system
/// without a disk.
pub async fn flush_range(file: SharedFile, offset: u64, len: u32, step: FlushStep) -> io::Result<()> {
    let fd = types::Fd(file.as_raw_fd());
    let entry = opcode::SyncFileRange::new(fd, len).offset(offset).flags(step.flags()).build();
    // SAFETY: the entry contains no pointer; the operation owns the file.
    let (result, _) = unsafe { submit(file, entry) }.await;
    result.map(|_| ())
}
