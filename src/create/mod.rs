//! Creates metainfo from files, and verifies files against metainfo.
//!
//! Owns the walk over the content, the filters, the piece-length rule, the hashing pipeline, the atomic write of the
//! `.torrent` and the cache of successful checks. Prints nothing and reads no clock: the caller passes the creation
//! date, and uses `Control` to follow the progress and to cancel the work.

pub mod error;
pub mod extra;
mod files;
pub mod filters;
pub mod fingerprint;
pub mod foreign;
pub mod hash_journal;
pub mod observation;
pub mod open;
pub mod piece_len;
mod pieces;
pub mod plan;
mod race;
mod read_ahead;
pub mod scan;
pub mod stream;
mod sweep;
pub mod verified_cache;
pub mod verify;
mod worker;
pub mod write;

pub use error::{ContentError, CreateError};
pub use extra::{ExtraFiles, extra_files};
pub use filters::Filters;
pub use fingerprint::Fingerprint;
pub use hash_journal::HashJournal;
pub use observation::Observation;
pub use plan::{Created, Plan, Settings};
pub use stream::create_from_stream;
pub use sweep::Control;
pub use verify::{FileProblem, Problem, Report, observe, verify, verify_with};
pub use write::write_atomically;
