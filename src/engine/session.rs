//! Runs a session from start to end: opens files and sockets, starts the threads, waits for the end and builds the
//! report.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;

use tokio::sync::{Notify, mpsc};

use crate::base::limits;
use crate::engine::changes::Channels;
use crate::engine::conclusion::{Outcome, conclude, depart, no_peers, save};
use crate::engine::config::{Config, Source};
use crate::engine::control::prepare::prepare;
use crate::engine::control::{self, Conclusion};
use crate::engine::files::io_threads::FileThreads;
use crate::engine::metrics::monitor::Snapshot;
use crate::engine::metrics::usage::Threads;
use crate::engine::network::listen::{Listen, listen};
use crate::engine::network::utp;
use crate::engine::report::{EngineError, Report};
use crate::engine::ring::{self, Inbox};
use crate::engine::shared::page_cache::PageCache;
use crate::engine::shared::rings::{Command, RingHandle};
use crate::engine::shared::{Endpoint, Shared, Workers};
use crate::hash::Pool;
use crate::io::{
    Driver, Listener, SocketOptions, StartError, event_loop, raise_descriptor_limit, run_thread, start_thread,
    start_workers,
};

/// Runs the torrents until all have left, or `stop` is set, or a fault ends the session.
///
/// `observer` is called a few times a second.
pub fn run(
    config: &Config,
    sources: Vec<Source>,
    channels: Channels,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> Result<Report, EngineError> {
    raise_descriptor_limit();
    let listeners = listen(&config.listen, config.ring_count, config.device)?;
    let first = listeners.first().and_then(|listener| listener.local_addr().ok());
    let utp_sockets = utp::bind_beside(&listeners, config.device);
    let page_cache = PageCache::new(config.cache_mode);
    let mut torrents = HashMap::new();
    let mut tiers = Vec::new();
    for (source, number) in sources.into_iter().zip(0..) {
        let (torrent, its_tiers) = prepare(source, config, page_cache.trusted, number)?;
        torrents.insert(torrent.info_hash, torrent.clone());
        tiers.push((torrent, its_tiers));
    }
    let socket_options = SocketOptions {
        unsent_len: Some(limits::SEND_UNSENT_LEN_MAX),
        dscp: config.dscp,
        device: config.device,
        ..SocketOptions::default()
    };
    let pool = Pool::new(thread::available_parallelism().map_or(1, usize::from)).map_err(StartError::Thread)?;
    let workers = Workers { pool, files: FileThreads::new(config.driver).map_err(StartError::Thread)? };
    let endpoint = Endpoint {
        listen_port: first.map_or(0, |address| address.port()),
        listener_is_handed: matches!(config.listen, Listen::Handed(_)),
        local_address: config.listen.local_address(),
        socket_options,
    };
    let shared = Arc::new(Shared::new(config, torrents, workers, page_cache, endpoint));
    let session = Arc::downgrade(&shared);
    config.contents.handle_started(session);
    let rings = start_rings(&shared, config.driver, listeners)?;
    let runtime = event_loop().map_err(StartError::from)?;
    for socket in utp_sockets {
        runtime.spawn(utp::refuse(socket, config.filter.clone()));
    }
    let departures = channels.departures.clone();
    let Conclusion { outcome, mut removed, departing } =
        runtime.block_on(control::run(&shared, config, tiers, channels, stop, observer));
    // Does not wait for a tracker that hangs.
    runtime.shutdown_background();
    // The usage of ring threads is unknown after they end. After a fault it is not needed, and they stop at once.
    let threads = if outcome == Outcome::Failed { Threads::default() } else { Threads::of_this_process() };
    stop_rings(&shared, rings);
    departing.into_iter().for_each(|thread| _ = thread.join());
    for torrent in shared.torrents() {
        let Some(departures) = &departures else {
            save(&torrent);
            continue;
        };
        shared.remove(torrent.info_hash);
        torrent.add_totals(&mut removed);
        // Fails if the receiver is gone, and then needs no result.
        let _ = departures.send(depart(&shared, &torrent, no_peers(outcome, config), threads));
    }
    let report = conclude(&shared, outcome, removed, threads);
    // The torrents are dropped after the lock is released: that closes files.
    let torrents = std::mem::take(&mut *config.contents.torrents_mut());
    drop(torrents);
    report
}

/// Commands that may wait for a ring thread.
const COMMANDS_MAX: usize = 1024;

/// Starts a ring thread for each listener. Fails if one does not start.
fn start_rings(
    shared: &Arc<Shared>,
    driver: Driver,
    listeners: Vec<TcpListener>,
) -> Result<Vec<thread::JoinHandle<Result<(), StartError>>>, EngineError> {
    let (mut handles, mut inboxes) = (Vec::new(), Vec::new());
    for listener in listeners {
        let (commands, commands_out) = mpsc::channel(COMMANDS_MAX);
        let (verified, verified_out) = mpsc::channel(limits::OPEN_PIECES_MAX as usize);
        let (news, ready) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        handles.push(RingHandle {
            commands,
            connection_count: AtomicUsize::new(0),
            verified,
            news: news.clone(),
            ready: ready.clone(),
        });
        inboxes.push((listener, Inbox { commands: commands_out, verified: verified_out, news, ready }));
    }
    shared.rings.handle_started(handles);
    let (started, wait) = std_mpsc::channel();
    let mut threads = Vec::new();
    for (index, (listener, inbox)) in inboxes.into_iter().enumerate() {
        let (shared, started) = (shared.clone(), started.clone());
        let body = move || {
            let _watch = RingWatch(shared.clone());
            let main = || async move {
                start_workers().await?;
                let listener = Listener::from_std(listener, shared.endpoint.socket_options)?;
                let _ = started.send(());
                // The wait for the other threads must not depend on this one.
                drop(started);
                ring::run(index, shared, listener, inbox).await;
                Ok(())
            };
            run_thread(driver, main).flatten()
        };
        threads.push(start_thread(format!("ring-{index}"), body)?);
    }
    drop(started);
    // Each thread either reports that its ring runs, or ends with the reason for its failure.
    if wait.iter().take(threads.len()).count() == threads.len() {
        return Ok(threads);
    }
    let ended = stop_rings(shared, threads);
    let panicked = || EngineError::Threads(std::io::Error::other("a ring thread panicked"));
    ended.into_iter().try_for_each(|ended| ended.map_err(|_| panicked())?.map_err(EngineError::from))?;
    Err(EngineError::Threads(std::io::Error::other("a ring thread did not start")))
}

/// Ends the session if the ring thread that owns this panics, as it does when its event loop fails.
struct RingWatch(Arc<Shared>);

impl Drop for RingWatch {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.rings.handle_lost();
            self.0.control.wake_session();
        }
    }
}

/// The result of a ring thread; `Err` if it panicked.
type Ended = thread::Result<Result<(), StartError>>;

/// Stops the ring threads and returns their results.
fn stop_rings(shared: &Shared, rings: Vec<thread::JoinHandle<Result<(), StartError>>>) -> Vec<Ended> {
    for ring in shared.rings.handles() {
        let _ = ring.commands.blocking_send(Command::Stop);
    }
    rings.into_iter().map(thread::JoinHandle::join).collect()
}
