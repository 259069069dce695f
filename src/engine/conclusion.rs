//! The end of a session or of one of its downloads: the final checkpoint, and the report or error.

use std::sync::atomic::Ordering;

use crate::base::units::Count;
use crate::engine::config::Config;
use crate::engine::files::partial_pieces::Stage;
use crate::engine::metrics::monitor::Snapshot;
use crate::engine::metrics::stats::{Latency, Stats, buckets};
use crate::engine::metrics::usage::{Threads, Usage};
use crate::engine::report::{Departure, DownloadEnd, EngineError, HungUp, Report};
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::storage::StorageError;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Outcome {
    Complete,
    Stopped,
    Failed,
    NoPeers(Option<HungUp>),
    /// The event loop of a ring thread has failed.
    RingLost,
}

/// Makes the final checkpoint: syncs the files, then writes the resume record, or removes it if the torrent is
/// complete.
pub(in crate::engine) fn save(torrent: &Torrent) {
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

/// Saves a download that leaves the session, and builds its result. `error` is the reason why an incomplete one leaves;
/// `None` if the session was stopped. May take a long time.
pub(in crate::engine) fn depart(
    shared: &Shared,
    torrent: &Torrent,
    error: Option<EngineError>,
    threads: Threads,
) -> Departure {
    save(torrent);
    let is_complete = torrent.swarm.pieces.is_complete();
    let error = fault(torrent).or(error.filter(|_| !is_complete));
    let mut totals = Snapshot::default();
    torrent.add_totals(&mut totals);
    let checkpoint = torrent.content.checkpoint.as_ref();
    let end = DownloadEnd {
        complete: is_complete,
        doubtful: checkpoint.map(|checkpoint| checkpoint.doubtful(&torrent.content.store, &torrent.swarm.geometry)),
        report: report(shared, totals, threads),
    };
    Departure { info_hash: torrent.info_hash, result: error.map_or(Ok(end), Err) }
}

/// Builds the report of a session, or its error if a torrent has failed. `removed` holds the totals of removed
/// torrents.
pub(in crate::engine) fn conclude(
    shared: &Shared,
    outcome: Outcome,
    removed: Snapshot,
    threads: Threads,
) -> Result<Report, EngineError> {
    let torrents = shared.torrents();
    if let Some(fault) = torrents.iter().find_map(|torrent| fault(torrent)) {
        return Err(fault);
    }
    if outcome == Outcome::RingLost {
        let error = "the event loop of an I/O thread failed: run the same command again";
        return Err(EngineError::Threads(std::io::Error::other(error)));
    }
    if outcome == Outcome::Failed && torrents.is_empty() {
        return Err(EngineError::NothingLeft);
    }
    let mut totals = removed;
    torrents.iter().for_each(|torrent| torrent.add_totals(&mut totals));
    Ok(report(shared, totals, threads))
}

fn report(shared: &Shared, totals: Snapshot, threads: Threads) -> Report {
    Report { totals, elapsed: shared.now(), stats: stats(shared, threads), hashed: shared.pool.hashed() }
}

fn stats(shared: &Shared, threads: Threads) -> Stats {
    let counters = &shared.counters;
    let latency = counters.latency();
    Stats {
        driver: shared.files.driver(),
        usage: Usage::of_this_process(),
        threads,
        memory: counters.sample_memory(),
        latency: Latency::of(&latency),
        latency_buckets: buckets(&latency),
        zero_copied: counters.zero_copied.load(Ordering::Relaxed),
        zero_copy_copied: counters.zero_copy_copied.load(Ordering::Relaxed),
    }
}

/// Returns the reason why a session ends whose downloads find no peers; `None` if it ends for another reason.
pub(in crate::engine) fn no_peers(outcome: Outcome, config: &Config) -> Option<EngineError> {
    let Outcome::NoPeers(hung_up) = outcome else { return None };
    let seconds = config.timeout.unwrap_or_default().as_secs_f64();
    let timeout = || EngineError::NoPeers(format!("no peer was connected for {seconds} s"));
    Some(hung_up.map_or_else(timeout, EngineError::HungUp))
}

/// Returns the reason why a download leaves that knows only banned peers.
pub(in crate::engine) fn all_banned(torrent: &Torrent) -> EngineError {
    let worst = torrent.peers.failed_pieces().worst().map_or_else(String::new, |(piece, senders)| {
        let peers = Count(senders as u64, "peer");
        format!("piece {} never verified ({peers} sent wrong data), and ", piece.get())
    });
    EngineError::NoPeers(format!("{worst}all known peers were banned for sending wrong data"))
}

/// Returns a copy of the fault that has stopped the torrent.
fn fault(torrent: &Torrent) -> Option<EngineError> {
    let StorageError { action, path, source } = torrent.fault.get()?;
    let source = source
        .raw_os_error()
        .map_or_else(|| std::io::Error::new(source.kind(), source.to_string()), std::io::Error::from_raw_os_error);
    Some(StorageError::new(*action, path, source).into())
}
