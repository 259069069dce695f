//! `bt-fast get`: sources, peers, selection and resuming.

mod hostile_peers;
mod limits;
mod magnet;
mod partial_pieces;
mod refusing_peers;
mod resume;
mod select;
mod sources;
mod torrent_url;
mod transfer;
