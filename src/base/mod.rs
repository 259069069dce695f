//! The vocabulary that all layers share. Imports no other module of this crate, reads no clock and opens no file.

pub mod bitfield;
pub mod cidr;
pub mod date;
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
pub use priority::canonical_priority;
pub use timer_table::TimerTable;

/// Time since an arbitrary start, which is the same everywhere in one process. Layers below the engine take it as an
/// argument.
pub type Time = std::time::Duration;

/// A seeded, reproducible random number generator. Layers below the engine take it as an argument.
pub type Rng = fastrand::Rng;

/// Prefix of the environment variables that stand for flags.
pub const FLAG_VARIABLES: &str = "BT_FAST_";
