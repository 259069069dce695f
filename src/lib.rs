//! bt-fast: a BitTorrent origin and downloader for Linux.
//!
//! The modules are layers. A module uses only modules above it in this list, which `tests/it/tidy.rs` checks. Only
//! `io`, `storage` and `hash` have unsafe code.

// L0: units, geometry, bitfields, ids, limits, randomness.
pub mod base;

// L1: bytes to values and back: bencode, metainfo, handshake, messages, tracker replies.
pub mod codec;

// L2: the announces of one torrent to its trackers, without I/O or clock.
pub mod announce;
// L2: one peer connection, without I/O or clock.
pub mod peer;
// L2: the swarm table of our own tracker.
pub mod tracker;

// L3: state that all connections of a torrent share: pieces, picker, choker, peer list.
pub mod swarm;

// L4: hashing pieces.
pub mod hash;
// L4: files: safe paths, mappings, the piece arena, verified writes.
pub mod storage;
// L4: the drivers of sockets and files, independent of BitTorrent.
pub mod io;

// L5: creates metainfo from files, and verifies files.
pub mod create;
// L5: sessions: combines clock, rings, storage, hashing and swarm.
pub mod engine;
// L5: HTTP for tracker, pages and metrics.
pub mod web;

// L6: benchmarks.
pub mod bench;
// L6: arguments to options, progress, output, exit codes.
pub mod cli;
