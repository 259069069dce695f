//! Interoperability: bt-fast and other clients transfer content in both directions over real sockets.

mod browser;
mod defaults;
mod magnet;
mod metainfo;
mod mixed;
mod origin;
mod trackers;
mod transfer;
