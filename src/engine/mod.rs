//! Runs sessions: connects the clock, the rings, storage, hashing and the swarm.
//!
//! A session is one listening port, some ring threads, a hash pool, file threads and a control thread, for any number
//! of torrents. Ring threads (`ring`) do peer sockets and file writes and nothing else; the control thread (`control`)
//! does trackers, choking, connecting and progress; the hash pool hashes received pieces; file threads
//! (`files::io_threads`) do all other work that may block on a file system.
//!
//! The session runs in `ring` and `control`. Their shared state is in `shared` and `torrent`, which use `files`,
//! `trackers`, `network` and `metrics`. `magnet` fetches an info dictionary before a session exists or beside one.

mod changes;
mod conclusion;
mod config;
mod contents;
mod control;
pub mod files;
mod host_counter;
mod host_summary;
pub mod magnet;
pub mod metrics;
pub mod network;
mod piece;
mod report;
mod ring;
mod session;
mod shared;
mod torrent;
pub mod trackers;

pub use crate::storage::arena_len_default;
pub use crate::swarm::{Holding, HostCounts, Sighting};
pub use changes::{Change, ChangeSender, Changes, Channels, Made, change_channel};
pub use config::{CacheMode, Config, Identity, Provenance, RateLimits, Source, StreamLimit, StreamOpening};
pub use contents::{CompletedHost, Contents};
pub use files::content::{LossReports, Timeliness};
pub use files::presence::{FilePresence, file_presence};
pub use files::writeback::WriteMode;
pub use host_summary::HostSummary;
pub use metrics::monitor::{Monitor, Snapshot};
pub use metrics::stats::{Latency, Stats};
pub use metrics::usage::{Memory, ThreadUsage, Threads, Usage};
pub use network::listen::{Listen, ListenError, listen_remedy};
pub use network::nearness::own_addresses;
pub use report::{Departure, Departures, DownloadEnd, EngineError, HungUp, Report};
pub use session::run;
