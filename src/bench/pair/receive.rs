//! The receiving side: one call reads heads into scratch memory and blocks into their run; several pieces are hashed
//! together; runs are written.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, IoSliceMut, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use memmap2::{Advice, MmapMut};
use socket2::Socket;

use super::{BLOCK, FileMode, PIECE_HEAD_LEN, Shape, Work, cores, cpu_time, join_all};
use crate::base::limits;
use crate::base::lock::lock;
use crate::hash::sha1_batch;

/// Bytes of memory for runs, but at least [`RUNS_MIN`] runs.
const ARENA_LEN: usize = 64 << 20;
const RUNS_MIN: usize = 8;
/// The number of writer threads, which is enough to keep a disk busy.
const WRITERS: usize = 4;
/// Bytes of one read that is discarded.
const DISCARD_LEN: usize = 1 << 20;
/// Flags to open a file with, in order, until the file system accepts them.
const DIRECT_THEN_BUFFERED: [libc::c_int; 2] = [libc::O_DIRECT, 0];

/// The index of a run and its memory.
type Run<'a> = (u64, &'a mut [u8]);

/// Connects to the sender on `port` and does the work. Returns the processor time of this process.
pub(super) fn run(shape: Shape, port: u16, work: &Work) -> io::Result<Duration> {
    let before = cpu_time();
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(Socket::from);
    let sockets: Vec<Socket> = (0..shape.connection_count).map(connect).collect::<io::Result<_>>()?;
    match work {
        Work::Discard => discard(sockets)?,
        Work::Hash => take(sockets, shape, None)?,
        Work::Write { path, mode } => take(sockets, shape, Some(&open_to_write(path, *mode, shape.len())?))?,
    }
    Ok(cpu_time().saturating_sub(before))
}

/// Creates a file of `len` bytes to write.
pub(in crate::bench) fn open_to_write(path: &Path, mode: FileMode, len: u64) -> io::Result<File> {
    let flags = match mode {
        FileMode::Direct => &DIRECT_THEN_BUFFERED[..],
        FileMode::Buffered => &DIRECT_THEN_BUFFERED[1..],
    };
    let mut opened = Err(io::ErrorKind::InvalidInput.into());
    for flag in flags {
        opened = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(*flag).open(path);
        if !opened.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::InvalidInput) {
            break;
        }
    }
    let file = opened?;
    file.set_len(len)?;
    Ok(file)
}

fn discard(sockets: Vec<Socket>) -> io::Result<()> {
    thread::scope(|scope| {
        let read = |mut socket: Socket| {
            let mut buffer = vec![0; DISCARD_LEN];
            while socket.read(&mut buffer)? > 0 {}
            Ok(())
        };
        let threads: Vec<_> = sockets.into_iter().map(|socket| scope.spawn(move || read(socket))).collect();
        join_all(threads)
    })
}

/// Receives, hashes and writes all runs. Each run's memory is filled, hashed, written and then free again.
fn take(sockets: Vec<Socket>, shape: Shape, file: Option<&File>) -> io::Result<()> {
    let mut arena = MmapMut::map_anon(ARENA_LEN.max(RUNS_MIN * shape.run_len))?;
    // Without huge pages the receiver is only slower.
    let _ = arena.advise(Advice::HugePage);
    let free = Free::new(arena.chunks_exact_mut(shape.run_len).collect());
    let (filled, filled_out) = channel();
    let (hashed, hashed_out) = channel();
    let (filled_out, hashed_out) = (Mutex::new(filled_out), Mutex::new(hashed_out));
    thread::scope(|scope| {
        let (free, filled_out, hashed_out) = (&free, &filled_out, &hashed_out);
        let mut threads = Vec::new();
        for (connection, socket) in sockets.into_iter().enumerate() {
            let filled = filled.clone();
            threads.push(scope.spawn(move || fill_runs(&socket, shape, connection, free, &filled)));
        }
        for _ in 0..cores() {
            let hashed = hashed.clone();
            threads.push(scope.spawn(move || hash_runs(shape, filled_out, &hashed)));
        }
        for _ in 0..WRITERS {
            threads.push(scope.spawn(move || write_runs(shape, file, hashed_out, free)));
        }
        // Each stage ends when all senders to its queue are dropped.
        drop((filled, hashed));
        join_all(threads)
    })
}

/// Free memory for runs. The memory that was used last is taken first, because it is still in the processor's cache.
struct Free<'a> {
    /// `None` after [`Free::close`].
    memory: Mutex<Option<Vec<&'a mut [u8]>>>,
    added: Condvar,
}

impl<'a> Free<'a> {
    fn new(memory: Vec<&'a mut [u8]>) -> Self {
        Self { memory: Mutex::new(Some(memory)), added: Condvar::new() }
    }

    /// Waits for memory for a run. Returns `None` after [`Free::close`].
    fn take(&self) -> Option<&'a mut [u8]> {
        let memory = lock(&self.memory);
        let is_empty = |memory: &mut Option<Vec<_>>| memory.as_ref().is_some_and(Vec::is_empty);
        self.added.wait_while(memory, is_empty).unwrap_or_else(PoisonError::into_inner).as_mut()?.pop()
    }

    fn put(&self, run: &'a mut [u8]) {
        if let Some(memory) = lock(&self.memory).as_mut() {
            memory.push(run);
        }
        self.added.notify_one();
    }

    /// Ends all current and later waits.
    fn close(&self) {
        lock(&self.memory).take();
        self.added.notify_all();
    }
}

/// Waits for the next item of a queue. Returns `None` when the stage before has ended.
fn next<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    lock(queue).recv().ok()
}

fn fill_runs<'a>(
    socket: &Socket,
    shape: Shape,
    connection: usize,
    free: &Free<'a>,
    filled: &Sender<Run<'a>>,
) -> io::Result<()> {
    let mut heads = vec![[0; PIECE_HEAD_LEN]; shape.run_len / BLOCK];
    for index in shape.runs(connection) {
        let Some(memory) = free.take() else { return Ok(()) };
        receive_run(socket, &mut heads, memory)?;
        let _ = filled.send((index, memory));
    }
    Ok(())
}

fn receive_run(mut socket: &Socket, heads: &mut [[u8; PIECE_HEAD_LEN]], memory: &mut [u8]) -> io::Result<()> {
    let blocks = heads.iter_mut().zip(memory.chunks_mut(BLOCK));
    let mut slices: Vec<IoSliceMut<'_>> =
        blocks.flat_map(|(head, block)| [IoSliceMut::new(head), IoSliceMut::new(block)]).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match socket.read_vectored(left)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => IoSliceMut::advance_slices(&mut left, len),
        }
    }
    Ok(())
}

/// Hashes batches of at most [`limits::HASH_LANES`] pieces. A batch of less than half of that waits for
/// [`limits::HASH_GATHER`] for each further run.
fn hash_runs<'a>(shape: Shape, filled: &Mutex<Receiver<Run<'a>>>, hashed: &Sender<Run<'a>>) -> io::Result<()> {
    let pieces_per_run = shape.run_len / shape.piece_len;
    loop {
        let mut batch: Vec<Run<'a>> = Vec::new();
        {
            let filled = lock(filled);
            while batch.len() * pieces_per_run < limits::HASH_LANES {
                let run = match batch.len() * pieces_per_run {
                    0 => filled.recv().ok(),
                    waiting if waiting < limits::HASH_LANES / 2 => filled.recv_timeout(limits::HASH_GATHER).ok(),
                    _ => filled.try_recv().ok(),
                };
                let Some(run) = run else { break };
                batch.push(run);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let pieces = batch.iter().flat_map(|(_, memory)| memory.chunks(shape.piece_len));
        black_box(sha1_batch(pieces.map(|piece| [piece])));
        batch.into_iter().for_each(|run| drop(hashed.send(run)));
    }
}

fn write_runs<'a>(
    shape: Shape,
    file: Option<&File>,
    hashed: &Mutex<Receiver<Run<'a>>>,
    free: &Free<'a>,
) -> io::Result<()> {
    while let Some((index, memory)) = next(hashed) {
        if let Some(file) = file {
            file.write_all_at(memory, index * shape.run_len as u64).inspect_err(|_| free.close())?;
        }
        free.put(memory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pair::send;

    /// There are more runs than the arena holds, so that the receivers would wait for ever.
    #[test]
    fn a_failed_write_ends_both_sides() {
        let run_len = 256 << 10;
        let run_count = (2 * ARENA_LEN / run_len) as u64;
        let shape = Shape { run_count, run_len, piece_len: run_len, connection_count: 2 };
        let (port, ports) = channel();
        let sender = thread::spawn(move || send::run(shape, &mut |at| port.send(at).map_err(io::Error::other)));
        let port = ports.recv().unwrap();
        let sockets = (0..2).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap().into()).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let read_only = File::open(file.path()).unwrap();
        let error = take(sockets, shape, Some(&read_only)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        assert!(sender.join().unwrap().is_err());
    }
}
