//! bt-fast: a BitTorrent origin and downloader for Linux.
//!
//! The modules are layers; a module uses only what stands above it in this list. `tests/it/tidy.rs` checks it.
//! Unsafe code lives in `uring`, `storage` and `hash` alone.

// L0: units, geometry, bitfields, ids, limits, randomness.
pub mod base;

// L1: bytes to values and back: bencode, metainfo, handshake, messages, tracker replies.
pub mod codec;

// L2: one torrent's talk with its trackers, without I/O or clock.
pub mod announce;
// L2: one peer connection, without I/O or clock.
pub mod peer;
// L2: the swarm table that our own tracker answers from.
pub mod tracker;

// L3: what all connections of a torrent share: pieces, picker, choker, peer list.
pub mod swarm;

// L4: hashing pieces.
pub mod hash;
// L4: files: safe paths, mappings, the piece arena, verified writes.
pub mod storage;
// L4: io_uring: the runtime and every operation on it. Knows no BitTorrent.
pub mod uring;

// L5: files to metainfo.
pub mod create;
// L5: where clock, ring, storage, hash and swarm meet.
pub mod engine;
// L5: control-plane HTTP.
pub mod web;

// L6: the measuring commands.
pub mod bench;
// L6: arguments to options, progress, output, exit codes.
pub mod cli;
