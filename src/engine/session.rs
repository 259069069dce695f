//! Runs a session from start to end: opens files and sockets, starts the threads, waits for the end and builds the
//! report.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;

use tokio::sync::{Notify, mpsc};

use crate::base::limits;
use crate::engine::config::{Changes, Config, Source};
use crate::engine::control::prepare::prepare;
use crate::engine::control::{self, Outcome};
use crate::engine::files::io_threads::FileThreads;
use crate::engine::files::partial_pieces::Stage;
use crate::engine::metrics::monitor::Snapshot;
use crate::engine::metrics::stats::{Latency, Stats, buckets};
use crate::engine::metrics::usage::{Threads, Usage};
use crate::engine::network::listen::{Listen, listen};
use crate::engine::network::utp;
use crate::engine::report::{EngineError, Report};
use crate::engine::ring::{self, Inbox, piece_writer};
use crate::engine::shared::page_cache::PageCache;
use crate::engine::shared::rings::{Command, RingHandle};
use crate::engine::shared::{Endpoint, Shared, Workers};
use crate::engine::torrent::Torrent;
use crate::hash::Pool;
use crate::storage::StorageError;
use crate::uring::{RingError, SocketOptions, probe, run_ring};

/// Runs the torrents until all are complete (unless `keep_seeding`), or `stop` is set, or a fault ends the session.
///
/// `observer` is called a few times a second.
pub fn run(
    config: &Config,
    sources: Vec<Source>,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> Result<Report, EngineError> {
    run_with(config, sources, None, stop, observer)
}

/// Like [`run`], with torrents that are added and removed by `changes`. While that channel is open, the session lasts
/// until `stop` is set.
pub fn run_with(
    config: &Config,
    sources: Vec<Source>,
    changes: Option<Changes>,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> Result<Report, EngineError> {
    probe()?;
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
    let pool = Pool::new(thread::available_parallelism().map_or(1, usize::from)).map_err(EngineError::Threads)?;
    let workers = Workers { pool, files: FileThreads::new().map_err(EngineError::Threads)? };
    let endpoint = Endpoint {
        listen_port: first.map_or(0, |address| address.port()),
        listener_is_handed: matches!(config.listen, Listen::Handed(_)),
        local_address: config.listen.local_address(),
        socket_options,
    };
    let shared = Arc::new(Shared::new(config, torrents, workers, page_cache, endpoint));
    let session = Arc::downgrade(&shared);
    config.contents.handle_started(session);
    if config.preallocate {
        for torrent in shared.torrents().into_iter().filter(|torrent| !torrent.swarm.pieces.is_complete()) {
            let session = Arc::clone(&shared);
            shared.files.spawn(move || piece_writer::preallocate(&session, &torrent));
        }
    }
    let rings = start_rings(&shared, listeners)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Threads)?;
    for socket in utp_sockets {
        runtime.spawn(utp::refuse(socket, config.filter.clone()));
    }
    let (outcome, removed) = runtime.block_on(control::run(&shared, config, tiers, changes, stop, observer));
    // Does not wait for a tracker that hangs.
    runtime.shutdown_background();
    // The usage of ring threads is unknown after they end. After a fault it is not needed, and they stop at once.
    let threads = if outcome == Outcome::Failed { Threads::default() } else { Threads::of_this_process() };
    stop_rings(&shared, rings);
    shared.torrents().iter().for_each(|torrent| save(torrent));
    let report = conclude(&shared, config, outcome, removed, threads);
    // The torrents are dropped after the lock is released: that closes files.
    let torrents = std::mem::take(&mut *config.contents.torrents_mut());
    drop(torrents);
    report
}

/// Makes the final checkpoint: syncs the files, then writes the resume record, or removes it if the torrent is
/// complete.
fn save(torrent: &Torrent) {
    if let Some(checkpoint) = &torrent.content.checkpoint {
        // After a fault, which is already reported, as much as possible is saved.
        if let Err(error) = checkpoint.join_thread() {
            torrent.fail(error);
        }
        let saved = checkpoint.run(&torrent.content.store, true).and_then(|()| match &torrent.swarm.pieces {
            pieces if pieces.is_complete() && !pieces.has_all() => checkpoint.remove_sidecars(),
            _ => Ok(()),
        });
        if let Err(error) = saved {
            torrent.fail(error);
        }
        checkpoint.save_parts(&torrent.swarm, if torrent.has_failed() { Stage::Failed } else { Stage::Ended });
        checkpoint.release();
    }
}

/// Builds the report or the error of a session. `removed` holds the totals of removed torrents.
fn conclude(
    shared: &Shared,
    config: &Config,
    outcome: Outcome,
    removed: Snapshot,
    threads: Threads,
) -> Result<Report, EngineError> {
    let torrents = shared.torrents();
    if let Outcome::NoPeers(Some(hung_up)) = outcome {
        return Err(EngineError::HungUp(hung_up));
    }
    if outcome == Outcome::NoPeers(None) {
        let seconds = config.timeout.unwrap_or_default().as_secs();
        return Err(EngineError::NoPeers(format!("no peer was connected for {seconds} s")));
    }
    if outcome == Outcome::AllBanned {
        let worst = torrents.iter().find_map(|torrent| torrent.peers.failed_pieces().worst());
        let worst = worst.map_or_else(String::new, |(piece, senders)| {
            let peers = if senders == 1 { "1 peer" } else { &format!("{senders} peers") };
            format!("piece {} never verified ({peers} sent wrong data), and ", piece.get())
        });
        return Err(EngineError::NoPeers(format!("{worst}all known peers were banned for sending wrong data")));
    }
    if let Some(fault) = torrents.iter().find_map(|torrent| torrent.fault.get()) {
        let StorageError { action, path, source } = fault;
        let source = source
            .raw_os_error()
            .map_or_else(|| std::io::Error::new(source.kind(), source.to_string()), std::io::Error::from_raw_os_error);
        return Err(StorageError::new(*action, path, source).into());
    }
    if outcome == Outcome::Failed && torrents.is_empty() {
        return Err(EngineError::NothingLeft);
    }
    let mut totals = removed;
    torrents.iter().for_each(|torrent| control::add(&mut totals, torrent));
    Ok(Report {
        totals,
        elapsed: shared.now(),
        complete: torrents.iter().all(|torrent| torrent.swarm.pieces.is_complete()),
        doubtful: torrents.iter().find_map(|torrent| {
            let checkpoint = torrent.content.checkpoint.as_ref()?;
            Some(checkpoint.doubtful(&torrent.content.store, &torrent.swarm.geometry))
        }),
        stats: stats(shared, threads),
        hashed: shared.pool.hashed(),
    })
}

fn stats(shared: &Shared, threads: Threads) -> Stats {
    let counters = &shared.counters;
    let latency = counters.latency();
    Stats {
        usage: Usage::of_this_process(),
        threads,
        memory: counters.sample_memory(),
        latency: Latency::of(&latency),
        latency_buckets: buckets(&latency),
        zero_copied: counters.zero_copied.load(Ordering::Relaxed),
        zero_copy_copied: counters.zero_copy_copied.load(Ordering::Relaxed),
    }
}

/// Raises the descriptor limit to the user's maximum: thousands of connections or file locks need thousands of
/// descriptors.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Commands that may wait for a ring thread.
const COMMANDS_MAX: usize = 1024;

/// Starts a ring thread for each listener. Fails if one does not start.
fn start_rings(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
) -> Result<Vec<thread::JoinHandle<Result<(), RingError>>>, EngineError> {
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
        inboxes.push(Inbox { listener: Some(listener), commands: commands_out, verified: verified_out, news, ready });
    }
    shared.rings.handle_started(handles);
    let (started, wait) = std_mpsc::channel();
    let mut threads = Vec::new();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (shared, started) = (shared.clone(), started.clone());
        let body = move || {
            run_ring(move || {
                let _ = started.send(());
                // The wait for the other threads must not depend on this one.
                drop(started);
                ring::run(index, shared, inbox)
            })
        };
        threads.push(thread::Builder::new().name(format!("ring-{index}")).spawn(body).map_err(EngineError::Threads)?);
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

/// The result of a ring thread; `Err` if it panicked.
type Ended = thread::Result<Result<(), RingError>>;

/// Stops the ring threads and returns their results.
fn stop_rings(shared: &Shared, rings: Vec<thread::JoinHandle<Result<(), RingError>>>) -> Vec<Ended> {
    for ring in shared.rings.handles() {
        let _ = ring.commands.blocking_send(Command::Stop);
    }
    rings.into_iter().map(thread::JoinHandle::join).collect()
}
