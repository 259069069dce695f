//! A TCP proxy that simulates an unreliable link: it delays data, cuts connections within a message, and can go down.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::{Duration, Instant},
};

const PORT: u16 = 7100;
/// The length of a forwarded chunk: about one block.
const CHUNK_LEN: usize = 16 << 10;
/// The most chunks in flight in one direction of a connection.
const CHUNKS_MAX: usize = 64;
const DOWN_POLL: Duration = Duration::from_millis(10);

pub(crate) struct UnreliableLink {
    one_way: Duration,
    /// The probability that a connection is cut at a chunk towards the client.
    cut_share: f64,
    rng: Mutex<fastrand::Rng>,
    is_down: AtomicBool,
    cuts: AtomicUsize,
}

impl UnreliableLink {
    pub(crate) fn new(one_way: Duration, cut_share: f64, seed: u64) -> Arc<Self> {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self { one_way, cut_share, rng, is_down: AtomicBool::new(false), cuts: AtomicUsize::new(0) })
    }

    /// Forwards connections over this link to `to` until the tests end. Returns the address to connect to.
    pub(crate) fn proxy_to(self: &Arc<Self>, ip: Ipv4Addr, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((ip, PORT)).unwrap();
        let address = listener.local_addr().unwrap();
        let link = self.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                link.wait_until_up();
                let Ok(far) = TcpStream::connect(to) else { continue };
                let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (there, back) = (link.clone(), link.clone());
                thread::spawn(move || there.carry(near, far, false));
                thread::spawn(move || back.carry(far_again, near_again, true));
            }
        });
        address
    }

    /// Takes the link down or up. While it is down it accepts no data; data in flight still arrives.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Returns the number of connections that were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }

    fn wait_until_up(&self) {
        while self.is_down.load(Ordering::Relaxed) {
            thread::sleep(DOWN_POLL);
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, may_cut: bool) {
        let (enter, arrive) = sync_channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
        let arriving = thread::spawn(move || {
            for (at, chunk) in arrive {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if to.write_all(&chunk).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut chunk = [0; CHUNK_LEN];
        loop {
            self.wait_until_up();
            let Ok(len @ 1..) = from.read(&mut chunk) else { break };
            let is_cut = may_cut && self.rng.lock().unwrap().f64() < self.cut_share;
            let len = if is_cut { len.div_ceil(2) } else { len };
            if enter.send((Instant::now() + self.one_way, chunk[..len].to_vec())).is_err() {
                break;
            }
            if is_cut {
                self.cuts.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        drop(enter);
        let _ = arriving.join();
        let _ = from.shutdown(Shutdown::Both);
    }
}
