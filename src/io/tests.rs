//! Tests of the driver's contract: correct results, and survival of cancellation, overflow and early ends.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::ring::operation;
use super::ring::runtime::run_of;
use super::*;

fn on_ring<F: Future>(main: impl FnOnce() -> F) -> F::Output {
    run_thread(Driver::Ring, main).unwrap()
}

/// Runs `main` with each driver.
fn on_both<F: Future>(main: impl Fn() -> F) -> [F::Output; 2] {
    [Driver::Ring, Driver::Plain].map(|driver| run_thread(driver, &main).unwrap())
}

/// Returns a socket of this I/O thread and the other end of its connection.
pub(in crate::io) async fn connected_pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = Socket::begin_connect(address, None, &SocketOptions::default()).unwrap();
    socket.connect(address).await.unwrap();
    (socket, listener.accept().unwrap().0)
}

struct Pieces(Vec<Box<[u8]>>);

// SAFETY: boxed slices do not move and are not written to while this owns them.
unsafe impl Gather for Pieces {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        self.0.iter().for_each(|piece| piece.gather(out));
    }
}

#[test]
fn bytes_gathered_from_many_spans_arrive_in_order() {
    let received = on_both(|| async {
        let (socket, mut other) = connected_pair().await;
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).map(|_| bytes)
        });
        // More than fits into any socket buffer, so that the kernel has to continue a partial send.
        let pieces = (0..200u8).map(|i| vec![i; 50_000].into()).collect();
        let (result, _) = socket.send_all(Pieces(pieces)).await;
        result.unwrap();
        socket.shutdown();
        drop(socket);
        reader.join().unwrap().unwrap()
    });
    for received in received {
        assert!(received.chunks(50_000).zip(0..200u8).all(|(chunk, i)| chunk.iter().all(|&b| b == i)));
        assert_eq!(received.len(), 200 * 50_000);
    }
}

struct Target([u8; 4]);

// SAFETY: the array is part of the target and so borrowed with it.
unsafe impl Scatter for Target {
    fn span(&mut self) -> libc::iovec {
        libc::iovec { iov_base: self.0.as_mut_ptr().cast(), iov_len: self.0.len() }
    }
}

#[test]
fn received_bytes_are_scattered_to_targets_in_order() {
    on_both(|| async {
        let (socket, mut other) = connected_pair().await;
        let mut front = RecvBuffer::with_capacity(10);
        front.push(b"ab");
        let mut targets: ScatterList<Target, 2> = ScatterList::default();
        (0..2).for_each(|_| targets.push(Target([0; 4])));
        let error = socket.try_recv(&mut front, 3, &mut targets).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        other.write_all(b"cdeH1data").unwrap();
        socket.readable().await.unwrap();
        assert_eq!(socket.try_recv(&mut front, 3, &mut targets).unwrap(), 9);
        assert_eq!(front.filled(), b"abcde");
        assert_eq!(targets.heads().collect::<Vec<_>>(), [b"H1", &[0, 0]]);
        assert_eq!(targets.drain().map(|(_, target)| target.0).collect::<Vec<_>>(), [*b"data", [0; 4]]);
        drop(other);
        socket.readable().await.unwrap();
        targets.push(Target([0; 4]));
        assert_eq!(socket.try_recv(&mut front, 0, &mut targets).unwrap(), 0);
    });
}

#[test]
fn a_peer_that_resets_ends_a_send_with_an_error() {
    on_both(|| async {
        let (socket, other) = connected_pair().await;
        socket2::SockRef::from(&other).set_linger(Some(Duration::ZERO)).unwrap();
        let resetter = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(other);
        });
        let batch: Box<[u8]> = vec![7; 64 << 20].into();
        let (result, _) = socket.send_all(batch).await;
        assert!(result.is_err());
        resetter.join().unwrap();
        // Another test may reuse the descriptor number by now, but not the inode of the connection.
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&socket));
        let inode = std::fs::read_link(&link).unwrap();
        drop(socket);
        no_op().await;
        assert_ne!(std::fs::read_link(&link).ok(), Some(inode), "the descriptor is free");
    });
}

#[test]
fn shutdown_ends_a_pending_receive_and_the_descriptor_closes() {
    on_both(|| async {
        let (socket, mut other) = connected_pair().await;
        let reader = spawn({
            let socket = socket.clone();
            async move { socket.recv(RecvBuffer::with_capacity(100)).await.0 }
        });
        no_op().await;
        socket.shutdown();
        assert_eq!(reader.await.unwrap().unwrap(), 0);
        drop(socket);
        assert_eq!(other.read(&mut [0; 10]).unwrap(), 0);
    });
}

#[test]
fn an_aborted_task_with_a_receive_in_flight_leaks_no_descriptor() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    on_both(|| async {
        let before = open();
        for _ in 0..50 {
            let (socket, other) = connected_pair().await;
            let task = spawn({
                let socket = socket.clone();
                async move { socket.recv(RecvBuffer::with_capacity(100)).await.0.is_ok() }
            });
            no_op().await;
            task.abort();
            socket.shutdown();
            drop((socket, other));
            no_op().await;
        }
        for _ in 0..50 {
            no_op().await;
        }
        assert!(open() <= before + 20, "{} descriptors, {before} before", open());
    });
}

#[test]
fn a_busy_task_that_yields_by_no_op_does_not_starve_submissions() {
    #[expect(clippy::disallowed_methods, reason = "limits the time of the test")]
    on_both(|| async {
        let spinner = spawn(async {
            loop {
                no_op().await;
            }
        });
        let started = std::time::Instant::now();
        for _ in 0..20 {
            no_op().await;
        }
        assert!(started.elapsed() < Duration::from_millis(500));
        spinner.abort();
    });
}

#[test]
fn a_task_that_always_sends_does_not_starve_another() {
    #[expect(clippy::disallowed_methods, reason = "limits the time of the test")]
    on_both(|| async {
        let (socket, mut other) = connected_pair().await;
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while other.read(&mut buffer).is_ok_and(|len| len > 0) {}
        });
        let sending = spawn({
            let socket = socket.clone();
            async move {
                let mut batch: Box<[u8]> = vec![7; 16 << 10].into();
                loop {
                    let result;
                    (result, batch) = socket.send_all(batch).await;
                    if result.is_err() {
                        return;
                    }
                }
            }
        });
        let started = std::time::Instant::now();
        for _ in 0..20 {
            no_op().await;
        }
        assert!(started.elapsed() < Duration::from_secs(2));
        socket.shutdown();
        sending.await.unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn hundreds_of_operations_get_through_a_tiny_ring() {
    run_of(2, 4, || async {
        let tasks: Vec<_> = (0..300).map(|_| spawn(async { no_op().await })).collect();
        let (socket, mut other) = connected_pair().await;
        let receivers: Vec<_> = (0..100)
            .map(|_| {
                let socket = socket.clone();
                spawn(async move { socket.recv(RecvBuffer::with_capacity(1)).await.0.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        other.write_all(&[1; 100]).unwrap();
        let mut received = 0;
        for receiver in receivers {
            received += receiver.await.unwrap();
        }
        assert_eq!(received, 100);
    })
    .unwrap();
}

/// The kernel keeps completions for which the ring has no room, and delivers them later.
#[test]
fn completions_that_overflow_are_all_delivered() {
    run_of(2, 4, || async {
        let mut pairs = Vec::new();
        for _ in 0..100 {
            pairs.push(connected_pair().await);
        }
        let receive = |(socket, _): &(Socket, TcpStream)| {
            let socket = socket.clone();
            spawn(async move { socket.recv(RecvBuffer::with_capacity(1)).await.0.unwrap() })
        };
        let receivers: Vec<_> = pairs.iter().map(receive).collect();
        no_op().await;
        // During this time the thread takes no completions.
        pairs.iter_mut().for_each(|(_, other)| other.write_all(&[1]).unwrap());
        for receiver in receivers {
            assert_eq!(receiver.await.unwrap(), 1);
        }
    })
    .unwrap();
}

/// The kernel may cancel operations that the program did not cancel.
#[test]
fn cancelled_operations_are_retried() {
    on_ring(|| async {
        let (socket, mut other) = connected_pair().await;
        let share = Listener::bind_share("127.0.0.1:0".parse().unwrap(), 16, None).unwrap();
        let address = share.local_addr().unwrap();
        let listener = Listener::from_std(share, SocketOptions::default()).unwrap();
        // The backlog is full after one connection.
        let full = Listener::bind_share("127.0.0.1:0".parse().unwrap(), 0, None).unwrap();
        let full_address = full.local_addr().unwrap();
        let first = TcpStream::connect(full_address).unwrap();
        let connecting = Socket::begin_connect(full_address, None, &SocketOptions::default()).unwrap();
        let connect = spawn(async move { connecting.connect(full_address).await.map(|()| connecting) });
        let receive = spawn(async move { socket.recv(RecvBuffer::with_capacity(9)).await });
        let accept = spawn(async move { listener.accept().await });
        no_op().await;
        assert_eq!(operation::cancel_all().await.unwrap(), 3);
        let mut cancelled_again = 0;
        while cancelled_again < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // An error means that none is pending again yet.
            cancelled_again += operation::cancel_all().await.unwrap_or(0);
        }
        other.write_all(b"late").unwrap();
        let (received, buffer) = receive.await.unwrap();
        assert_eq!((received.unwrap(), buffer.filled()), (4, &b"late"[..]));
        let caller = TcpStream::connect(address).unwrap();
        assert_eq!(accept.await.unwrap().unwrap().1, caller.local_addr().unwrap());
        assert_eq!(full.accept().unwrap().1, first.local_addr().unwrap());
        let connected = connect.await.unwrap().unwrap();
        assert_eq!(full.accept().unwrap().1, connected.local_addr().unwrap());
    });
}

#[test]
fn an_ending_runtime_closes_sockets_of_pending_operations() {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let peers = on_both(|| async {
        let share = Listener::bind_share(address, 16, None).unwrap();
        let listener = Listener::from_std(share, SocketOptions::default()).unwrap();
        spawn(async move { listener.accept().await.is_ok() });
        let mut peers = Vec::new();
        for _ in 0..20 {
            let (socket, peer) = connected_pair().await;
            spawn(async move { socket.recv(RecvBuffer::with_capacity(100)).await.0.is_ok() });
            peers.push(peer);
        }
        no_op().await;
        peers
    });
    for mut peer in peers.into_iter().flatten() {
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the receive ended and its socket closed");
    }
}

/// Memory owned by an operation. When it is dropped, it notes that, the peer sends, and the thread makes a system call.
struct Watched {
    place: *mut u8,
    near: TcpStream,
    far: TcpStream,
    dropped: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Watched {
    const LEN: u32 = 64;

    /// Leaks the memory, so that it can be inspected at any time.
    fn new(dropped: &std::rc::Rc<std::cell::Cell<bool>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        Self { place: vec![0xaa_u8; Self::LEN as usize].leak().as_mut_ptr(), near, far, dropped: dropped.clone() }
    }

    async fn receive(self) {
        let fd = io_uring_06::types::Fd(std::os::fd::AsRawFd::as_raw_fd(&self.near));
        let entry = io_uring_06::opcode::Recv::new(fd, self.place, Self::LEN).build();
        // SAFETY: the memory is never freed, and the operation owns the socket.
        let _ = unsafe { operation::submit(self, entry) }.await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.dropped.set(true);
        self.far.write_all(&[0x55; Self::LEN as usize]).unwrap();
        let _ = rustix::process::getppid();
    }
}

/// Runs `main` with a receive pending. Returns the first byte of its memory, and whether the memory was dropped.
fn receive_at_the_end_of<F: Future>(main: impl FnOnce(Watched) -> F) -> (u8, bool) {
    let dropped = std::rc::Rc::default();
    let watched = Watched::new(&dropped);
    let place = watched.place;
    on_ring(|| main(watched));
    // SAFETY: the memory is never freed.
    (unsafe { place.read_volatile() }, dropped.get())
}

#[test]
fn an_ending_ring_drops_no_memory_before_the_kernel_is_done() {
    let with_a_task = receive_at_the_end_of(|watched| async {
        spawn(watched.receive());
        no_op().await;
    });
    let aborted = receive_at_the_end_of(|watched| async {
        let task = spawn(watched.receive());
        no_op().await;
        task.abort();
        no_op().await;
    });
    let resubmitted = receive_at_the_end_of(|watched| async {
        spawn(watched.receive());
        no_op().await;
        operation::cancel_all().await.unwrap();
    });
    let not_submitted = receive_at_the_end_of(|watched| async {
        spawn(watched.receive());
    });
    assert_eq!([with_a_task, aborted, resubmitted, not_submitted], [(0xaa, true); 4]);
}

#[test]
fn tasks_stop_when_their_ring_ends() {
    let steps = std::rc::Rc::new(std::cell::Cell::new(0));
    on_both(|| {
        let steps = steps.clone();
        async move {
            for _ in 0..3 {
                let steps = steps.clone();
                spawn(async move {
                    loop {
                        no_op().await;
                        steps.set(steps.get() + 1);
                    }
                });
            }
            no_op().await;
        }
    });
    assert!((3..100).contains(&steps.get()), "{}", steps.get());
}

#[test]
fn shutdown_ends_accept() {
    on_both(|| async {
        let share = Listener::bind_share("127.0.0.1:0".parse().unwrap(), 16, None).unwrap();
        let listener = Listener::from_std(share, SocketOptions::default()).unwrap();
        let waiting = spawn({
            let listener = listener.clone();
            async move { listener.accept().await.is_err() }
        });
        no_op().await;
        listener.shutdown();
        assert!(waiting.await.unwrap());
    });
}

/// A burst of connections does not keep those that were accepted first from their work.
#[test]
fn a_burst_of_connections_does_not_starve_the_first() {
    const COUNT: usize = 50;
    on_both(|| async {
        let share = Listener::bind_share("127.0.0.1:0".parse().unwrap(), 128, None).unwrap();
        let address = share.local_addr().unwrap();
        let clients: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(b"x").unwrap();
                client
            })
            .collect();
        let listener = Listener::from_std(share, SocketOptions::default()).unwrap();
        let served = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..COUNT {
            let (socket, _) = listener.accept().await.unwrap();
            let served = served.clone();
            spawn(async move {
                assert_eq!(socket.recv(RecvBuffer::with_capacity(1)).await.0.unwrap(), 1);
                served.set(served.get() + 1);
            });
        }
        assert!(served.get() >= COUNT / 2, "{} of {COUNT} served", served.get());
        drop(clients);
    });
}

#[test]
fn writes_land_at_their_offset() {
    let pieces = || Pieces((0..2000u16).map(|i| i.to_be_bytes().to_vec().into()).collect());
    let by_ring = |file: File| {
        on_ring(|| async {
            let file = SharedFile::new(file);
            write_all_at(file.clone(), pieces(), 10).await.0.unwrap();
            flush_range(file, 0, 4010, FlushStep::Wait).await.unwrap();
        });
    };
    let blocking = |file: File| {
        write_all_at_blocking(&file, &pieces(), 10).unwrap();
        flush_range_blocking(&file, 0, 4010, FlushStep::Wait).unwrap();
    };
    for write in [&by_ring as &dyn Fn(File), &blocking] {
        let path = tempfile::NamedTempFile::new().unwrap();
        write(path.reopen().unwrap());
        let bytes = std::fs::read(path.path()).unwrap();
        assert_eq!(bytes.len(), 4010);
        assert_eq!(bytes[..10], [0; 10]);
        assert!(bytes[10..].chunks(2).zip(0..2000u16).all(|(b, i)| b == i.to_be_bytes()));
    }
}

#[test]
fn received_bytes_are_kept_until_consumed() {
    on_both(|| async {
        let (socket, mut other) = connected_pair().await;
        other.write_all(b"hello").unwrap();
        let (result, mut buffer) = socket.recv(RecvBuffer::with_capacity(8)).await;
        assert_eq!(result.unwrap(), 5);
        buffer.consume(3);
        assert_eq!(buffer.filled(), b"lo");
        buffer.resize(4);
        other.write_all(b" you").unwrap();
        let (result, buffer) = socket.recv(buffer).await;
        assert_eq!((result.unwrap(), buffer.filled()), (2, &b"lo y"[..]));
    });
}

#[test]
fn long_reads_are_complete_up_to_the_end_of_the_file() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let bytes: Vec<u8> = (0..5_000_001u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let path = dir.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    let direct = || {
        let file = File::open(&path).unwrap();
        // If the flag is refused, the file is read through the page cache.
        let _ = rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::DIRECT);
        SharedFile::new(file)
    };
    for file in [SharedFile::new(File::open(&path).unwrap()), direct()] {
        on_ring(|| async {
            let mut buffer = ReadBuffer::with_len(6 << 20).unwrap();
            for (offset, len) in [(0, 6 << 20), (4096, 4096), (1 << 20, 3 << 20), (4_997_120, 8192), (5_005_312, 4096)]
            {
                buffer.bytes_mut().fill(0);
                let (filled, read) = read_ahead(&file, buffer, offset, len).await.unwrap().unwrap();
                let offset = usize::try_from(offset).unwrap();
                let expected = bytes.get(offset..).unwrap_or_default();
                let expected = &expected[..len.min(expected.len())];
                assert!(filled == expected.len() && read.bytes().starts_with(expected), "{len} at {offset}");
                buffer = read;
            }
        });
    }
}

#[test]
fn a_read_that_is_not_awaited_keeps_its_memory() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![7; 8 << 20]).unwrap();
    let file = SharedFile::new(File::open(&path).unwrap());
    on_ring(|| async {
        drop(read_ahead(&file, ReadBuffer::with_len(8 << 20).unwrap(), 0, 8 << 20));
        no_op().await;
        let (filled, buffer) =
            read_ahead(&file, ReadBuffer::with_len(8 << 20).unwrap(), 0, 8 << 20).await.unwrap().unwrap();
        assert!(filled == 8 << 20 && buffer.bytes().iter().take(filled).all(|&byte| byte == 7));
        // This read is pending when the ring ends.
        drop(read_ahead(&file, buffer, 0, 8 << 20));
        no_op().await;
    });
}

#[test]
fn marks_and_devices_are_set_on_sockets() {
    let options = SocketOptions { dscp: Some(10), device: Device::new("lo"), ..SocketOptions::default() };
    for address in ["127.0.0.1:1", "[::1]:1"] {
        let socket = Socket::begin_connect(address.parse().unwrap(), None, &options).unwrap();
        // SAFETY: the socket outlives the borrow.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&socket)) };
        let socket = socket2::SockRef::from(&fd);
        assert_eq!(socket.tos_v4().unwrap(), 40);
        assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
    }
    let missing = SocketOptions { device: Device::new("no-such-one"), ..SocketOptions::default() };
    let error = Socket::begin_connect("127.0.0.1:1".parse().unwrap(), None, &missing).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    for bad in ["", "a b", "sixteen-bytes-xx"] {
        assert_eq!(Device::new(bad), None, "{bad}");
    }
}
