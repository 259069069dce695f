use std::io::Read;
use std::time::Duration;

use super::*;
use crate::io::fault::refuse_submissions;
use crate::io::tests::connected_pair;
use crate::io::{Driver, no_op, run_thread};

/// Bytes that note when they are dropped.
struct Watched(Box<[u8]>, Rc<Cell<bool>>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.set(true);
    }
}

// SAFETY: a boxed slice does not move and is not written to while this owns it.
unsafe impl Gather for Watched {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        self.0.gather(out);
    }
}

fn started() -> ZeroCopyRing {
    refuse_submissions(0);
    ZeroCopyRing::start(ZeroCopyMode::On).unwrap().unwrap()
}

/// Waits until the kernel has released all memory. Returns false after a timeout.
async fn drained(ring: &ZeroCopyRing) -> bool {
    for _ in 0..500 {
        if ring.in_flight() == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn pattern(len: usize) -> Box<[u8]> {
    (0..251u8).cycle().take(len).collect()
}

#[test]
fn bytes_are_exact_and_held_until_the_notification() {
    const LEN: usize = 20 << 20;
    run_thread(Driver::Ring, || async {
        let ring = started();
        let (socket, mut other) = connected_pair().await;
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).map(|_| bytes)
        });
        let sender = ring.sender();
        let gone = Rc::new(Cell::new(false));
        // More than fits into any socket buffer, so that the kernel has to continue a partial send.
        sender.send_all(&socket, Watched(pattern(LEN), gone.clone())).await.unwrap();
        assert_eq!(gone.get(), ring.in_flight() == 0);
        sender.send_all(&socket, pattern(100_000)).await.unwrap();
        assert!(drained(&ring).await && gone.get());
        socket.shutdown();
        let bytes = reader.join().unwrap().unwrap();
        assert!(bytes[..LEN] == pattern(LEN)[..] && bytes[LEN..] == pattern(100_000)[..]);
        // On loopback the kernel copies all bytes, and reports it.
        let usage = ring.take_usage();
        assert_eq!((usage.uncopied, usage.copied), (0, LEN as u64 + 100_000));
        assert_eq!(ring.take_usage(), ZeroCopyUsage::default());
    })
    .unwrap();
}

#[test]
fn auto_stops_after_a_reported_copy_and_on_does_not() {
    for (mode, continues) in [(ZeroCopyMode::Auto, false), (ZeroCopyMode::On, true)] {
        run_thread(Driver::Ring, || async {
            // `None` on an old kernel.
            let Some(ring) = ZeroCopyRing::start(mode).unwrap() else { return };
            let (socket, mut other) = connected_pair().await;
            let sender = ring.sender();
            assert!(sender.takes(limits::ZERO_COPY_LEN_MIN) && !sender.takes(limits::ZERO_COPY_LEN_MIN - 1));
            sender.send_all(&socket, pattern(40_000)).await.unwrap();
            other.read_exact(&mut [0; 40_000]).unwrap();
            assert!(drained(&ring).await);
            assert_eq!(sender.takes(40_000), continues);
            assert!(ring.sender().takes(40_000), "other sockets are not affected");
        })
        .unwrap();
    }
    run_thread(Driver::Ring, || async { assert!(ZeroCopyRing::start(ZeroCopyMode::Off).unwrap().is_none()) }).unwrap();
}

#[test]
fn the_rest_of_a_refused_send_is_sent_with_a_copy() {
    run_thread(Driver::Ring, || async {
        let (socket, mut other) = connected_pair().await;
        let batch = Rc::new(pattern(1000));
        let mut spans = Vec::new();
        batch.gather(&mut spans);
        memory::advance(&mut spans, 300);
        socket.send_all(Rest { spans, batch }).await.0.unwrap();
        let mut bytes = [0; 700];
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[..], pattern(1000)[300..]);
    })
    .unwrap();
}

#[test]
fn a_reset_ends_a_send_with_an_error_and_frees_all() {
    run_thread(Driver::Ring, || async {
        let ring = started();
        let (socket, other) = connected_pair().await;
        let gone = Rc::new(Cell::new(false));
        let sending = spawn({
            let (sender, socket, batch) = (ring.sender(), socket.clone(), Watched(pattern(64 << 20), gone.clone()));
            async move { sender.send_all(&socket, batch).await }
        });
        no_op().await;
        socket2::SockRef::from(&other).set_linger(Some(Duration::ZERO)).unwrap();
        drop(other);
        assert!(sending.await.unwrap().is_err());
        assert!(drained(&ring).await && gone.get());
    })
    .unwrap();
}

#[test]
fn an_aborted_send_keeps_its_memory_until_the_connection_ends() {
    run_thread(Driver::Ring, || async {
        let ring = started();
        let (socket, _other) = connected_pair().await;
        let gone = Rc::new(Cell::new(false));
        let sending = spawn({
            let (sender, socket, batch) = (ring.sender(), socket.clone(), Watched(pattern(64 << 20), gone.clone()));
            async move { sender.send_all(&socket, batch).await }
        });
        no_op().await;
        sending.abort();
        no_op().await;
        assert!(!gone.get() && ring.in_flight() == 1);
        // The peer reads nothing, so queued bytes would stay without the reset.
        socket.reset();
        drop(socket);
        assert!(drained(&ring).await && gone.get());
    })
    .unwrap();
}

#[test]
fn entries_that_the_kernel_does_not_accept_are_resubmitted() {
    run_thread(Driver::Ring, || async {
        let ring = started();
        let (socket, mut other) = connected_pair().await;
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 40_000];
            other.read_exact(&mut bytes).map(|()| bytes)
        });
        refuse_submissions(20);
        let sender = ring.sender();
        sender.send_all(&socket, pattern(40_000)).await.unwrap();
        assert_eq!(reader.join().unwrap().unwrap()[..], pattern(40_000)[..]);
        assert!(drained(&ring).await && sender.takes(40_000));
    })
    .unwrap();
}

#[test]
fn a_ring_is_given_up_if_the_kernel_accepts_no_entry() {
    run_thread(Driver::Ring, || async {
        let ring = started();
        let (socket, _other) = connected_pair().await;
        let gone = Rc::new(Cell::new(false));
        refuse_submissions(u32::MAX);
        let sender = ring.sender();
        let sending = sender.send_all(&socket, Watched(pattern(40_000), gone.clone())).await;
        assert_eq!(sending.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(!gone.get() && !sender.takes(40_000) && !ring.sender().takes(40_000));
    })
    .unwrap();
}

#[test]
fn sends_beyond_the_length_of_the_queue_use_a_copy() {
    run_thread(Driver::Ring, || async {
        let ring = started();
        refuse_submissions(u32::MAX);
        let (socket, _other) = connected_pair().await;
        for _ in 0..ENTRIES {
            let (sender, socket) = (ring.sender(), socket.clone());
            spawn(async move { sender.send_all(&socket, pattern(10)).await });
        }
        no_op().await;
        assert_eq!(ring.in_flight(), ENTRIES as usize);
        let (socket, mut other) = connected_pair().await;
        ring.sender().send_all(&socket, pattern(40_000)).await.unwrap();
        other.read_exact(&mut [0; 40_000]).unwrap();
    })
    .unwrap();
}

#[test]
fn the_runtime_ends_with_sends_in_flight() {
    let gone = Rc::new(Cell::new(false));
    run_thread(Driver::Ring, || async {
        let ring = started();
        for _ in 0..20 {
            let (socket, other) = connected_pair().await;
            let (sender, batch) = (ring.sender(), Watched(pattern(32 << 20), gone.clone()));
            spawn(async move {
                let outcome = sender.send_all(&socket, batch).await.is_ok();
                drop(other);
                outcome
            });
        }
        no_op().await;
        assert_eq!(ring.in_flight(), 20);
    })
    .unwrap();
    assert!(!gone.get(), "the kernel may still read it");
}
