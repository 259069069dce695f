//! A session from start to end: opens what it needs, starts the threads, waits, and says what came of it.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;

use tokio::sync::{Notify, mpsc};

use super::config::{Config, EngineError, Latency, Report, Snapshot, Source, WriteMode};
use super::control::{self, Outcome};
use super::listen::listen;
use super::ring::{self, Inbox};
use super::shared::{Command, RingHandle, Shared};
use super::torrent::Torrent;
use super::usage::Usage;
use crate::base::{PeerId, Rng, limits};
use crate::codec::metainfo::Metainfo;
use crate::hash::Pool;
use crate::storage::{Layout, Slot, StorageError, Store, slots};
use crate::uring::{RingError, probe, run_ring};

/// Runs the torrents until all are complete (unless `keep_seeding`), or `stop` is set, or a fault ends it.
///
/// `observer` is called a few times a second.
pub fn run(
    config: &Config,
    sources: Vec<Source>,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> Result<Report, EngineError> {
    probe()?;
    raise_descriptor_limit();
    let listeners = listen(config.listen, config.ring_count)?;
    let first = listeners.first().and_then(|listener| listener.local_addr().ok());
    let mut torrents = HashMap::new();
    let mut tiers = Vec::new();
    for source in sources {
        let (torrent, its_tiers) = prepare(source, config)?;
        torrents.insert(torrent.info_hash, torrent.clone());
        tiers.push((torrent, its_tiers));
    }
    let shared = Arc::new(Shared::new(
        PeerId::generate(&mut Rng::new()),
        torrents,
        Pool::new(thread::available_parallelism().map_or(1, usize::from)).map_err(EngineError::Threads)?,
        first.map_or(0, |address| address.port()),
        config.listen.filter(|address| !address.ip().is_unspecified()).map(|address| SocketAddr::new(address.ip(), 0)),
        config.connections_max,
    ));
    let rings = start_rings(&shared, listeners)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Threads)?;
    let outcome = runtime.block_on(control::run(&shared, config, tiers, stop, observer));
    // A tracker that hangs is left behind.
    runtime.shutdown_background();
    stop_rings(&shared, rings);
    conclude(&shared, config, outcome)
}

fn conclude(shared: &Shared, config: &Config, outcome: Outcome) -> Result<Report, EngineError> {
    if outcome == Outcome::NoPeers {
        let seconds = config.timeout.unwrap_or_default().as_secs();
        return Err(EngineError::NoPeers(format!("nobody was connected for {seconds} s")));
    }
    if outcome == Outcome::AllBanned {
        return Err(EngineError::NoPeers("all that are known were banned for sending wrong data".into()));
    }
    if let Some(fault) = shared.torrents.values().find_map(|torrent| torrent.fault.get()) {
        let StorageError { action, path, source } = fault;
        let source = source
            .raw_os_error()
            .map_or_else(|| std::io::Error::new(source.kind(), source.to_string()), std::io::Error::from_raw_os_error);
        return Err(StorageError::new(*action, path, source).into());
    }
    let latency = shared.latency();
    let at = |quantile| latency.value_at_quantile(quantile);
    Ok(Report {
        totals: control::snapshot(shared.torrents.values().map(|torrent| &**torrent)),
        elapsed: shared.now(),
        latency: Latency { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) },
        complete: shared.torrents.values().all(|torrent| torrent.swarm.pieces.is_complete()),
        usage: Usage::of_this_process(),
    })
}

fn prepare(source: Source, config: &Config) -> Result<(Arc<Torrent>, Vec<Vec<String>>), EngineError> {
    let Source { metainfo, folder, have, trusted, writable, tiers } = source;
    let info = &metainfo.info;
    let layout = Layout::open(&folder, info.files.iter().map(|file| file.path.clone()))?;
    let pads = info.files.iter().map(|file| file.pad).collect();
    let store = Store::new(layout, info.geometry.clone(), pads)?;
    if writable {
        store.create_files()?;
    }
    let slots = if have.is_full() { Vec::new() } else { arena(&metainfo, config.arena_len)? };
    // What will be seeded is read again soon: it belongs into the page cache.
    let write_mode = match config.write_mode {
        WriteMode::Auto if config.keep_seeding => WriteMode::Buffered,
        chosen => chosen,
    };
    Ok((Arc::new(Torrent::new(metainfo, store, (&have, trusted), slots, write_mode)), tiers))
}

/// As many slots as the arena holds, at least two, at most one for each piece.
fn arena(metainfo: &Metainfo, arena_len: u64) -> Result<Vec<Slot>, EngineError> {
    let geometry = &metainfo.info.geometry;
    let longest = u64::from(geometry.piece_len()).min(geometry.total_len());
    let slot_len = u32::try_from(longest).unwrap_or(u32::MAX);
    let fitting = arena_len / longest.max(1);
    let slot_count = fitting.clamp(2, u64::from(limits::OPEN_PIECES_MAX)).min(u64::from(geometry.piece_count()));
    slots(slot_len, u32::try_from(slot_count).unwrap_or(2)).map_err(EngineError::Arena)
}

/// Thousands of connections need thousands of descriptors: as many as the user may have.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Commands that may wait for a ring thread.
const COMMANDS_MAX: usize = 1024;

fn start_rings(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
) -> Result<Vec<thread::JoinHandle<Result<(), RingError>>>, EngineError> {
    let cpu_count = thread::available_parallelism().map_or(1, usize::from);
    let (mut handles, mut inboxes) = (Vec::new(), Vec::new());
    for listener in listeners {
        let (commands, commands_out) = mpsc::channel(COMMANDS_MAX);
        let (verified, verified_out) = mpsc::channel(limits::OPEN_PIECES_MAX as usize);
        let (news, ready) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        handles.push(RingHandle { commands, verified, news: news.clone(), ready: ready.clone() });
        inboxes.push(Inbox { listener: Some(listener), commands: commands_out, verified: verified_out, news, ready });
    }
    let _ = shared.rings.set(handles.into());
    let (started, wait) = std_mpsc::channel();
    let mut threads = Vec::new();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (shared, started) = (shared.clone(), started.clone());
        let body = move || {
            run_ring(Some(index % cpu_count), || {
                let _ = started.send(());
                ring::run(index, shared, inbox)
            })
        };
        threads.push(thread::Builder::new().name(format!("ring-{index}")).spawn(body).map_err(EngineError::Threads)?);
    }
    drop(started);
    // Each thread either says that its ring runs, or ends with the reason why not.
    if wait.iter().take(threads.len()).count() < threads.len() {
        for ended in threads {
            if ended.is_finished() {
                ended.join().map_err(|_| EngineError::Threads(std::io::Error::other("a ring thread panicked")))??;
            }
        }
        return Err(EngineError::Threads(std::io::Error::other("a ring thread did not start")));
    }
    Ok(threads)
}

fn stop_rings(shared: &Shared, rings: Vec<thread::JoinHandle<Result<(), RingError>>>) {
    for ring in shared.rings() {
        let _ = ring.commands.blocking_send(Command::Stop);
    }
    for ring in rings {
        let _ = ring.join();
    }
}
