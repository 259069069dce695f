//! bt-fast and the clients of others move the same content, both ways, through real sockets.

mod browser;
mod defaults;
mod magnet;
mod metainfo;
mod mixed;
mod origin;
mod trackers;
mod transfer;
