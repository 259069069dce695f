//! The vocabulary every layer shares. Imports nothing of ours, reads no clock, opens nothing.

pub mod bitfield;
pub mod cidr;
pub mod escape;
pub mod file_identity;
pub mod geometry;
pub mod host;
pub mod ids;
pub mod limits;
pub mod lock;
pub mod priority;
pub mod timer_table;
pub mod units;

pub use bitfield::Bitfield;
pub use file_identity::{FileIdentity, FileTime};
pub use geometry::{BlockRef, FileSpan, Geometry, PieceIndex};
pub use host::host_of;
pub use ids::{InfoHash, PeerId, PieceHash};
pub use lock::lock;
pub use priority::canonical_priority;
pub use timer_table::TimerTable;

/// Time since an arbitrary start, the same for everything in one process. Layers below the engine take it as an argument.
pub type Time = std::time::Duration;

/// A seeded, reproducible generator; layers below the engine take it as an argument.
pub type Rng = fastrand::Rng;

/// What the variables of the environment begin with that stand for flags.
pub const FLAG_VARIABLES: &str = "BT_FAST_";
