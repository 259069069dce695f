//! Conversions that `seed` and `get` share: from options to an engine configuration, from engine errors to exit codes,
//! and from the session's report to a record.

use std::sync::Arc;

use tracing::info;

use super::exit::{Exit, Failure, exit_of};
use super::options::{EngineOptions, NetworkOptions, ServingOptions};
use super::output::Output;
use super::records::{ThreadKind, ThreadKinds, Transfer};
use crate::base::Rng;
use crate::engine::{Config, EngineError, Identity, Listen, RateLimits, Report, Stats, ThreadUsage, WriteMode};
use crate::io::StartError;
use crate::storage::StorageError;

pub(super) fn config(
    network: &NetworkOptions,
    engine: &EngineOptions,
    serving: ServingOptions,
    connections_max: usize,
) -> Config {
    Config {
        identity: Identity::generate(&mut Rng::new()),
        listen: network.listen.map_or(Listen::FirstFree, Listen::At),
        ring_count: engine.rings,
        streams: engine.streams,
        arena_len: engine.arena_len,
        slots: engine.slots,
        connections_max: network.connections_max.unwrap_or(connections_max),
        // `seed` accepts all peers even if it lacks some pieces.
        leeching_max: usize::MAX,
        peers: network.peers.clone(),
        announce_ip: network.announce_ip.clone(),
        users_trackers: network.announce.clone().into(),
        filter: network.filter.clone(),
        device: network.device,
        dscp: network.dscp,
        write_mode: WriteMode::default(),
        cache_mode: serving.cache_mode,
        driver: engine.io.driver,
        zero_copy: serving.zero_copy,
        preallocate: false,
        keep_seeding: true,
        timeout: None,
        sequential: false,
        super_seed: false,
        rates: RateLimits::default(),
        monitor: None,
        contents: Arc::default(),
    }
}

/// Names the driver with `-v`, and says why the ring is not used if the user left the choice to us.
pub(super) fn note_driver(engine: &EngineOptions, output: &Output) {
    info!("driver: {}", engine.io.driver.name());
    let refusal = engine.io.refusal.iter();
    refusal
        .for_each(|refusal| output.message(format_args!("using epoll (--io plain), which may be slower: {refusal}")));
}

/// Returns the torrent's tiers of trackers, except with `--announce-only`, and a tier for each `--announce`.
pub(super) fn tiers(own: &[Vec<String>], network: &NetworkOptions) -> Vec<Vec<String>> {
    let own = if network.announce_only { &[] } else { own };
    own.iter().cloned().chain(network.announce.iter().map(|url| vec![url.clone()])).collect()
}

pub(super) fn transfer(report: &Report) -> Transfer {
    let Stats { driver, usage, threads, memory, latency, latency_buckets, zero_copied, zero_copy_copied } =
        &report.stats;
    Transfer {
        io: driver.name(),
        downloaded: report.totals.downloaded,
        uploaded: report.totals.uploaded,
        wasted: report.totals.wasted,
        corrupt: report.totals.corrupt,
        latency_p50_us: latency.p50_us,
        latency_p99_us: latency.p99_us,
        latency_p999_us: latency.p999_us,
        cpu_user_s: usage.user.as_secs_f64(),
        cpu_system_s: usage.system.as_secs_f64(),
        memory_peak: memory.peak,
        memory_anon_peak: memory.anon,
        memory_file_peak: memory.file,
        minor_faults: usage.minor_faults,
        major_faults: usage.major_faults,
        threads: ThreadKinds {
            ring: thread_kind(threads.ring),
            hash: thread_kind(threads.hash),
            kernel: thread_kind(threads.kernel),
            other: thread_kind(threads.other),
        },
        hash_batch_mean: report.hashed.batch_mean(),
        zero_copied: *zero_copied,
        zero_copy_copied: *zero_copy_copied,
        latency_buckets: latency_buckets.clone(),
    }
}

fn thread_kind(usage: ThreadUsage) -> ThreadKind {
    ThreadKind {
        cpu_user_s: usage.user.as_secs_f64(),
        cpu_system_s: usage.system.as_secs_f64(),
        major_faults: usage.major_faults,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Storage(error) => error.into(),
            EngineError::NoPeers(_) | EngineError::HungUp(_) => Self::new(Exit::NoPeers, error),
            _ => Self::new(Exit::Failed, error),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::new(exit_of(&error.source), error)
    }
}
