//! Files and memory of one torrent: safe paths, read mappings, the piece arena, the download lock and the sidecar
//! files.
//!
//! Owns every path that is opened for content and every byte of piece memory. Does not know peers. Only the kernel
//! reads the maps of served files (`sendmsg`). User code reads files with `pread`, or hashes them in guarded windows, so
//! that a file truncated by another program causes an error and not a SIGBUS. Only verified pieces are written.
#![allow(unsafe_code, reason = "fence 2: mapped and shared piece memory")]

mod arena;
mod beneath;
mod budget;
mod error;
mod file_locks;
mod kernel;
mod layout;
mod lease;
mod mapping;
mod memory_limit;
mod read_content;
mod share;
mod space;
mod store;
mod target;
mod verified_files;
mod window;

pub use arena::{BlockLease, BufferSpan, BufferSpans, Landed, PieceBuffer, piece_buffers};
pub use error::{Action, StorageError};
pub use kernel::KernelFeature;
pub use layout::{FileState, Layout, Presence};
pub use lease::ReadLease;
pub use memory_limit::{arena_len_default, dirty_len_max, memory_limit};
pub use space::{PromisedSpace, SpaceShortage, WantedFile};
pub use store::{Store, Unsynced, WritePath, WriteStep};
pub use target::{Sidecar, Target, make_folder};
pub use verified_files::OnChange;
pub use window::Windows;
