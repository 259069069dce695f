//! What `seed` and `get` share: options to an engine session, its errors to exit codes, its end to a record.

use super::exit::{Exit, Failure, exit_of};
use super::options::{EngineOptions, NetworkOptions};
use super::records::Transfer;
use crate::codec::metainfo::Metainfo;
use crate::engine::{Config, EngineError, Report, WriteMode};
use crate::storage::StorageError;

pub(super) fn config(network: &NetworkOptions, engine: &EngineOptions, connections_max: usize) -> Config {
    Config {
        listen: network.listen,
        ring_count: engine.rings,
        arena_len: engine.arena_len,
        slots: engine.slots,
        connections_max,
        peers: network.peers.clone(),
        announce_ip: network.announce_ip.clone(),
        write_mode: WriteMode::default(),
        keep_seeding: true,
        timeout: None,
    }
}

/// The torrent's trackers and those of the command line, each of these a tier of its own.
pub(super) fn tiers(metainfo: &Metainfo, network: &NetworkOptions) -> Vec<Vec<String>> {
    metainfo.tiers.iter().cloned().chain(network.announce.iter().map(|url| vec![url.clone()])).collect()
}

pub(super) fn transfer(report: &Report) -> Transfer {
    Transfer {
        downloaded: report.totals.downloaded,
        uploaded: report.totals.uploaded,
        wasted: report.totals.wasted,
        corrupt: report.totals.corrupt,
        latency_p50_us: report.latency.p50_us,
        latency_p99_us: report.latency.p99_us,
        latency_p999_us: report.latency.p999_us,
        cpu_user_s: report.usage.user.as_secs_f64(),
        cpu_system_s: report.usage.system.as_secs_f64(),
        memory_peak: report.usage.memory_peak,
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Storage(error) => error.into(),
            EngineError::NoPeers(_) => Self::new(Exit::NoPeers, error),
            _ => Self::new(Exit::Failed, error),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::new(exit_of(&error.source), error)
    }
}
