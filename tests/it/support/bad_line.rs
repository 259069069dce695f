//! A bad line: TCP connections over it are late, cut in the middle of what they say, and dark for a while.

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
/// A block's worth.
const CHUNK_LEN: usize = 16 << 10;
/// On their way at a time, in one direction of a connection.
const CHUNKS_MAX: usize = 64;
const DARK_POLL: Duration = Duration::from_millis(10);

pub(crate) struct BadLine {
    one_way: Duration,
    /// Of the chunks that come back, the part after which a connection is cut.
    cut_share: f64,
    rng: Mutex<fastrand::Rng>,
    is_dark: AtomicBool,
    cuts: AtomicUsize,
}

impl BadLine {
    pub(crate) fn new(one_way: Duration, cut_share: f64, seed: u64) -> Arc<Self> {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self { one_way, cut_share, rng, is_dark: AtomicBool::new(false), cuts: AtomicUsize::new(0) })
    }

    /// Connections to the address that is returned lead over the line to `to`, until the tests end.
    pub(crate) fn lead(self: &Arc<Self>, ip: Ipv4Addr, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((ip, PORT)).unwrap();
        let address = listener.local_addr().unwrap();
        let line = self.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                line.wait_for_light();
                let Ok(far) = TcpStream::connect(to) else { continue };
                let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (there, back) = (line.clone(), line.clone());
                thread::spawn(move || there.carry(near, far, false));
                thread::spawn(move || back.carry(far_again, near_again, true));
            }
        });
        address
    }

    /// While it is dark nothing is taken on; what is on its way arrives.
    pub(crate) fn set_dark(&self, is_dark: bool) {
        self.is_dark.store(is_dark, Ordering::Relaxed);
    }

    /// Connections that were cut so far.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }

    fn wait_for_light(&self) {
        while self.is_dark.load(Ordering::Relaxed) {
            thread::sleep(DARK_POLL);
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
            self.wait_for_light();
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
