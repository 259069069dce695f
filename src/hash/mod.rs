//! SHA-1 and SHA-256 over content, many pieces at once. Takes bytes and returns hashes; does not know files or
//! torrents.

mod kernels;
mod message;
mod piece;
mod pool;

pub use kernels::{Kernel, Plan, Unavailable, UnknownKernel, choose, chosen};
pub use piece::{PieceHasher, Sha256Hash, sha1, sha1_batch, sha1_batch_with, sha256_batch, sha256_batch_with};
pub use pool::{Hashed, Job, Pool};
