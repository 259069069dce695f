//! Conversion of bytes to values and back, for every format of BEP 3 and its extensions that this program reads or
//! writes.
//!
//! Owns syntax, lengths and bounds. Does not own meaning over time (connections, torrents, schedules), files or
//! sockets. All input is hostile: no code here indexes it, recurses over it or allocates by a number that it claims.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod bencode;
pub mod extension;
pub mod handshake;
pub mod magnet;
pub mod message;
pub mod metadata;
pub mod metainfo;
pub mod parts;
pub mod percent;
pub mod reader;
pub mod resume;
pub mod tracker_http;
pub mod tracker_udp;
pub mod url;
pub mod utp;
