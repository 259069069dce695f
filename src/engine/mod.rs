//! Where clock, ring, storage, hash and swarm meet.
//!
//! A session is one listening port, some ring threads, a hash pool, file threads and a control thread, for any number of
//! torrents. Ring threads (`ring`, `conn`) do peer sockets and file writes and nothing else; the control thread (`control`)
//! does trackers, choking, connecting and progress; the hash pool hashes what was received; file threads (`file_threads`) do
//! what else may block on a file system.

pub mod announcer;
mod cache;
mod checkpoint;
mod config;
mod conn;
mod contents;
mod control;
mod doorstep;
mod families;
mod file_threads;
mod greeting;
pub mod http;
mod listen;
pub mod metadata;
pub mod monitor;
mod names;
mod nearness;
mod parts;
mod reader;
mod receiving;
pub mod resume;
mod ring;
mod room;
pub mod scrape;
mod sending;
mod serving;
mod session;
mod shared;
pub mod shortage;
mod stats;
mod steered;
mod survey;
mod suspicion;
mod torrent;
mod touched;
pub mod udp;
mod usage;
mod utp;
pub mod way;
mod writeback;

pub use crate::storage::arena_len_default;
pub use cache::CacheMode;
pub use config::{
    Change, Changes, Config, EngineError, HungUp, Identity, Latency, Listen, Provenance, RateLimits, Report, Snapshot,
    Source, WriteMode,
};
pub use contents::Contents;
pub use listen::ListenError;
pub use monitor::Monitor;
pub use nearness::{is_public, own_addresses};
pub use session::{raise_descriptor_limit, run, run_with};
pub use stats::Stats;
pub use survey::{Survey, survey};
pub use usage::{Memory, ThreadUsage, Threads, Usage};
